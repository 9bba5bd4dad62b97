"""The names of nodes in Dubbo's layout: the URL of an instance, percent-encoded.

    /dubbo/<service>/providers/tri%3A%2F%2F10.0.0.7%3A50051%2F<service>%3Fversion%3D1.4%26weight%3D100%26...

``configurators``, ``routers`` and ``consumers`` stand beside ``providers``, and are not read.
"""

from collections.abc import Mapping
from urllib.parse import quote, unquote, unquote_plus

from gateway.fleet.directories.addresses import split
from gateway.fleet.listing import Instance

_WEIGHT = 100  # of a node that says nothing of it
_LONGEST_LABEL = 200  # characters
_OWN = {
    "version",
    "group",
    "weight",
    "timestamp",
    "zone",
    "tls_name",
    "methods",
    "enabled",
    "disabled",
    "side",
    "dubbo",
}


def providers(root: str, service: str) -> str:
    """Return the path of the node whose children are the instances of a service."""
    return f"{root.rstrip('/')}/{quote(service, safe='')}/providers"


def instance_of(node: str) -> Instance | None:
    """Read the name of a node; None for one that takes no calls.

    Raises:
        ValueError: it is not the URL of an instance.

    """
    url = unquote_plus(node)
    scheme, address = split(url)
    query = _query(url)
    if query.get("enabled") == "false" or query.get("disabled") == "true":
        return None
    weight, timestamp = query.get("weight", ""), query.get("timestamp", "")
    if weight and not (weight.isascii() and weight.isdecimal() and len(weight) < 8):
        raise ValueError(f"its weight is not a number: {weight[:20]!r}")
    started = int(timestamp) / 1000 if timestamp.isascii() and timestamp.isdecimal() and len(timestamp) < 16 else None
    return Instance(
        address=address,
        scheme=scheme,
        server_name=query.get("tls_name", ""),
        weight=int(weight) if weight else _WEIGHT,
        version=query.get("version", ""),
        group=query.get("group", ""),
        zone=query.get("zone", ""),
        started=started,
        labels={
            name: value for name, value in query.items() if name not in _OWN and len(name) + len(value) < _LONGEST_LABEL
        },
    )


def node_of(scheme: str, address: str, path: str, query: Mapping[str, str]) -> str:
    """Return the name of the node of an instance."""
    members = "&".join(f"{name}={quote(value, safe=',*')}" for name, value in query.items())
    return quote(f"{scheme}://{address}{path}?{members}", safe="")


def _query(url: str) -> dict[str, str]:
    members = (member.partition("=") for member in url.partition("?")[2].split("&"))
    return {name: unquote(value) for name, equals, value in members if equals}
