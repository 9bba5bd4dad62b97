"""Which implementation reads and writes plain documents: the compiled one where it was built, or Python alone.

``GATEWAY_CODEC`` in the environment chooses: ``pure``, or ``compiled``, which must have been built then.
"""

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol


class Compiled(Protocol):
    """What _compiled.c has. Each function returns None for what is unusual, which Python reads or writes then."""

    def read_call(self, body: bytes, max_depth: int, /) -> tuple[str, list[Any]] | None:
        """Read a call from UTF-8: the method's name and its arguments."""

    def read_answer(self, body: bytes, max_depth: int, /) -> list[Any] | None:
        """Read an answer from UTF-8: its value, as the only one in a list."""

    def write_value(self, value: Any, max_depth: int, room: int, nil: bytes | None, i8: bool, /) -> bytes | None:  # noqa: FBT001 - C takes it by position
        """Write a value in at most ``room`` bytes; ``nil`` is how None is written, ``i8`` whether that extension is."""


def choose(wanted: str, load: Callable[[], Compiled]) -> Compiled | None:
    """Return the compiled codec, or None for Python alone.

    Raises:
        ImportError: the compiled codec is wanted and cannot be loaded, or there is no codec of this name.

    """
    if wanted not in ("", "pure", "compiled"):
        raise ImportError(f"GATEWAY_CODEC must be pure or compiled, not {wanted}")
    if wanted == "pure":
        return None
    try:
        return load()
    except ImportError:
        if wanted:
            raise
        return None


def _load() -> Any:
    return import_module("gateway.codecs.xmlrpc._compiled")


compiled = choose(os.environ.get("GATEWAY_CODEC", ""), _load)
IMPLEMENTATION = "pure" if compiled is None else "compiled"
