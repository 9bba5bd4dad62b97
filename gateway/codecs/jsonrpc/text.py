"""JSON as text, read strictly (RFC 8259 and RFC 7493).

parse(text, max_depth)         a document; ParseError: not UTF-8, not JSON, too deep, or read differently by others
parsing(text, max_depth)       the same in turns
measured(document)             how many members its objects have, and how deep it is
are_unique(text, members)      whether a text that was read as so many members has no more of them
"""

import re
from itertools import chain
from typing import Any

import msgspec

from gateway.codecs.contract import Turns, at_once
from gateway.model.faults import ParseError

LARGE = 2**16  # bytes from which on more than one turn is taken
_CONTAINERS = frozenset({dict, list})
_FEW = 8  # containers that are looked at one by one in less time than together
_SPACED = (b"\t:", b"\n:", b"\r:", b"  :")
_STRINGS = re.compile(rb'"(?>(?:[^"\\]|\\.)*)"')
_LONE_SURROGATE = re.compile(
    rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]",
)


def parse(text: bytes, max_depth: int, *, unique: bool = True) -> Any:
    """Parse strict JSON."""
    return at_once(parsing(text, max_depth, unique=unique))


def parsing(text: bytes, max_depth: int, *, unique: bool = True) -> Turns[Any]:
    """Parse strict JSON in two turns, if it is large: msgspec reads it, and then it is looked at."""
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
    if len(text) > LARGE:
        yield
    members, depth = measured(document)
    if depth > max_depth:
        raise ParseError(_too_deep(max_depth))
    if unique and not are_unique(text, members):
        raise ParseError("an object has two members of the same name")
    return document


def _too_deep(max_depth: int) -> str:
    return f"too deep: at most {max_depth} levels"


def are_unique(text: bytes, members: int) -> bool:
    """Return whether JSON that was read as so many members has no more, which would be duplicate names.

    It has one colon outside of its strings for each member. Counting is far cheaper than collecting pairs. Where
    strings have colons, too, those behind a quotation mark are counted: if no other white space is before a colon, they
    are at least as many as the members, and so no more than were read only if none is a duplicate. An exact count takes
    out all strings.
    """
    if text.count(b":") == members:
        return True
    if text.count(b'":') + text.count(b'" :') == members and not any(map(text.__contains__, _SPACED)):
        return True
    return _STRINGS.sub(b"", text).count(b":") == members


def measured(document: Any) -> tuple[int, int]:
    """Count the members of all objects, and the levels of nesting."""
    members = depth = 0
    level = [document] if type(document) in _CONTAINERS else []
    while level:
        depth += 1
        values: list[Any] = []
        if len(level) > _FEW and {dict}.issuperset(map(type, level)):
            members += sum(map(len, level))
            values.extend(chain.from_iterable(map(dict.values, level)))
        else:
            for node in level:
                if type(node) is dict:
                    members += len(node)
                    values += node.values()
                else:
                    values += node
        if _CONTAINERS.isdisjoint(map(type, values)):
            break
        level = [value for value in values if type(value) is dict or type(value) is list]
    return members, depth
