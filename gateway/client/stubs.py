"""The source of a module with the methods of a server and their types: what ``gateway stubs`` writes.

    source(described, url, protocol, is_async=False) -> str

A namespace is a class; a method that is one, too (``math`` beside ``math.add``), is what calling it does.
"""

from gateway.client.described import Described, Param, Told
from gateway.client.schemas import ANY, Types, camel, identifier, plain, unique

_SHADOWED = ("list", "dict", "int", "str", "float", "bool", "bytes")
_TAKEN = frozenset({"typing", "builtins", "datetime", "self", "result", "super", "None", "UNSET", "UnsetType"})
_TAKEN |= frozenset({"Methods", "AsyncMethods", "Client", "AsyncClient"})
_MODULES = ("builtins", "datetime", "typing")


class _Space:
    """A namespace: its methods and the namespaces in it, by their parts of the name."""

    def __init__(self) -> None:
        self.methods: dict[str, Told] = {}
        self.spaces: dict[str, _Space] = {}
        self.itself: Told | None = None


def source(described: Described, url: str, protocol: str, *, is_async: bool = False) -> str:
    """Write the module."""
    root = _Space()
    for told in described.methods:
        *parts, last = told.name.split(".")
        space = root
        for part in parts:
            space = space.spaces.setdefault(part, _Space())
        space.methods[last] = told
    _settle(root)
    taken = {*_TAKEN, *_SHADOWED, *_members(root), "API"}
    types = Types(described.schemas, taken, is_xmlrpc=protocol == "xmlrpc")
    writer = _Writer(types, taken, is_async=is_async)
    writer.write(root, "API", f"The methods of {url}.")
    body = types.classes() + "".join(f"\n\n{each}\n" for each in writer.classes)
    kind = "Async" if is_async else ""
    unset = ["UNSET"] * ("UNSET" in body) + [f"{kind}Methods"] + ["UnsetType"] * ("UnsetType" in body)
    imports = [f"import {module}" for module in _MODULES if f"{module}." in body]
    return "\n".join(
        [
            f'"""The methods of {_text(url)} with their types, written by ``gateway stubs``."""',
            "",
            "from __future__ import annotations",
            "",
            *imports,
            *([""] if imports else []),
            f"from gateway.client import {kind}Client",
            f"from gateway.client.typed import {', '.join(unset)}",
            "",
            "",
            body.strip("\n"),
            "",
        ]
    )


def _settle(space: _Space) -> None:
    for part, inner in space.spaces.items():
        inner.itself = space.methods.pop(part, None)
        _settle(inner)


def _members(space: _Space) -> set[str]:
    found = {identifier(part) for part in (*space.methods, *space.spaces)}
    return found.union(*(_members(inner) for inner in space.spaces.values()))


class _Writer:
    """Writes classes, those of inner namespaces first."""

    def __init__(self, types: Types, taken: set[str], *, is_async: bool) -> None:
        self.classes: list[str] = []
        self._types = types
        self._taken = taken
        self._def, self._await = ("async def", "await ") if is_async else ("def", "")
        self._kind = "Async" if is_async else ""

    def write(self, space: _Space, name: str, doc: str, path: str = "") -> None:
        """Write the class of a namespace; ``path`` is what the names of its methods begin with."""
        own = set(_TAKEN) | {"_client", "_call"}
        prefix = name if path else ""
        inner = {part: unique(f"{prefix}{camel(part)}", self._taken) for part in space.spaces}
        for part, chosen in inner.items():
            begin = f"{path}{part}."
            self.write(space.spaces[part], chosen, f"The methods whose names begin with {begin}", begin)
        attributes = {part: unique(identifier(part), own) for part in space.spaces}
        names = {part: unique(identifier(part), own) for part in space.methods}
        shadowed = [each for each in _SHADOWED if each in (*names.values(), *attributes.values())]
        lines = [f"class {name}({self._kind}Methods):", f'    """{_text(doc)}"""']
        if attributes:
            lines += ["", f"    def __init__(self, client: {self._kind}Client) -> None:"]
            lines += ["        super().__init__(client)"]
            lines += [f"        self.{attribute} = {inner[part]}(client)" for part, attribute in attributes.items()]
        if space.itself is not None:
            lines += ["", *self._method("__call__", space.itself, prefix, shadowed)]
        for part, told in space.methods.items():
            lines += ["", *self._method(names[part], told, prefix, shadowed)]
        self.classes.append("\n".join(lines))

    def _method(self, name: str, told: Told, prefix: str, shadowed: list[str]) -> list[str]:
        hint = f"{prefix}{camel(told.name.rpartition('.')[2])}"
        result = plain(self._types.of(told.result, f"{hint}Result"), shadowed) if told.result is not None else ANY
        signature, given = self._params(told, hint, shadowed)
        call = f"{self._await}self._call({told.name!r}, {given})"
        body = f"        result: {result} = {call}"
        return [
            f"    {self._def} {name}({', '.join(['self', *signature])}) -> {result}:",
            *_docstring(told.doc or f"Call {told.name}."),
            body,
            "        return result",
        ]

    def _params(self, told: Told, hint: str, shadowed: list[str]) -> tuple[list[str], str]:
        """Return the parameters of a method, and the expression of what is given."""
        if told.params is None:
            return [f"*args: {ANY}"], "args"
        taken = set(_TAKEN)
        names = [unique(identifier(param.name), taken) for param in told.params]
        pairs = list(zip(told.params, names, strict=True))
        is_named = told.named and len({param.name for param in told.params}) == len(names)
        signature = [self._param(param, name, hint, shadowed) for param, name in pairs]
        is_plain = is_named and all(param.name == name for param, name in pairs)
        if signature and not is_plain and not told.params[-1].rest:
            signature.append("/")
        if is_named:
            return signature, "{" + ", ".join(f"{param.name!r}: {name}" for param, name in pairs) + "}"
        each = [f"*{name}" if param.rest else name for param, name in pairs]
        return signature, f"({', '.join(each)}{',' if len(each) == 1 else ''})"

    def _param(self, param: Param, name: str, hint: str, shadowed: list[str]) -> str:
        annotation = plain(self._types.of(param.schema, f"{hint}{camel(param.name)}"), shadowed)
        if param.rest:
            return f"*{name}: {annotation}"
        return f"{name}: {annotation}" if param.required else f"{name}: {annotation} | UnsetType = UNSET"


def _docstring(doc: str) -> list[str]:
    lines = [line.rstrip() for line in _text(doc.strip()).split("\n")]
    quoted = [f"        {line}" if line else "" for line in lines]
    quoted[0] = f'        """{lines[0]}'
    quoted[-1] = f'{quoted[-1]}"""' if len(lines) == 1 else quoted[-1]
    return quoted if len(lines) == 1 else [*quoted, '        """']


def _text(text: str) -> str:
    """Write a foreign text so that it can stand in a docstring."""
    kept = "".join(c if c.isprintable() or c == "\n" else " " for c in text.replace("\t", "    "))
    kept = kept.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return kept[:-1] + '\\"' if kept.endswith('"') else kept
