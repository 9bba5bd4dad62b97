"""The methods that are tools: what an agent is told of them, and what a call of one means.

    toolbox.listed(caller)       the JSON of the tools that a caller may call
    toolbox.find(name, caller)   a Tool; None where there is none, or the caller may not call it
    tool.params(arguments)       the parameters of the call; InvalidParams

What is told is that of ``rpc.discover``, for methods of the gateway's own and of upstreams. A method is one tool, under
the first of its names that is offered.
"""

import asyncio
import math
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any

import msgspec
from msgspec import Struct

from gateway.codecs.contract import Turns
from gateway.config.mcp import MCPSection
from gateway.endpoints.batches import in_turns
from gateway.endpoints.mcp.dates import mark
from gateway.endpoints.mcp.names import property_names, tool_names
from gateway.endpoints.mcp.schemas import Inliner, Schema, cleaned, takes_only_containers
from gateway.methods import Method
from gateway.methods.introspection import Shown, describe
from gateway.model.calls import Caller, Params
from gateway.model.faults import InvalidParams

PROTOCOL = "mcp"

_LONGEST_TEXT = 1024  # characters; APIs of models refuse longer descriptions
_LOOK = 1.0  # seconds; with versions it takes a while
_MOST_LISTS = 16  # kept at once: callers differ by what they may call, and there are few kinds of them
_DEEPEST = 64  # levels of a text that is read as JSON
_FREE = "a list of arguments by position, or an object of arguments by name"


class Tool(Struct, frozen=True, kw_only=True):
    """A method as an agent sees it.

    Attributes:
        name: the tool's.
        method: the method's.
        names: all that must be permitted to whoever calls it.
        wire: what is told of it, as JSON.
        properties: the names of its arguments, in order, with those that the method has for them.
        containers: those of them that are objects or arrays in any case.
        by_position: whether the method takes its arguments by position.
        rest: the argument that has all further ones in an array; None without one.
        is_free: whether the one argument is all parameters, by position or by name.

    """

    name: str
    method: str
    names: tuple[str, ...]
    wire: bytes
    properties: dict[str, str]
    containers: frozenset[str]
    by_position: bool
    rest: str | None
    is_free: bool

    def params(self, arguments: dict[str, Any]) -> Params:
        """Make the parameters of a call of an agent's arguments.

        Raises:
            InvalidParams: they do not fit; the detail names the place. The method's own types are not asked here.

        """
        given = {name: _read(value) if name in self.containers else value for name, value in arguments.items()}
        if self.is_free:
            (name,) = self.properties
            if given.keys() <= {name} and type(given.get(name, [])) in (list, dict):
                params: Params = given.get(name, [])
                return params
            raise InvalidParams(f"params.{name}: expected {_FREE}, and nothing beside it")
        if not self.by_position:
            return {self.properties.get(name, name): value for name, value in given.items()}
        return self._in_order(given)

    def _in_order(self, given: dict[str, Any]) -> list[Any]:
        unknown = next((name for name in given if name not in self.properties), None)
        if unknown is not None:
            raise InvalidParams(f"params.{unknown[:80]}: there is no such parameter")
        rest = given.pop(self.rest, []) if self.rest is not None else []
        if type(rest) is not list:
            raise InvalidParams(f"params.{self.rest}: expected a list")
        names = [name for name in self.properties if name != self.rest]
        last = len(names) if rest else max((place for place, name in enumerate(names, 1) if name in given), default=0)
        missing = next((name for name in names[:last] if name not in given), None)
        if missing is not None:
            raise InvalidParams(f"params.{missing}: missing")
        return [*(given[name] for name in names[:last]), *rest]


def _read(value: Any) -> Any:
    """Read a text where an object or an array belongs: models write them as texts of JSON."""
    if type(value) is not str:
        return value
    try:
        read = msgspec.json.decode(value)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return value
    return read if type(read) in (dict, list) and _depth(read) <= _DEEPEST else value


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level and depth <= _DEEPEST:
        depth += 1
        level = [
            part
            for each in level
            for part in (each.values() if type(each) is dict else each)
            if type(part) in (dict, list)
        ]
    return depth


class Toolbox:
    """The tools of a gateway, which are made again when its methods have changed.

    Arguments:
        shown: the methods, as callers are shown them.
        section: which of them are tools.
        permits: whether a caller may call a method that has these names; None where everybody may call everything.
        int_texts: whether ints beyond 53 bits are texts.
        now: seconds of a clock; once in a second it is looked whether the methods have changed.

    Attributes:
        tools: all of them by their names, in the order of these, as of the last look.

    """

    def __init__(
        self,
        shown: Shown,
        section: MCPSection,
        permits: Callable[[Iterable[str], Caller], bool] | None,
        *,
        int_texts: bool,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tools: dict[str, Tool] = {}
        self._shown = shown
        self._section = section
        self._permits = permits
        self._int_texts = int_texts
        self._now = now
        self._looked = -math.inf
        self._looking = asyncio.Lock()
        self._methods: list[tuple[str, Method]] = []
        self._kept: dict[tuple[str, str], tuple[Method, tuple[str, ...], Tool]] = {}
        self._lists: OrderedDict[tuple[str, ...], bytes] = OrderedDict()

    async def look(self) -> None:
        """See whether the methods have changed, and make the tools again then, in turns with others."""
        async with self._looking:
            now = self._now()
            if now - self._looked < _LOOK:
                return
            methods = list(self._shown.methods(PROTOCOL))
            if methods != self._methods:
                self.tools = await in_turns(self._made(methods))
                self._methods = methods
                self._lists.clear()
            self._looked = now

    def find(self, name: str, caller: Caller) -> Tool | None:
        """Return the tool of a name, if the caller may call it."""
        tool = self.tools.get(name)
        return tool if tool is not None and self._is_permitted(tool, caller) else None

    def listed(self, caller: Caller) -> bytes:
        """Return the JSON array of the tools that a caller may call."""
        shown = tuple(name for name, tool in self.tools.items() if self._is_permitted(tool, caller))
        kept = self._lists.pop(shown, None)
        if kept is None:
            kept = b"[%b]" % b",".join([self.tools[name].wire for name in shown])
        self._lists[shown] = kept
        if len(self._lists) > _MOST_LISTS:
            self._lists.popitem(last=False)
        return kept

    def _is_permitted(self, tool: Tool, caller: Caller) -> bool:
        return self._permits is None or self._permits(tool.names, caller)

    def _made(self, methods: list[tuple[str, Method]]) -> Turns[dict[str, Tool]]:
        """Make the tools, but those that are there already; each takes about a millisecond."""
        offered, names = self._offered(methods)
        made: dict[tuple[str, str], tuple[Method, tuple[str, ...], Tool]] = {}
        for key in sorted(tool_names(offered).items()):
            found = offered[key[1]]
            own = tuple(names[id(found)])
            kept = self._kept.get(key)
            if kept is None or kept[0] is not found or kept[1] != own:
                kept = found, own, self._tool(*key, found, own)
                yield
            made[key] = kept
        self._kept = made
        return {tool.name: tool for _, _, tool in made.values()}

    def _offered(self, methods: list[tuple[str, Method]]) -> tuple[dict[str, Method], dict[int, list[str]]]:
        """Return the methods that are tools, and the names that each method has.

        A pattern of names that an upstream passes on is no tool.
        """
        names: defaultdict[int, list[str]] = defaultdict(list)
        for name, found in self._shown.methods():
            names[id(found)] += (name, *self._shown.behind(name))
        offered: dict[str, Method] = {}
        seen = set[int]()
        for name, found in methods:
            is_pattern = "*" in name or "?" in name
            if id(found) in seen or is_pattern or not _fits(name, self._section.expose):
                continue
            if not any(_fits(each, self._section.hide) for each in names[id(found)]):
                seen.add(id(found))
                offered[name] = found
        return offered, names

    def _tool(self, name: str, method: str, found: Method, names: tuple[str, ...]) -> Tool:
        document = describe([(method, found)], "", "", int_texts=self._int_texts)
        (described,), components = document["methods"], document["components"]
        inliner = Inliner(components)
        is_own = found.published is None or found.published.openrpc is None
        for param in (*found.params, *([found.rest] if found.rest is not None else [])) if is_own else ():
            for said in described["params"]:
                if said["name"] == param.name:
                    mark(param.hint, said["schema"], components["schemas"])
        params = [each for each in map(inliner.resolved, described["params"]) if type(each) is dict]
        properties = property_names(str(each.get("name", "")) for each in params)
        schemas = [_property(each, inliner) for each in params]
        by_position = described.get("paramStructure") == "by-position"
        rest = properties[-1] if is_own and by_position and found.rest is not None else None
        is_free = rest is not None and len(params) == 1 and found.others is not None
        if is_free:
            schemas[-1] = {"anyOf": [{"type": "array", "items": {}}, {"type": "object"}], "description": _FREE}
        elif rest is not None:
            schemas[-1] = {"type": "array", "items": {n: v for n, v in schemas[-1].items() if n != "description"}} | {
                "description": "any number of further arguments"
            }
        needed = [each for each, param in zip(properties, params, strict=True) if param.get("required") is True]
        schema: Schema = {"type": "object", "properties": dict(zip(properties, schemas, strict=True))}
        schema |= {"required": needed} if needed else {}
        schema["additionalProperties"] = is_own and found.others is not None and not by_position
        told = {"name": name, "title": cleaned(method, 200), **self._told(names, found, described)}
        return Tool(
            name=name,
            method=method,
            names=names,
            wire=msgspec.json.encode(told | {"inputSchema": schema}),
            properties={each: str(param.get("name", "")) for each, param in zip(properties, params, strict=True)},
            containers=frozenset(
                each for each, part in zip(properties, schemas, strict=True) if takes_only_containers(part)
            ),
            by_position=by_position,
            rest=rest,
            is_free=is_free,
        )

    def _told(self, names: Iterable[str], found: Method, described: Any) -> dict[str, Any]:
        """Return what is told of a tool beside its schema; what there is nothing to tell of is left out."""
        texts = [text for text in map(described.get, ("summary", "description")) if type(text) is str]
        text = cleaned("\n\n".join(texts), _LONGEST_TEXT)
        told: dict[str, Any] = {"description": text} if text else {}
        if any(_fits(each, self._section.read_only) for each in names):
            told["annotations"] = {"readOnlyHint": True}
        elif found.idempotent:
            told["annotations"] = {"idempotentHint": True}
        return told


def _property(param: Any, inliner: Inliner) -> Schema:
    """Write the schema of an argument, with what is said of the parameter itself."""
    schema = inliner.of(param.get("schema"))
    said = next((text for text in map(param.get, ("description", "summary")) if type(text) is str), None)
    return inliner.of({"description": said}) | schema if said else schema


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
