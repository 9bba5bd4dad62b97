"""Who may call: the section ``[access]`` of the configuration. gateway/core/access.py enforces it."""

import fnmatch
from typing import Annotated

from msgspec import Meta, Struct

from gateway.config.server import OptionalFunction
from gateway.model.calls import Caller
from gateway.model.networks import Network, address

KEY_PREFIX = "gw_"  # what each key that ``gateway key`` makes begins with


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may call the methods whose names match one of the patterns (``*`` stands for any characters).

    Each of networks, keys and certificates that is given must match the caller, by any of its entries; an empty list
    matches nobody.
    """

    methods: Annotated[tuple[str, ...], Meta(min_length=1)]
    networks: tuple[Network, ...] | None = None
    keys: tuple[str, ...] | None = None
    certificates: tuple[str, ...] | None = None

    def concerns(self, name: str) -> bool:
        """Tell whether the rule is about a method of this name."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.methods)

    def permits(self, caller: Caller) -> bool:
        """Tell whether this caller may make the calls that the rule is about."""
        return (
            (self.networks is None or self._is_near(caller.client))
            and (self.keys is None or caller.key in self.keys)
            and (self.certificates is None or caller.certificate in self.certificates)
        )

    def _is_near(self, client: str) -> bool:
        found = address(client)
        return found is not None and any(found in network for network in self.networks or ())


class Access(Struct, frozen=True, kw_only=True):
    """Who may call. Empty lists let everybody in, except web pages."""

    trusted_proxies: Annotated[
        tuple[Network, ...],
        Meta(
            description='Peers whose X-Forwarded-For is trusted, like "127.0.0.1" for nginx on this machine: addresses'
            " and networks, IPv4 and IPv6. From all other peers the header is not read."
        ),
    ] = ()
    allow: Annotated[
        tuple[Network, ...],
        Meta(description='Networks that clients may call from, like "10.0.0.0/8" or "2001:db8::/32"; all if empty.'),
    ] = ()
    hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="Host names that requests may be for (the header Host, without the port), like"
            ' "rpc.example.com"; all if empty.'
        ),
    ] = ()
    origins: Annotated[
        tuple[str, ...],
        Meta(
            description='Origins of web pages that may call, like "https://app.example". All others are refused:'
            " otherwise any page that is open in a browser on this machine could call a gateway that only listens here."
        ),
    ] = ()
    keys: Annotated[
        dict[
            Annotated[str, Meta(pattern=r"^[\w.-]{1,64}$", description="a name of letters, digits and ._-")],
            Annotated[str, Meta(pattern="^sha256:[0-9a-f]{64}$", description="the hash that gateway key prints")],
        ],
        Meta(
            description='API keys: a name, and the hash that "gateway key NAME" prints with the key. Callers send'
            ' "Authorization: Bearer KEY", or use name and key as user and password: http://NAME:KEY@host/api. As soon'
            " as there is one key, callers need one.",
            examples=[{"odoo": "sha256:..."}],
        ),
    ] = {}
    anonymous: Annotated[
        bool,
        Meta(
            description="Whether callers without a key are let in although there are keys; access.rules can keep"
            " methods from them."
        ),
    ] = False
    authenticate: Annotated[
        OptionalFunction,
        Meta(
            description='The function that finds out who sends a request, in the place of keys, as module:function; ""'
            " for none. docs/hooks.md has an example with JWT. It may name callers, whom keys in access.rules then"
            " stands for."
        ),
    ] = ""
    rules: Annotated[
        tuple[Rule, ...],
        Meta(
            description="Who may call which methods. The first rule that matches a method decides. Each of networks,"
            " keys and certificates (common names) that a rule has must match the caller. A method that no rule matches"
            " is open to everybody who is let in. Each call of a batch is judged.",
            examples=[[{"methods": ["stock.*", "report"], "networks": ["10.0.0.0/8"], "keys": ["odoo"]}]],
        ),
    ] = ()
