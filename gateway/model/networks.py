"""IP addresses and networks, as they stand in a configuration and in X-Forwarded-For.

    Network("10.0.0.0/8")       a network, or one address; IPv4 and IPv6
    address("::ffff:10.0.0.5")  10.0.0.5: what arrives over IPv6 is the IPv4 address that it stands for

Nothing is guessed: an address is written out in full, in decimal without leading zeros, or in the forms of RFC 4291.
"""

import ipaddress
from functools import lru_cache
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


class Network:
    """A network, or a single address.

    Raises:
        ValueError: the text is neither; it says what is expected.

    """

    __slots__ = ("_network",)

    def __init__(self, text: str) -> None:
        try:
            self._network = ipaddress.ip_network(text)
        except ValueError:
            raise ValueError("a network like 10.0.0.0/8 or 2001:db8::/32, or an address") from None

    def __contains__(self, sought: Address) -> bool:
        return sought in self._network

    @property
    def version(self) -> int:
        """4 or 6."""
        return self._network.version

    @property
    def prefix_length(self) -> int:
        """How many bits its addresses share; 0 is all addresses."""
        return self._network.prefixlen

    @property
    def is_private(self) -> bool:
        """Whether none of its addresses is one of the internet."""
        return self._network.is_private

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Network) and self._network == other._network

    def __hash__(self) -> int:
        return hash(self._network)

    def __str__(self) -> str:
        """Write it as nginx and gateway.toml read it."""
        return str(self._network)

    def __repr__(self) -> str:
        return f"Network({str(self)!r})"


def address(text: str) -> Address | None:
    """Read an address; None if the text is not one, or has a scope (%), which may be any text (RFC 4007, 11)."""
    if "%" in text:
        return None
    try:
        read = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(read, "ipv4_mapped", None) or read


@lru_cache(maxsize=4096)  # it is asked for each request, and to read an address takes as long as a tenth of a call
def client_of(peer: str) -> str:
    """Return who has an address: the address itself, or the /64 of an IPv6 one, all of which one customer has."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address) if address.is_loopback else str(ipaddress.ip_network((address, 64), strict=False))
