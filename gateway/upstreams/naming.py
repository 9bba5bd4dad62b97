"""What an upstream's methods are called here, which of them are offered, and the patterns among them.

names = Names("up", options)
names.ours("eth_call")          "up.eth_call"
names.theirs("up.eth_call")     "eth_call"; None where the prefix is another one
"""

import re
from collections.abc import Collection, Iterable, Iterator
from fnmatch import fnmatchcase

from gateway.upstreams import Options, Parameter, Signature
from gateway.upstreams.options import HIDDEN, nearest

_MOST = 200  # characters of a name that is passed on by a pattern
_PLAIN = re.compile(r"[\w.:/$@+-]+", re.ASCII)


class Names:
    """The prefix of an upstream, and its options rename, expose and hide."""

    def __init__(self, upstream: str, options: Options) -> None:
        self._prefix = f"{upstream}." if options.prefix is None else options.prefix
        self._options = options
        self._theirs = {ours: theirs for theirs, ours in options.rename.items()}

    def ours(self, theirs: str) -> str:
        """Return the name here of a method of the upstream."""
        return self._prefix + self._options.rename.get(theirs, theirs)

    def theirs(self, ours: str) -> str | None:
        """Return what the upstream calls a method that has a name here; None for a name that is not its own.

        A method that was renamed has no other name: access rules hold by name.
        """
        if not ours.startswith(self._prefix):
            return None
        rest = ours[len(self._prefix) :]
        if rest in self._options.rename and rest not in self._theirs:
            return None
        return self._theirs.get(rest, rest)

    def is_offered(self, theirs: str) -> bool:
        """Tell whether a method of the upstream is served."""
        return fits(theirs, self._options.expose) and not fits(theirs, self._options.hide)


def configured(options: Options) -> Iterator[Signature]:
    """Make signatures of what the configuration says: names, or names and parameters; ``name?`` is an optional one."""
    if not isinstance(options.methods, dict):
        yield from (Signature(name=name) for name in options.methods)
        return
    for name, written in options.methods.items():
        params = (Parameter(name=param.rstrip("?"), required=not param.endswith("?")) for param in written)
        yield Signature(name=name, params=tuple(params))


def unmatched(options: Options, signatures: Collection[Signature]) -> list[str]:
    """Tell which entries of the options match none of the upstream's methods; nothing where these are patterns."""
    names = [signature.name for signature in signatures]
    if not names or any(map(is_pattern, names)):
        return []
    given = {
        "expose": options.expose,
        "hide": set(options.hide) - set(HIDDEN),
        "rename": options.rename,
        "timeout": options.timeout,
        "idempotent": options.idempotent,
        "docs": options.docs,
    }
    return [
        f"{option}: {entry!r} matches none of its methods{nearest(entry, names)}"
        for option, entries in given.items()
        for entry in sorted(entries)
        if not any(entry == name or (option not in ("rename", "docs") and fnmatchcase(name, entry)) for name in names)
    ] + _unhashed(options, signatures)


def _unhashed(options: Options, signatures: Collection[Signature]) -> list[str]:
    """Tell whether ``hash_by`` names a parameter that no method has, as far as their parameters are known."""
    kind, _, name = options.hash_by.partition(".")
    if options.balance != "hash" or kind != "params" or any(each.params is None for each in signatures):
        return []
    names = {param.name for each in signatures for param in each.params or ()}
    return [] if name in names else [f"hash_by: none of its methods has a parameter {name}{nearest(name, names)}"]


def is_pattern(name: str) -> bool:
    """Tell whether a name of ``methods`` is a pattern for any name that fits it."""
    return "*" in name or "?" in name


def is_plain(name: str) -> bool:
    """Tell whether a name that a caller has invented may be passed on."""
    parts = name.split(".")
    return len(name) <= _MOST and _PLAIN.fullmatch(name) is not None and not any(each.startswith("_") for each in parts)


def may_run_twice(signature: Signature, options: Options) -> bool:
    """Tell whether the configuration or an IDL says that a method may run twice."""
    return signature.is_idempotent or fits(signature.name, options.idempotent)


def fits(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether one of the patterns fits a name."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)
