"""What a server tells of its methods, for a module with their types.

    described(client) -> Described: methods, and the schemas that they refer to

By rpc.discover (OpenRPC 1.3), or else by system.listMethods with methodSignature and methodHelp.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gateway.client.calls import Client
from gateway.client.errors import CallError
from gateway.codecs.xmlrpc.schemas import SCHEMAS
from gateway.model.faults import Fault

_OWN = ("system.", "rpc.")
_REST = "Any number of further arguments."
_AT_ONCE = 25  # methods in a batch, of which each is asked for twice
_NATIVE = frozenset({"dateTime.iso8601", "base64"})


class Param(Struct, frozen=True, kw_only=True):
    """A parameter; ``rest`` stands for any number of them."""

    name: str
    schema: Any = None
    required: bool = True
    rest: bool = False


class Told(Struct, frozen=True, kw_only=True):
    """A method. ``params`` is None where nothing is known of them; ``named`` says whether they have names to send."""

    name: str
    doc: str = ""
    params: tuple[Param, ...] | None = None
    named: bool = False
    result: Any = None


class Described(Struct, frozen=True, kw_only=True):
    """Methods in the order of their names, and the schemas of the document by name."""

    methods: tuple[Told, ...]
    schemas: Mapping[str, Any]


def described(client: Client) -> Described:
    """Ask a server.

    Raises:
        Fault: it tells of its methods in neither way.
        CallError: it does not respond, or tells nonsense.

    """
    try:
        document = client.call("rpc.discover")
    except Fault:
        return _by_names(client)
    methods = document.get("methods") if isinstance(document, dict) else None
    if not isinstance(methods, list):
        raise CallError(f"{client.url}: rpc.discover does not return an OpenRPC document", url=client.url, sent="yes")
    components = document.get("components")
    schemas = components.get("schemas") if isinstance(components, dict) else None
    told = [_told(each) for each in methods if isinstance(each, dict) and isinstance(each.get("name"), str)]
    ordered = _ordered(told)
    if client.protocol == "xmlrpc":
        ordered = _with_native_types(client, ordered)
    return Described(methods=ordered, schemas=schemas if isinstance(schemas, dict) else {})


def _ordered(told: list[Told]) -> tuple[Told, ...]:
    by_name = {each.name: each for each in told if not each.name.startswith(_OWN)}
    return tuple(by_name[name] for name in sorted(by_name))


def _told(method: Mapping[str, Any]) -> Told:
    said = method.get("params")
    structure = method.get("paramStructure", "either")
    result = method.get("result")
    texts = (method.get("summary"), method.get("description"))
    return Told(
        name=method["name"],
        doc="\n\n".join(text for text in texts if isinstance(text, str) and text),
        params=_params(said if isinstance(said, list) else [], structure),
        named=structure != "by-position",
        result=result.get("schema") if isinstance(result, dict) else None,
    )


def _params(said: list[Any], structure: Any) -> tuple[Param, ...] | None:
    """Make parameters; None where one has no name."""
    if not all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in said):
        return None
    params = [
        Param(
            name=each["name"],
            schema=each.get("schema"),
            required=each.get("required") is True,
            rest=structure == "by-position" and each is said[-1] and each.get("description") == _REST,
        )
        for each in said
    ]
    return tuple(sorted(params, key=lambda param: (param.rest, not param.required)))


def _by_names(client: Client) -> Described:
    names = client.call("system.listMethods")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CallError(f"{client.url}: system.listMethods does not return names", url=client.url, sent="yes")
    own = sorted({name for name in names if not name.startswith(_OWN)})
    told = [_signed(name, signature, text) for name, signature, text in _signatures(client, own)]
    return Described(methods=tuple(told), schemas={})


def _with_native_types(client: Client, told: tuple[Told, ...]) -> tuple[Told, ...]:
    """Put in what JSON Schema has no word for: XML-RPC has dates, also without a zone, and binary data."""
    by_name = {name: signature for name, signature, _ in _signatures(client, [each.name for each in told])}
    return tuple(_native(each, by_name[each.name]) for each in told)


def _native(told: Told, said: Any) -> Told:
    if not _are_signatures(said):
        return told
    kinds = max(said, key=len)
    params = told.params and tuple(
        replace(param, schema=SCHEMAS[kinds[place]]) if place < len(kinds) and kinds[place] in _NATIVE else param
        for place, param in enumerate(told.params, 1)
    )
    return replace(told, params=params, result=SCHEMAS[kinds[0]] if kinds[0] in _NATIVE else told.result)


def _signatures(client: Client, names: list[str]) -> list[tuple[str, Any, Any]]:
    """Ask for signatures and texts together, and one by one where the server has no batches."""
    found: list[tuple[str, Any, Any]] = []
    for start in range(0, len(names), _AT_ONCE):
        part = names[start : start + _AT_ONCE]
        batch = client.batch()
        asked = [(batch.call("system.methodSignature", name), batch.call("system.methodHelp", name)) for name in part]
        try:
            batch.send()
        except (Fault, CallError):
            found += [
                (name, _each(client, "methodSignature", name), _each(client, "methodHelp", name)) for name in part
            ]
        else:
            found += [(name, said.value, text.value) for name, (said, text) in zip(part, asked, strict=True)]
    return found


def _each(client: Client, method: str, name: str) -> Any:
    try:
        return client.call(f"system.{method}", name)
    except Fault:
        return None


def _signed(name: str, said: Any, text: Any) -> Told:
    """Make a method of its signatures: the longest one, of which the shortest says what is required."""
    doc = text if isinstance(text, str) else ""
    if not _are_signatures(said):
        return Told(name=name, doc=doc)
    result, *kinds = max(said, key=len)
    required = min(map(len, said)) - 1
    params = tuple(
        Param(name=f"p{place}", schema=_same(said, place), required=place <= required)
        for place in range(1, len(kinds) + 1)
    )
    return Told(name=name, doc=doc, params=params, result=SCHEMAS.get(result) if _agree(said, 0) else None)


def _are_signatures(said: Any) -> bool:
    return isinstance(said, list) and bool(said) and all(_is_signature(each) for each in said)


def _is_signature(said: Any) -> bool:
    return isinstance(said, list) and bool(said) and all(isinstance(kind, str) for kind in said)


def _same(signatures: list[list[str]], place: int) -> Any:
    longest = max(signatures, key=len)
    return SCHEMAS.get(longest[place]) if _agree(signatures, place) else None


def _agree(signatures: list[list[str]], place: int) -> bool:
    return len({each[place] for each in signatures if len(each) > place}) == 1
