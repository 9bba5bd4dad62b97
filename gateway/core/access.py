"""Who is let in: the one place that decides it, for all hosts, from the head of a request.

    policy.judge(head) -> Caller      the client's address, and its key if it has one
                       -> AccessDenied    the status, 401 or 403, and, for the log alone, the reason
    policy.permits(name, caller)    whether a caller may call a method; asked for each call of a batch, too

The client's address is that of the TCP peer, unless the peer is a trusted proxy. Then, and only then, X-Forwarded-For
is read, from right to left, and the first address that is not a trusted proxy is the client; anything but a plain
address there is refused. No other forwarding header is ever read.

A key is shown as ``Authorization: Bearer KEY``, or as the password of ``Authorization: Basic`` with the key's name as
the user (RFC 6750, RFC 7617). Of a key only the SHA-256 is kept: it has 256 random bits, so there is nothing to guess
and no need for a slow hash. All of them are compared, each in constant time.
"""

import base64
import binascii
import hashlib
import hmac
import logging
import secrets
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TypeAlias

from gateway.config.access import KEY_PREFIX, Access
from gateway.methods import place_of
from gateway.methods.hooks import returned
from gateway.model.calls import Caller
from gateway.model.hooks import Authenticate
from gateway.model.http import AccessDenied, HTTPRequest
from gateway.model.networks import Address, address
from gateway.wire.http_grammar import host_name

_log = logging.getLogger("gateway.errors")

_DIGEST = "sha256:"
_LONGEST_KEPT = 100  # characters of X-Forwarded-For: two or three addresses
_Client: TypeAlias = tuple[str | None, bool, bool]  # its address; whether a proxy stands between; whether it may call


class AccessPolicy:
    """The rules of a deployment; empty ones let everybody in, except web pages.

    A request with an Origin comes from a page. Unless its site is listed, that page was not asked for, and is refused.

    Args:
        access: the rules.
        authenticate: a function of the user's in the place of ``access.keys``; it is asked last.

    Attributes:
        is_constant: whether two requests with the same head, peer and certificate always have the same verdict.

    """

    def __init__(self, access: Access, authenticate: Authenticate | None = None) -> None:
        self.is_constant = authenticate is None
        self._access = access
        self._authenticate = authenticate
        self._hosts = frozenset(host.lower() for host in access.hosts)
        self._keys = {name: stored.removeprefix(_DIGEST) for name, stored in access.keys.items()}
        self._peer = lru_cache(maxsize=4096)(self._find_client)
        self._forwarded = lru_cache(maxsize=4096)(self._find_forwarded)

    def judge(self, head: HTTPRequest) -> Caller | AccessDenied:
        """Return who sends a request, or why it is refused."""
        headers, located = head.headers, self.locate(head)
        if isinstance(located, AccessDenied):
            return located
        client, is_proxied = located
        if "Origin" in headers and headers["Origin"] not in self._access.origins:
            return AccessDenied(403, "the Origin is not in access.origins")
        key = head.user
        if key is None and self._keys:
            authorization = headers.get("Authorization")
            key = None if authorization is None else self._key(authorization)
            if key is None and (authorization is not None or not self._access.anonymous):
                return AccessDenied(401, "no key" if authorization is None else "the key is not in access.keys")
        caller = Caller(client=client, key=key, certificate=head.certificate, is_proxied=is_proxied)
        return caller if self._authenticate is None else _asked(self._authenticate, head, caller)

    def locate(self, head: HTTPRequest) -> tuple[str, bool] | AccessDenied:
        """Return the address that a request comes from, and whether a proxy stands between; or why it is refused."""
        client, is_proxied, is_allowed = self._locate(head.peer, head.headers)
        if client is None:
            return AccessDenied(403, "the client's address is not known: X-Forwarded-For does not hold a plain address")
        if not is_allowed:
            return AccessDenied(403, f"{client} is not in access.allow")
        if self._hosts and host_name(head.headers.get("Host", "")) not in self._hosts:
            return AccessDenied(403, "the Host is not in access.hosts")
        return client, is_proxied

    def _locate(self, peer: str, headers: Mapping[str, str]) -> _Client:
        """Find the client. Only what trusted proxies send is kept, and only if it is short: callers choose the rest."""
        found = self._peer(peer)
        if not found[1] or (forwarded := headers.get("X-Forwarded-For")) is None:
            return found
        return self._forwarded(forwarded) if len(forwarded) <= _LONGEST_KEPT else self._find_forwarded(forwarded)

    def permits(self, names: Iterable[str], caller: Caller) -> bool:
        """Return whether a caller may call a method that has these names, each of which must be permitted."""
        for name in names:
            rule = next((rule for rule in self._access.rules if rule.concerns(name)), None)
            if rule is not None and not rule.permits(caller):
                return False
        return True

    def _find_client(self, peer: str) -> _Client:
        """Find out who a peer is, without its scope, as in fe80::1%eth0, which is this machine's name for a network."""
        found = address(peer.partition("%")[0])
        if found is None:
            return None, False, False
        return str(found), self._is_trusted(found), self._is_allowed(found)

    def _find_forwarded(self, forwarded: str) -> _Client:
        """Find out for whom a trusted proxy sends a request: the last address that is not a trusted proxy's."""
        found = None
        for hop in reversed(forwarded.split(",")):
            found = address(hop.strip(" \t"))
            if found is None:
                return None, True, False
            if not self._is_trusted(found):
                break
        assert found is not None  # noqa: S101 - split returns one part at least
        return str(found), True, self._is_allowed(found)

    def _is_allowed(self, client: Address) -> bool:
        return not self._access.allow or any(client in network for network in self._access.allow)

    def _is_trusted(self, peer: Address) -> bool:
        return any(peer in network for network in self._access.trusted_proxies)

    def _key(self, authorization: str) -> str | None:
        """Return the name of the key that is sent. All are compared, so the time does not depend on which it is."""
        user, shown = _credentials(authorization)
        digest = hashlib.sha256(shown).hexdigest()
        found = [name for name, stored in self._keys.items() if hmac.compare_digest(stored, digest)]
        return found[0] if found and user in (None, found[0]) else None


def _asked(authenticate: Authenticate, head: HTTPRequest, caller: Caller) -> Caller | AccessDenied:
    """Let a function of the user's decide; nobody is let in where it fails."""
    try:
        found = authenticate(head, caller)
        return found if isinstance(found, AccessDenied) else returned(authenticate, found, Caller)
    except Exception:  # noqa: BLE001 - whatever a user's function raises
        _log.exception("%s: the authentication has failed", place_of(authenticate))
        return AccessDenied(403, "the authentication has failed")


def make_key() -> tuple[str, str]:
    """Make an API key.

    Returns:
        the key, which only its holder keeps, and the hash of it for ``access.keys``.

    """
    key = f"{KEY_PREFIX}{secrets.token_urlsafe(32)}"
    return key, _DIGEST + hashlib.sha256(key.encode()).hexdigest()


def _credentials(authorization: str) -> tuple[str | None, bytes]:
    """Return the user, None where the scheme has none, and the key."""
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return None, rest.strip().encode("utf-8", "replace")
    if scheme.lower() != "basic":
        return None, b""
    try:
        user, _, key = base64.b64decode(rest.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None, b""
    return user.decode("utf-8", "replace"), key
