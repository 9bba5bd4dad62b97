"""Names that models take, for methods and for their parameters.

    tool_names(["a.b", "c"])      {"a_b": "a.b", "c": "c"}

The APIs of models take ``[a-zA-Z0-9_-]{1,64}``, and agents put the name of a server before that of a tool. Some lose
all tools for one name that does not fit. The way back from a name is a table: it cannot be computed.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable

_OTHER = re.compile(r"[^a-zA-Z0-9_-]")
_LONGEST = 52  # characters
_DIGITS = (8, 16, 32)  # of the hash; more where a method has such a name of its own
_LONGEST_PROPERTY = 64


def tool_names(methods: Iterable[str]) -> dict[str, str]:
    """Return the names of methods by the names of their tools.

    A name that models take is kept. One that has to be changed gets a part of its hash where another method has, or
    would have, the same name: so no method changes the name of another one's tool but by having it.
    """
    methods = list(methods)
    wanted = {method: _OTHER.sub("_", method) for method in methods}
    kept = {method for method, name in wanted.items() if name == method and len(name) <= _LONGEST}
    asked = Counter(wanted.values())
    named = {method: method for method in kept}
    for method, name in wanted.items():
        if method in kept:
            continue
        if asked[name] == 1 and len(name) <= _LONGEST:
            named[name] = method
        else:
            free = (each for each in _hashed(method, name) if each not in kept and each not in named)
            named[next(free)] = method
    return named


def _hashed(method: str, name: str) -> Iterable[str]:
    digest = hashlib.sha256(method.encode("utf-8", "replace")).hexdigest()
    for digits in _DIGITS:
        yield f"{name[: _LONGEST - 1 - digits]}-{digest[:digits]}"


def property_names(params: Iterable[str]) -> list[str]:
    """Return a name for each parameter, in their order, that is not that of another one."""
    names: list[str] = []
    for param in params:
        name = wanted = _OTHER.sub("_", param)[:_LONGEST_PROPERTY] or "_"
        number = 1
        while name in names:
            number += 1
            name = f"{wanted[: _LONGEST_PROPERTY - 4]}_{number}"
        names.append(name)
    return names
