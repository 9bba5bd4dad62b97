"""JSON as text, read strictly (RFC 8259 and RFC 7493).

parse(text, max_depth)    a document; ParseError: not UTF-8, not JSON, too deep, or read differently by other readers
"""

import re
from typing import Any

import msgspec

from gateway.model.faults import ParseError

_STRINGS = re.compile(rb'"(?:[^"\\]|\\.)*+"')
_LONE_SURROGATE = re.compile(
    rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]",
)


def parse(text: bytes, max_depth: int, *, unique: bool = True) -> Any:
    """Parse strict JSON.

    A JSON text has one colon outside of its strings for each member, so fewer members than colons are duplicate
    names. Counting is far cheaper than collecting pairs, and an exact count is needed only where a string has a
    colon in it.
    """
    try:
        document = msgspec.json.decode(text)
    except msgspec.ValidationError:
        raise ParseError("a number is out of range") from None
    except msgspec.DecodeError as error:
        if _LONE_SURROGATE.search(text.replace(rb"\\", b"__")):
            raise ParseError("a string has a lone surrogate") from None
        raise ParseError(f"not JSON: {str(error).removeprefix('JSON is malformed: ')}") from None
    except UnicodeDecodeError as error:
        raise ParseError(f"not UTF-8 (byte {error.start} of a string)") from None
    except RecursionError:
        raise ParseError(_too_deep(max_depth)) from None
    members, depth = _measure(document)
    if depth > max_depth:
        raise ParseError(_too_deep(max_depth))
    if unique and text.count(b":") != members and _STRINGS.sub(b"", text).count(b":") != members:
        raise ParseError("an object has two members of the same name")
    return document


def _too_deep(max_depth: int) -> str:
    return f"too deep: at most {max_depth} levels"


def _measure(document: Any) -> tuple[int, int]:
    """Count the members of all objects, and the levels of nesting."""
    members = depth = 0
    level = [document] if type(document) in (dict, list) else []
    while level:
        depth += 1
        inner: list[Any] = []
        for node in level:
            if type(node) is dict:
                members += len(node)
                node = node.values()  # noqa: PLW2901 - from here on both kinds are their values
            inner += [value for value in node if type(value) is dict or type(value) is list]
        level = inner
    return members, depth
