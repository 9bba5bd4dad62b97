"""What is left out of recordings: the places that options name, and what looks like a secret.

A value under a name like password, token or api_key is one, and so is a text or bytes like a bearer token, a JWT or a
private key. The names of arguments by position are those of the method's parameters. What was left out once is left
out wherever else it is in the same record, too: a method may return its argument, or quote it in a fault.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from msgspec import Struct, field

from gateway.model.calls import Params
from gateway.model.places import Place, Steps, beginning, beyond, inside, item
from gateway.telemetry.recording.typed import REDACTED

_PARTS = re.compile(
    "passw|passphrase|secret|token|authorization|apikey|accesskey|privatekey|signingkey|encryptionkey|credential|cookie"
)
_WORDS = frozenset({"pwd", "pass", "pw", "pin", "otp", "totp", "cvv", "cvc", "auth", "jwt", "psk", "bearer"})
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_VALUE = re.compile(
    r"(?i:\bbearer)\s+[\w.~+/=-]{8,}"
    r"|-----BEGIN [A-Z0-9 ]*PRIVATE KEY|LS0tLS1CRUdJTi"  # the second one is the first in base64
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\b(?:gh[pousr]_|github_pat_|glpat-|xox[abprs]-|sk-|AIza)[\w-]{16,}"
    r"|://[^/\s:@]{1,200}:[^/\s@]{1,200}@"  # a password in a URL
)
_RUNS = re.compile(r"[^\w.-]+")  # between what may be a JWT
_BASIC = re.compile(r"(?i:basic)\s+([A-Za-z0-9+/]+={0,2})\s*")
_HEADER = 9  # characters that the first part of a JWT has at least
_MOST = 200  # secrets of a record that are looked for elsewhere in it; of one with more, nothing is told
_SHORT = 4  # characters; a shorter secret is found only where it is all of a text
_SMALL = 1000  # an int below it may be anything


class Left(Struct):
    """What is known of a record while it is redacted: what was left out, and where."""

    texts: set[str] = field(default_factory=set)
    numbers: set[int] = field(default_factory=set)
    places: list[str] = field(default_factory=list)

    def take(self, value: Any, where: str) -> Any:
        """Leave a value out."""
        if where not in self.places:
            self.places.append(where)
        self._note(value)
        return REDACTED

    def _note(self, value: Any) -> None:
        kind = type(value)
        if kind is str and value:
            self.texts.add(value)
        elif kind is bytes and value:
            self.texts.update((value.decode("latin-1"), base64.b64encode(value).decode("ascii")))
        elif kind is int and abs(value) >= _SMALL:
            self.numbers.add(value)
            self.texts.add(str(value))
        elif kind is list or kind is dict:
            for each in value if kind is list else value.values():
                self._note(each)

    def told(self) -> list[str]:
        """Return the places, without those whose names are secrets themselves."""
        return list(dict.fromkeys(re.split(r"[.\[]", place)[0] if self.has(place) else place for place in self.places))

    def has(self, value: Any) -> bool:
        """Tell whether a scalar is, or contains, what was left out."""
        kind = type(value)
        if kind is int:
            return value in self.numbers or str(value) in self.texts
        if kind is bytes:
            value = value.decode("latin-1")
        elif kind is not str:
            return False
        return value in self.texts or any(len(each) >= _SHORT and each in value for each in self.texts)


class Redactor:
    """Leaves out what is not to be told.

    Arguments:
        places: what the options name.
        secrets: whether what looks like a secret is left out, too.
        prefix: what the gateway's own API keys begin with.

    """

    def __init__(self, places: tuple[Place, ...], *, secrets: bool, prefix: str) -> None:
        self._places = places
        self._secrets = secrets
        self._prefix = prefix

    def redact(
        self, method: str, names: Sequence[str], params: Params | None, outcome: dict[str, Any]
    ) -> tuple[Any, dict[str, Any], Left]:
        """Leave out what is not to be told of a call.

        Args:
            method: the name that was called.
            names: the names of the method's parameters.
            params: the arguments; None where they are not recorded.
            outcome: the result or the fault, by this name; empty where there is none.

        Returns:
            the arguments and the outcome without it, and what was left out.

        """
        left = Left()
        said: dict[str, Any] = {"params": params, **outcome}
        for root, value in said.items():
            ways = beginning(self._places, method, root)
            if () in ways:
                said[root] = left.take(value, root)
            elif root == "params" and value is not None:
                said[root] = self._params(value, names, ways, left)
            else:
                said[root] = self._swept(value, ways, root, left)
        if len(left.texts) > _MOST:
            said = {root: left.take(None, root) for root in said}
        elif left.places:
            said = {root: self._without(value, root, left) for root, value in said.items()}
        return said.pop("params"), said, left

    def is_secret(self, text: str) -> bool:
        """Tell whether a text looks like a secret."""
        return self._secrets and (self._prefix in text or _looks_secret(text))

    def _params(self, params: Params, names: Sequence[str], ways: frozenset[Steps], left: Left) -> Params:
        if isinstance(params, dict):
            places = {name: index for index, name in enumerate(names)}
            if self._has_secret_name(params):
                taken: Any = left.take(list(params), "params")
                return taken  # type: ignore[no-any-return]
            return {
                name: self._child(
                    each, name, beyond(ways, name, *item(places.get(name, -1))), inside("params", name), left
                )
                for name, each in params.items()
            }
        told = [*names, *[""] * len(params)]
        return [
            self._child(each, told[index], beyond(ways, *item(index), told[index]), f"params[{index}]", left)
            for index, each in enumerate(params)
        ]

    def _child(self, value: Any, name: str, ways: frozenset[Steps], where: str, left: Left) -> Any:
        if () in ways:
            return left.take(value, where)
        if self._secrets and value is not None and type(value) is not bool and _names_secret(name[:200]):
            return left.take(value, where)
        return self._swept(value, ways, where, left)

    def _swept(self, value: Any, ways: frozenset[Steps], where: str, left: Left) -> Any:
        kind = type(value)
        if kind is str or kind is bytes:
            text = value if kind is str else value.decode("latin-1")
            return left.take(value, where) if self.is_secret(text) else value
        if kind is list:
            return [
                self._child(each, "", beyond(ways, *item(index)), f"{where}[{index}]", left)
                for index, each in enumerate(value)
            ]
        if kind is not dict:
            return value
        if self._has_secret_name(value):
            return left.take(list(value), where)
        named = next((value[name] for name in ("name", "key") if type(value.get(name)) is str), "")  # of a "value"
        return {
            name: self._child(each, named if name == "value" else name, beyond(ways, name), inside(where, name), left)
            for name, each in value.items()
        }

    def _has_secret_name(self, members: dict[str, Any]) -> bool:
        return any(map(self.is_secret, members))

    def _without(self, value: Any, where: str, left: Left) -> Any:
        kind = type(value)
        if kind is list:
            return [self._without(each, f"{where}[{index}]", left) for index, each in enumerate(value)]
        if kind is dict:
            if any(map(left.has, value)):
                return left.take(None, where)
            return {name: self._without(each, inside(where, name), left) for name, each in value.items()}
        return left.take(None, where) if left.has(value) else value


@lru_cache(maxsize=4096)
def _names_secret(name: str) -> bool:
    """Tell whether a value under a name is one, as far as the name says."""
    if _PARTS.search(re.sub(r"[\W_]", "", name.lower())):
        return True
    return any(word.lower() in _WORDS for word in _WORD.findall(name))


def _is_jwt(run: str) -> bool:
    """Tell whether one of the parts that points separate begins one: two more are behind it."""
    return any("eyJ" in part and len(part) - part.index("eyJ") >= _HEADER for part in run.split(".")[:-2])


def _looks_secret(text: str) -> bool:
    if _VALUE.search(text) or ("eyJ" in text and any(map(_is_jwt, _RUNS.split(text)))):
        return True
    basic = _BASIC.fullmatch(text)
    if basic is None:
        return False
    try:
        return b":" in base64.b64decode(basic[1], validate=True)
    except binascii.Error:
        return False
