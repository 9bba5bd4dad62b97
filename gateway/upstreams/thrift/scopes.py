"""Files and what they include, and how a name is found in them.

look_up(program, token, tables, what)    the file that defines a name, and its node; IdlError names the remedy
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

from msgspec import Struct

from gateway.upstreams.options import nearest
from gateway.upstreams.thrift.lexing import IdlError, Token
from gateway.upstreams.thrift.syntax import Document

N = TypeVar("N")


class Program(Struct, frozen=True, eq=False):
    """A file with the files that it includes.

    Attributes:
        included: by the name that stands before the dot in ``shared.Person``; files of one name in the order of the
            includes, and the last one counts.
        missing: the errors of files that were not found, by the same names; raised only where such a file is needed,
            as Apache's compiler does.

    """

    document: Document
    included: dict[str, list["Program"]]
    missing: dict[str, IdlError]


def find(program: Program, name: str, table: Callable[[Document], Mapping[str, N]]) -> tuple[Program, N] | None:
    """Find a name in a table of this file, or one with a prefix in that of an included file."""
    prefix, _, last = name.rpartition(".")
    for each in reversed(program.included.get(prefix, ())) if prefix else (program,):
        node = table(each.document).get(last)
        if node is not None:
            return each, node
    return None


def look_up(
    program: Program, token: Token, table: Callable[[Document], Mapping[str, N]], what: str
) -> tuple[Program, N]:
    """Find what a token names.

    Raises:
        IdlError: nothing has this name, or the file that has it is missing.

    """
    found = find(program, token.text, table)
    if found is None:
        raise unknown(program, token, what, table(program.document))
    return found


def unknown(program: Program, token: Token, what: str, known: Mapping[str, object]) -> IdlError:
    """Make the error for a name that nothing has; ``known`` are names that may have been meant."""
    for prefix, error in program.missing.items():
        if token.text.startswith(f"{prefix}."):
            return error
    prefix = token.text.rpartition(".")[0]
    if prefix and not any(f"{prefix}.".startswith(f"{each}.") for each in (*program.included, *program.document.types)):
        return token.error(f"{token.shown} is unknown: no included file has the name {prefix}.thrift")
    return token.error(f"there is no {what} {token.shown}{nearest(token.text, known)}")
