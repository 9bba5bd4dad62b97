"""What the console shows of methods: the OpenRPC document, and what that has no words for."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

from gateway.config import Config
from gateway.config.access import Access
from gateway.config.described import callers
from gateway.endpoints.console import encoded
from gateway.methods import Method
from gateway.methods.introspection import Shown, describe, signatures_of, type_name
from gateway.model.explained import EXPLAINED
from gateway.model.faults import CATALOGUE

_MOST_KEPT = 16


class Catalogue:
    """The methods of a gateway.

    Arguments:
        shown: the methods, as callers are shown them.
        config: what is in force.
        urls: where calls are POSTed to.
        protocols: the names of those that are spoken.

    """

    def __init__(self, shown: Shown, config: Config, urls: tuple[str, ...], protocols: tuple[str, ...]) -> None:
        self._shown = shown
        self._config = config
        self._urls = urls
        self._protocols = protocols
        self._kept: OrderedDict[tuple[tuple[str, int], ...], tuple[list[tuple[str, Method]], str]] = OrderedDict()

    def view(self) -> dict[str, Any]:
        """Return all of it."""
        found, names = self._named()
        shown = self._of(found, names)
        shown["callers"] = callers(self._config)
        for name, method in found:
            shown["methods"][name]["callers"] = who_may_call(self._config.access, names[id(method)])
        return shown

    def permitted(self, permits: Callable[[list[str]], bool]) -> str:
        """Return, in JSON, what a caller may call, given what tells whether it may call a method of these names.

        What is told is kept, because there are few kinds of callers, and to describe methods takes long.
        """
        everything, names = self._named()
        allowed = {method: permits(own) for method, own in names.items()}
        found = [(name, method) for name, method in everything if allowed[id(method)]]
        key = tuple((name, id(method)) for name, method in found)
        kept = self._kept.pop(key, None)
        if kept is None:
            shown = self._of(found, names) | {"public": True}
            for about in shown["methods"].values():
                about["place"] = ""
            kept = found, encoded(shown)
        self._kept[key] = kept
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return kept[1]

    def _named(self) -> tuple[list[tuple[str, Method]], dict[int, list[str]]]:
        """Return the methods, and of each all names that must be permitted."""
        found = list(self._shown.methods())
        names = defaultdict[int, list[str]](list)
        for name, method in found:
            names[id(method)] += (name, *self._shown.behind(name))
        return found, names

    def _of(self, found: list[tuple[str, Method]], names: dict[int, list[str]]) -> dict[str, Any]:
        int_texts = self._config.jsonrpc.int64 == "text"
        return {
            "urls": self._urls,
            "keys": bool(self._config.access.keys or self._config.access.authenticate),
            "openrpc": describe(found, "", "", int_texts=int_texts),
            "methods": {name: self._beyond(name, method, names[id(method)]) for name, method in found},
            "faults": [
                {"code": row.code, "title": row.title, **EXPLAINED[kind]._asdict()} for kind, row in CATALOGUE.items()
            ],
        }

    def _beyond(self, name: str, method: Method, names: list[str]) -> dict[str, Any]:
        """Say of a method what OpenRPC does not."""
        options = method.options
        return {
            "doc": method.doc,
            "signatures": signatures_of(method),
            "types": {param.name: type_name(param.hint) for param in method.params},
            "upstream": None if method.published is None else method.place.partition(" ")[0].partition(".")[2],
            "place": method.place,
            "run": method.run,
            "timeout": options.timeout or self._config.limits.timeout,
            "concurrency": options.concurrency,
            "deprecated": options.deprecated,
            "protocols": [each for each in self._protocols if options.is_for(each)],
            "others": [other for other in names if other != name],
            "rest": method.rest is not None,
            "keywords": method.others is not None,
        }


def who_may_call(access: Access, names: list[str]) -> list[str]:
    """Say who may call a method that has these names, a line for each rule that decides; none where no rule does."""
    numbers = {
        next((number for number, rule in enumerate(access.rules) if rule.concerns(name)), None) for name in names
    }
    lines = []
    for number in sorted(found for found in numbers if found is not None):
        rule = access.rules[number]
        conditions = (("networks", rule.networks), ("keys", rule.keys), ("certificates", rule.certificates))
        said = [
            f"{what} {', '.join(map(str, allowed)) or 'none'}" for what, allowed in conditions if allowed is not None
        ]
        lines.append(f"{'; '.join(said) or 'no condition'} (access.rules[{number}])")
    return lines
