"""The documents that nearly all clients and servers send, read by one regular expression for each value.

    read_call(document, max_depth)      -> the method's name and its arguments
    read_answer(document, max_depth)    -> the value of an answer, in a list
                                        -> None: the document is unusual, and document.py must read it

Both work in turns. What is read here, document.py reads to the same values, in several times the time. Left to it are
comments, attributes, prefixes, CDATA, references to characters, carriage returns in texts, rare types, faults, and
whatever is wrong, so that one reader reports it.
"""

import re
from collections.abc import Callable
from typing import Any

from gateway.codecs.contract import Turns
from gateway.codecs.xmlrpc.scalars import READERS
from gateway.model.faults import InvalidRequest

_TURN = 1000  # tokens that are read in one turn
_PIECE = 2**17  # characters of a text whose references are replaced in one turn
_S = r"[ \t\r\n]*+"
_ASCII = r"[\t\n -;=?-~]*+"  # first, because a class of so few characters is looked up faster
_TEXT = rf"{_ASCII}[^<>\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]*+"
_UNKNOWN = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);)")
_VERSION = r"version=(?:\"1\.0\"|'1\.0')"
_ENCODING = r"encoding=(?:\"[A-Za-z][A-Za-z0-9._-]*+\"|'[A-Za-z][A-Za-z0-9._-]*+')"
_DECLARATION = rf"(?:<\?xml {_VERSION}(?: {_ENCODING})? ?\?>{_S})?"

_CALL = re.compile(
    rf"{_DECLARATION}<methodCall>{_S}<methodName>{_S}([\w.:/-]++){_S}</methodName>{_S}"
    rf"(?:<params>|((?:<params/>{_S})?</methodCall>\Z))",
    re.ASCII,
)
_CALL_END = re.compile(rf"{_S}</params>{_S}</methodCall>\Z")
_ANSWER = re.compile(rf"{_DECLARATION}<methodResponse>{_S}<params>")
_ANSWER_END = re.compile(rf"{_S}</params>{_S}</methodResponse>\Z")

# The groups of a token; the last one that has matched says what it is.
_NAME, _INT, _I4, _DOUBLE, _BOOLEAN, _STRING, _TYPE, _TYPED, _UNTYPED, _NIL, _ARRAY, _STRUCT, _END = range(1, 14)
_SCALAR = (
    rf"{_S}<(?:int>(-?[0-9]{{1,18}}+)</int|i4>(-?[0-9]{{1,18}}+)</i4|double>(-?[0-9]{{1,15}}+\.[0-9]{{1,15}}+)</double"
    rf"|boolean>([01])</boolean|string>({_TEXT})</string"
    rf"|(double|dateTime\.iso8601|base64|i8)>({_TEXT})</\7)>{_S}</value>"
    rf"|({_TEXT})</value>"
    rf"|{_S}(<nil/>){_S}</value>"
)
_OPEN = rf"{_S}(?:<array>{_S}(<data>)|(<struct>))"


def _token(before: str, after: str, end: str) -> re.Pattern[str]:
    """Make the expression of what comes next inside an element: a value, the beginning of one, or the element's end."""
    return re.compile(rf"{_S}(?:{before}<value>(?:(?:{_SCALAR}){after}|{_OPEN})|{end})")


_PARAM = _token(f"()<param>{_S}", f"{_S}</param>", "((?!))")
_ITEM = _token("()", "", f"(</data>){_S}</array>{_S}</value>")
_MEMBER = _token(f"<member>{_S}<name>({_TEXT})</name>{_S}", f"{_S}</member>", f"(</struct>){_S}</value>")
_AFTER = {  # what must follow a container, by what it stands in
    _PARAM: re.compile(f"{_S}</param>"),
    _ITEM: re.compile(""),
    _MEMBER: re.compile(f"{_S}</member>"),
}


def read_call(document: str, max_depth: int) -> Turns[tuple[str, list[Any]] | None]:
    """Return the method's name and its arguments, or None for an unusual document."""
    head = _CALL.match(document)
    if head is None:
        return None
    if head[2] is not None:
        return head[1], []
    try:
        params = yield from _read(document, head.end(), max_depth, _CALL_END)
    except InvalidRequest:
        return None
    return None if params is None else (head[1], params)


def read_answer(document: str, max_depth: int) -> Turns[list[Any] | None]:
    """Return the value of an answer, as the only one in a list, or None for an unusual document."""
    head = _ANSWER.match(document)
    try:
        params = None if head is None else (yield from _read(document, head.end(), max_depth, _ANSWER_END))
    except InvalidRequest:
        return None
    return params if params is not None and len(params) == 1 else None


def _text(text: str) -> str:
    if _UNKNOWN.search(text):
        raise InvalidRequest("an unusual reference")
    for reference, character in _REFERENCES:
        text = text.replace(reference, character)
    return text


def _text_in_turns(text: str) -> Turns[str]:
    pieces, begin = [], 0
    while begin < len(text):
        end = text.find("&", begin + _PIECE)  # no reference is cut there
        end = len(text) if end < 0 else end
        pieces.append(_text(text[begin:end]))
        begin = end
        yield
    return "".join(pieces)


_REFERENCES = (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"), ("&amp;", "&"))
_TEXTS = (_STRING, _UNTYPED)
_SCALARS: dict[int, Callable[[str], Any]] = {
    _INT: int,
    _I4: int,
    _DOUBLE: float,
    _BOOLEAN: "1".__eq__,
    _NIL: lambda _: None,
}


def _read(document: str, position: int, max_depth: int, end: re.Pattern[str]) -> Turns[list[Any] | None]:
    """Read params up to the end of the document."""
    params: list[Any] = []
    token, values = _PARAM, params
    names: list[str] | None = None  # those of the values, inside a struct
    enclosing: list[tuple[re.Pattern[str], list[Any], list[str] | None]] = []
    tokens = 0
    while (found := token.match(document, position)) is not None:
        tokens += 1
        if tokens >= _TURN:
            tokens = 0
            yield
        position, kind = found.end(), found.lastindex or 0
        if kind == _END:
            value = _container(values, names)
            token, values, names = enclosing.pop()
            after = _AFTER[token].match(document, position)
            if value is None or after is None:
                return None
            position = after.end()
            values.append(value)
            continue
        if names is not None:
            name = found[_NAME]
            names.append(_text(name) if "&" in name else name)
        if kind in (_ARRAY, _STRUCT):
            enclosing.append((token, values, names))
            if len(enclosing) >= max_depth:
                return None
            token, values, names = (_ITEM, [], None) if kind == _ARRAY else (_MEMBER, [], [])
            continue
        text = found[kind]
        if kind in _TEXTS:
            if "&" not in text:
                values.append(text)
            else:
                values.append(_text(text) if len(text) <= _PIECE else (yield from _text_in_turns(text)))
            continue
        read = _SCALARS.get(kind) or READERS[found[_TYPE]]
        values.append(read(text))
    return None if enclosing or end.match(document, position) is None else params


def _container(values: list[Any], names: list[str] | None) -> Any:
    """Make an array or a struct; None where two members have one name."""
    if names is None:
        return values
    members = dict(zip(names, values, strict=True))
    return members if len(members) == len(names) else None
