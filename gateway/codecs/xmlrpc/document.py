"""The structure of a document: a methodCall makes a method's name and its arguments, a methodResponse a Reply.

expat reads the document, a large one in turns, and its three events build the call from the inside out: at each end tag
_READERS turns the text and the children of an element into its value. _CHILDREN says which element may stand in which.
What is not XML raises ParseError, what is neither a call nor an answer InvalidRequest.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias
from xml.parsers import expat

from gateway.codecs.contract import Turns
from gateway.codecs.xmlrpc import scalars
from gateway.codecs.xmlrpc.text import SPACE, doctype
from gateway.model.calls import Reply
from gateway.model.faults import ForeignFault, InvalidRequest, ParseError

_Reader: TypeAlias = Callable[[list[str], list[Any]], Any]

_TURN = 2**15  # characters that are read in one turn
_APACHE = "http://ws.apache.org/xmlrpc/namespaces/extensions"
_EXTENSIONS = {name: name for name in ("nil", "i1", "i2", "i8", "float", "bigdecimal", "biginteger")} | {
    "dateTime": "dateTime.iso8601"
}
_CHILDREN: dict[str, frozenset[str]] = {
    "call": frozenset({"methodCall"}),
    "methodCall": frozenset({"methodName", "params"}),
    "params": frozenset({"param"}),
    "param": frozenset({"value"}),
    "value": frozenset({*scalars.READERS, "array", "struct"}),
    "array": frozenset({"data"}),
    "data": frozenset({"value"}),
    "struct": frozenset({"member"}),
    "member": frozenset({"name", "value"}),
}
_CHILDREN |= dict.fromkeys((*scalars.READERS, "methodName", "name"), frozenset())
_KNOWN = frozenset(_CHILDREN) - {"call"}
_CHILDREN |= {
    "answer": frozenset({"methodResponse"}),
    "methodResponse": frozenset({"params", "fault"}),
    "fault": frozenset({"value", "struct"}),  # rtorrent with tinyxml2 leaves the value out
}


_DIGITS = re.compile(r"-?[0-9]{1,10}", re.ASCII)


class _Name(str):
    """A name among values: of a method, or of a member."""

    __slots__ = ()


def _stray(texts: list[str]) -> None:
    if "".join(texts).strip(SPACE):
        raise InvalidRequest("stray text between elements")


def _read_method_name(texts: list[str], _: list[Any]) -> _Name:
    name = "".join(texts).strip(SPACE)
    if not name:
        raise InvalidRequest("no method name")
    return _Name(name)


def _read_name(texts: list[str], _: list[Any]) -> _Name:
    return _Name("".join(texts))


def _read_value(texts: list[str], children: list[Any]) -> Any:
    if not children:
        return "".join(texts)
    if texts and "".join(texts).strip(SPACE):
        raise InvalidRequest("mixed content: a value is a text or an element")
    if len(children) > 1:
        raise InvalidRequest("too many children: a value has one")
    return children[0]


def _read_children(texts: list[str], children: list[Any]) -> list[Any]:
    if texts:
        _stray(texts)
    return children


def _read_array(texts: list[str], children: list[Any]) -> list[Any]:
    _stray(texts)
    if len(children) > 1:
        raise InvalidRequest("too many children: an array has one data")
    values: list[Any] = children[0] if children else []
    return values


def _read_param(texts: list[str], children: list[Any]) -> Any:
    if texts:
        _stray(texts)
    if not children:
        raise InvalidRequest("empty param: it has one value")
    if len(children) > 1:
        raise InvalidRequest("too many children: a param has one value")
    return children[0]


def _read_member(texts: list[str], children: list[Any]) -> tuple[str, Any]:
    if texts:
        _stray(texts)
    kinds = [type(child) is _Name for child in children]
    if kinds == [True, False]:
        return str(children[0]), children[1]
    if kinds == [False, True]:
        return str(children[1]), children[0]
    raise InvalidRequest("bad member: it has one name and one value")


def _read_struct(texts: list[str], children: list[Any]) -> dict[str, Any]:
    if texts:
        _stray(texts)
    members: dict[str, Any] = dict(children)
    if len(members) < len(children):
        raise InvalidRequest("duplicate member: two of the same name in a struct")
    return members


def _read_struct_leniently(texts: list[str], children: list[Any]) -> dict[str, Any]:
    if texts:
        _stray(texts)
    return dict(children)


def _read_call(texts: list[str], children: list[Any]) -> tuple[str, list[Any]]:
    _stray(texts)
    names = [child for child in children if type(child) is _Name]
    params = [child for child in children if type(child) is list]
    if not names:
        raise InvalidRequest("no method name")
    if len(names) > 1 or len(params) > 1:
        raise InvalidRequest("too many children: a methodCall has one methodName and at most one params")
    return str(names[0]), params[0] if params else []


def _read_answer(texts: list[str], children: list[Any]) -> Reply:
    _stray(texts)
    if len(children) != 1:
        raise InvalidRequest("a methodResponse has one params or one fault")
    if isinstance(children[0], ForeignFault):
        return Reply(fault=children[0])
    if len(children[0]) != 1:
        raise InvalidRequest("the params of a methodResponse have one param")
    return Reply(value=children[0][0])


def _read_fault(texts: list[str], children: list[Any]) -> ForeignFault:
    _stray(texts)
    return fault_of(children[0] if len(children) == 1 else None)


def fault_of(fault: Any) -> ForeignFault:
    """Return the fault that a struct says.

    Raises:
        InvalidRequest: it says none.

    """
    if type(fault) is not dict:
        raise InvalidRequest("a fault is a struct")
    code, text = fault.get("faultCode"), fault.get("faultString")
    if not isinstance(code, int | str) or type(code) is bool or type(text) is not str:
        raise InvalidRequest("a fault has an int faultCode and a string faultString")
    if isinstance(code, int):
        return ForeignFault(code, text)
    return ForeignFault(int(code) if _DIGITS.fullmatch(code.strip(SPACE)) else code, text or code)


def _scalar_reader(read: Callable[[str], Any]) -> _Reader:
    return lambda texts, _: read("".join(texts))


_READERS: dict[str, _Reader] = {
    **{tag: _scalar_reader(read) for tag, read in scalars.READERS.items()},
    "methodCall": _read_call,
    "methodName": _read_method_name,
    "methodResponse": _read_answer,
    "fault": _read_fault,
    "params": _read_children,
    "param": _read_param,
    "value": _read_value,
    "array": _read_array,
    "data": _read_children,
    "struct": _read_struct,
    "member": _read_member,
    "name": _read_name,
}
_READERS_WITH_NAN = _READERS | dict.fromkeys(("double", "float"), _scalar_reader(scalars.read_any_double))

_LENIENT_READERS = _READERS | {
    **{tag: _scalar_reader(read) for tag, read in scalars.LENIENT_READERS.items()},
    "struct": _read_struct_leniently,
}


def read_call(document: str, max_depth: int) -> Turns[tuple[str, list[Any]]]:
    """Return the method's name and its arguments."""
    call: tuple[str, list[Any]] = yield from _read(document, max_depth, "call", _READERS)
    return call


def read_answer(document: str, max_depth: int, *, nan: bool = False, lenient: bool = False) -> Turns[Reply]:
    """Return the value of an answer, or its fault as it is.

    ``nan``: its doubles may be NaN or infinite. ``lenient``: they become None then, as do dates that are empty or zero,
    and the last of members that have the same name counts.
    """
    readers = _LENIENT_READERS if lenient else _READERS_WITH_NAN if nan else _READERS
    reply: Reply = yield from _read(document, max_depth, "answer", readers)
    return reply


def _read(document: str, max_depth: int, root: str, readers: Mapping[str, _Reader] = _READERS) -> Turns[Any]:
    """Return what a document has inside; ``root`` is the row of _CHILDREN that says which element it may be.

    Each level of values is three elements deep (value, array, data or value, struct, member; and methodCall, params,
    param above the first), so the number of open elements tells the level.
    """
    tag, texts, children = root, list[str](), list[Any]()
    enclosing: list[tuple[str, list[str], list[Any]]] = []
    most_open = 3 * max_depth + 3
    prefixes = {"ex"}

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal tag, texts, children
        if attributes:
            _note_prefixes(attributes, prefixes)
        if name not in _CHILDREN[tag]:
            name = _extension(name, tag, prefixes)
        enclosing.append((tag, texts, children))
        if len(enclosing) > most_open:
            raise InvalidRequest(f"too deep: at most {max_depth} levels of values")
        tag, texts, children = name, [], []

    def end(_: str) -> None:
        nonlocal tag, texts, children
        value = readers[tag](texts, children)
        tag, texts, children = enclosing.pop()
        children.append(value)

    def characters(text: str) -> None:
        texts.append(text)

    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        for place in range(0, len(document) - _TURN, _TURN):
            parser.Parse(document[place : place + _TURN], False)  # noqa: FBT003 - expat takes it by position only
            yield
        last = max(0, (len(document) - 1) // _TURN * _TURN)
        parser.Parse(document[last:] if last else document, True)  # noqa: FBT003 - likewise
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise ParseError(f"not well-formed: {reason}, line {error.lineno}, column {error.offset}") from None
    except InvalidRequest as fault:
        line, column = parser.CurrentLineNumber, parser.CurrentColumnNumber
        raise InvalidRequest(f"{fault.detail} (line {line}, column {column})") from None
    return children[0]


def _note_prefixes(attributes: dict[str, str], prefixes: set[str]) -> None:
    """Keep the prefixes that mean Apache's extensions; ``ex`` does until the document says otherwise."""
    for name, value in attributes.items():
        if name.startswith("xmlns:"):
            note = prefixes.add if value == _APACHE else prefixes.discard
            note(name.removeprefix("xmlns:"))


def _extension(name: str, tag: str, prefixes: set[str]) -> str:
    """Return the plain name of an extension's element, or refuse an element that may not stand in ``tag``."""
    prefix, _, local = name.partition(":")
    if prefix in prefixes and local in _EXTENSIONS and tag == "value":
        return _EXTENSIONS[local]
    if name in _KNOWN:
        raise InvalidRequest("misplaced element")
    raise InvalidRequest("wrong root: a call is a methodCall" if name.lower() == "methodcall" else "unknown element")


def _refuse_doctype(*_: Any) -> None:
    raise doctype()
