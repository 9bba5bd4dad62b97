"""JSON as text, read strictly (RFC 8259 and RFC 7493).

parse(text, max_depth)         a document; ParseError: not UTF-8, not JSON, too deep, or read differently by others
parsing(text, max_depth)       the same in turns
measured(document)             how many members its objects have, and how deep it is
inside(level, count)           the values of many lists and dicts
are_unique(text, members)      whether a text that was read as so many members has no more of them
"""

import re
from gc import get_referents
from itertools import chain
from typing import Any

import msgspec

from gateway.codecs.contract import Turns, at_once
from gateway.model.faults import ParseError

LARGE = 2**16  # bytes from which on more than one turn is taken
_CONTAINERS = frozenset({dict, list})
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
    if type(document) is list and _CONTAINERS.isdisjoint(map(type, document)):
        return 0, 1
    members = depth = 0
    level = [document] if type(document) in _CONTAINERS else []
    while level:
        depth += 1
        count = sum(map(len, level))
        members += count - sum([len(node) for node in level if type(node) is list])
        values = inside(level, count)
        if _CONTAINERS.isdisjoint(map(type, values)):
            break
        level = [value for value in values if type(value) is dict or type(value) is list]
    return members, depth


def inside(level: list[Any], count: int) -> list[Any]:
    """Return the ``count`` values of some lists and dicts, in any order, and names in dicts that are not texts.

    The garbage collector finds them in a fifth of the time. It passes over the names of a dict whose names have always
    been exact texts, and only of such a one, so that as many objects as there are values are the values.
    """
    values = get_referents(*level)
    if len(values) == count:
        return values
    dicts = [node for node in level if type(node) is dict]
    values = [name for name in chain.from_iterable(dicts) if type(name) is not str]
    values += chain.from_iterable(map(dict.values, dicts))
    values += chain.from_iterable([node for node in level if type(node) is list])
    return values
