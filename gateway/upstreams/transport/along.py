"""What goes along with a call to an upstream, where its configuration asks for it: as HTTP headers or gRPC metadata.

    along = along_of(options)       None where the options ask for nothing
    along(context)                  ((name, value), ...), the same for all attempts of a call

Nothing does by default. What a caller has sent is passed on as it is, but for what the protocol cannot carry, which is
left out. Who calls is what the gateway has found, never what the caller says: a header of that name is not passed on.
"""

import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Protocol, TypeAlias
from urllib.parse import quote

from msgspec import Meta

from gateway.model.calls import Context
from gateway.upstreams import Along

_VISIBLE = "".join(map(chr, range(0x21, 0x7F))).replace("%", "")
_OF_A_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_CREDENTIALS = frozenset({"authorization", "cookie"})
# Headers of one hop (RFC 9110, section 7.6.1), beside those that HTTP needs.
_OF_A_HOP = frozenset({"keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"})

_Header: TypeAlias = Annotated[
    str, Meta(pattern=r"^(?:[A-Za-z0-9!#$%&'*+.^_`|~-]+)?$", description="the name of a header, or nothing")
]
Forward: TypeAlias = Annotated[
    tuple[Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", description="the name of a header")], ...],
    Meta(description="Headers of the caller's request that are passed on, like traceparent."),
]
Identity: TypeAlias = Annotated[
    _Header, Meta(description="The header that tells the name of the caller's key or certificate.")
]
ClientAddress: TypeAlias = Annotated[
    _Header, Meta(description="The header that tells the client's address, like X-Forwarded-For.")
]
IdempotencyKey: TypeAlias = Annotated[
    _Header,
    Meta(description="The header with a key that all attempts of a call share: the caller's own, or else a new one."),
]


class AlongOptions(Protocol):
    """What the options of an upstream have that passes something on."""

    @property
    def forward(self) -> tuple[str, ...]:
        """Headers of the caller's request."""

    @property
    def identity(self) -> str:
        """The header with the name of the caller's key or certificate."""

    @property
    def client_address(self) -> str:
        """The header with the client's address."""

    @property
    def idempotency_key(self) -> str:
        """The header with a key of the call."""


def check_along(options: AlongOptions, fixed: Iterable[str], taken: Iterable[str]) -> None:
    """Check that no name comes twice, and that none is the gateway's own.

    Args:
        options: name what goes along.
        fixed: the names of the headers or the metadata of each call.
        taken: names that the gateway or the protocol needs, in lower case.

    Raises:
        ValueError: one of them is.

    """
    own = _OF_A_HOP.union(taken)
    given = [name.lower() for name in fixed]
    for option, names in _named(options).items():
        for name in map(str.lower, names):
            if name in own:
                raise ValueError(f"{option}: {name} cannot be chosen: the gateway sets it")
            if name in given:
                raise ValueError(f"{option}: {name} is named twice")
            given.append(name)


def _named(options: AlongOptions) -> Mapping[str, tuple[str, ...]]:
    single = {name: getattr(options, name) for name in ("identity", "client_address", "idempotency_key")}
    return {"forward": options.forward, **{option: (name,) for option, name in single.items() if name}}


def passes_credentials(options: object) -> bool:
    """Tell whether callers' own credentials go along, so that it is theirs that an upstream may refuse."""
    forwarded: tuple[str, ...] = getattr(options, "forward", ())
    return not _CREDENTIALS.isdisjoint(map(str.lower, forwarded))


def along_of(options: object) -> Callable[[Context], Along] | None:
    """Make what tells the headers of a call; None where nothing goes along."""
    forward: tuple[str, ...] = getattr(options, "forward", ())
    identity, client_address, key = (
        str(getattr(options, name, "")) for name in ("identity", "client_address", "idempotency_key")
    )
    if not (forward or identity or client_address or key):
        return None

    def along(context: Context) -> Along:
        told = [(name, value) for name in forward if (value := context.headers.get(name)) is not None]
        who = context.key if context.key is not None else context.caller.certificate
        if identity and who is not None:
            told.append((identity, quote(who, safe=_VISIBLE, errors="replace")))
        if client_address:
            told.append((client_address, context.client))
        if key:
            told.append((key, _key(context, key)))
        return tuple(told)

    return along


def _key(context: Context, header: str) -> str:
    """Return the key of a call: the caller's, with the place in a batch, or one that is made at the first attempt."""
    if not context.idempotency_key:
        given = context.headers.get(header)
        own = given if given is not None and _OF_A_KEY.fullmatch(given) else secrets.token_hex(16)
        context.idempotency_key = own if context.position is None else f"{own}-{context.position}"
    return context.idempotency_key
