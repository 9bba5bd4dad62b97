"""Addresses of instances, as directories have them: ``host:port``, ``[::1]:port`` or ``unix:/path``."""

import re

_ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:.]+(?:%[\w.-]+)?\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_UNIX = re.compile(r"unix:/[^\s,?#]{1,106}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")


def checked(address: str) -> str:
    """Return an address that can be one.

    Raises:
        ValueError: it cannot.

    """
    found = _ADDRESS.fullmatch(address)
    if (found is None or not 0 < int(found[1]) < 65536) and not _UNIX.fullmatch(address):
        raise ValueError("its address is not host:port or unix:/path, with a port from 1 to 65535")
    return address


def split(url: str) -> tuple[str, str]:
    """Return the scheme of a URL in lower case, and its address; its path and its query are left out.

    Raises:
        ValueError: it has no scheme, or its address cannot be one.

    """
    scheme, separator, rest = url.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        raise ValueError("its URL is not scheme://host:port")
    if rest.startswith("unix:"):
        return scheme.lower(), checked(rest)
    place = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in place:
        raise ValueError("its URL has credentials, which belong into the options of the upstream")
    return scheme.lower(), checked(place)


def joined(host: str, port: int) -> str:
    """Return the address of a host, whose IPv6 address has no brackets yet."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
