"""What the console shows of methods: the OpenRPC document, and what that has no words for."""

from collections import defaultdict
from typing import Any

from gateway.config import Config
from gateway.config.access import Access
from gateway.config.described import callers
from gateway.methods import Method
from gateway.methods.introspection import Shown, describe, signatures_of, type_name
from gateway.model.explained import EXPLAINED
from gateway.model.faults import CATALOGUE


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

    def view(self) -> dict[str, Any]:
        """Return all of it."""
        found = list(self._shown.methods())
        names = defaultdict[int, list[str]](list)
        for name, method in found:
            names[id(method)] += (name, *self._shown.behind(name))
        int_texts = self._config.jsonrpc.int64 == "text"
        return {
            "urls": self._urls,
            "callers": callers(self._config),
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
            "callers": who_may_call(self._config.access, names),
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
