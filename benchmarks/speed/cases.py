"""What is asked: a row for each kind of load.

GROUPS are the tables of the report, each with its cases. A server takes part in a case if it speaks the protocol,
offers the method, and the group does not name others.
"""

import json
import xmlrpc.client
from collections.abc import Sequence
from functools import cache
from typing import Any

from msgspec import Struct

from benchmarks.speed.servers import JSON, SERVERS, XML, Server

CONNECTIONS = (1, 16, 64, 256)
STRUCTS = 10_000
MARK = "0" * 32  # load.lua puts another number in its place in each request


class Case(Struct, frozen=True, kw_only=True):
    """A kind of load.

    Attributes:
        group: the key of its table.
        method: what is called.
        proxied: whether the heads are as behind nginx, each with another request id.
        structs: how many structs the argument holds; 0 for the two numbers of ``add``.
        seconds: of a round, in units of what was asked for.

    """

    group: str
    protocol: str
    method: str = "add"
    connections: int = 64
    proxied: bool = False
    structs: int = 0
    seconds: int = 1

    @property
    def key(self) -> str:
        """Return what stands for it in results.json."""
        return f"{self.group} {self.method} {self.connections}"


class Group(Struct, frozen=True, kw_only=True):
    """A table of the report.

    Attributes:
        title: its heading.
        note: what its rows have in common; a sentence or two.
        reference: the key of the server whose rate the others' are divided by.
        servers: the keys of those that take part; everybody but the ones with all cores, if there are none.

    """

    key: str
    title: str
    note: str
    reference: str
    servers: tuple[str, ...] = ()
    cases: tuple[Case, ...]

    def takes_part(self, server: Server, case: Case) -> bool:
        """Tell whether a server is measured in a case."""
        named = server.key in self.servers if self.servers else not server.spread
        return named and case.protocol in server.paths and case.method in server.methods


GROUPS = (
    Group(
        key="xml",
        title="XML-RPC",
        note="`add(7, 3)`; in the gateway an inline method. Short heads: Host, Content-Type, Content-Length.",
        reference="go",
        cases=tuple(Case(group="xml", protocol=XML, connections=each) for each in CONNECTIONS),
    ),
    Group(
        key="xml-proxied",
        title="XML-RPC as behind nginx",
        note="Ten lines in each head, with another X-Request-ID in each request.",
        reference="go",
        cases=(Case(group="xml-proxied", protocol=XML, proxied=True),),
    ),
    Group(
        key="xml-kinds",
        title="XML-RPC, `async def` and `def` in threads",
        note="`addAsync` is a coroutine, `addThread` runs in a thread. Go has a goroutine for each connection.",
        reference="go",
        cases=tuple(Case(group="xml-kinds", protocol=XML, method=each) for each in ("addAsync", "addThread")),
    ),
    Group(
        key="json",
        title="JSON-RPC",
        note="The same call, with short heads.",
        reference="jayson",
        cases=tuple(Case(group="json", protocol=JSON, connections=each) for each in CONNECTIONS),
    ),
    Group(
        key="json-proxied",
        title="JSON-RPC as behind nginx",
        note="The same ten lines.",
        reference="jayson",
        cases=(Case(group="json-proxied", protocol=JSON, proxied=True),),
    ),
    Group(
        key="json-kinds",
        title="JSON-RPC, `async def` and `def` in threads",
        note="The same methods.",
        reference="jayson",
        cases=tuple(Case(group="json-kinds", protocol=JSON, method=each) for each in ("addAsync", "addThread")),
    ),
    Group(
        key="structs",
        title=f"Echo of {STRUCTS:,} structs",
        note="Structs of five members, 4.2 MB of XML there and back, on one connection.",
        reference="go",
        cases=(Case(group="structs", protocol=XML, method="echo", connections=1, structs=STRUCTS, seconds=3),),
    ),
    Group(
        key="structs-json",
        title=f"Echo of {STRUCTS:,} structs, JSON",
        note="The same structs, 1.1 MB.",
        reference="jayson",
        cases=(Case(group="structs-json", protocol=JSON, method="echo", connections=1, structs=STRUCTS, seconds=2),),
    ),
    Group(
        key="workers",
        title="One worker and two",
        note="XML-RPC. Here the servers share both cores with wrk.",
        reference="one-worker",
        servers=("one-worker", "two-workers"),
        cases=(Case(group="workers", protocol=XML),),
    ),
)
BY_KEY = {group.key: group for group in GROUPS}
CASES = {case.key: case for group in GROUPS for case in group.cases}


def needed(groups: Sequence[Group]) -> list[Server]:
    """Return the servers that take part in any case of some groups."""
    return [each for each in SERVERS if any(group.takes_part(each, case) for group in groups for case in group.cases)]


_PROXIED = {
    "X-Forwarded-For": "198.51.100.17",
    "X-Forwarded-Proto": "https",
    "X-Request-ID": MARK,
    "User-Agent": "Python-xmlrpc/3.11",
    "Accept": "*/*",
    "Accept-Encoding": "gzip",
    "Accept-Language": "en",
}
_MEDIA_TYPES = {XML: "text/xml", JSON: "application/json"}


def structs(number: int) -> list[dict[str, Any]]:
    """Make structs of five members."""
    return [
        {
            "id": each,
            "name": f"item {each:05}",
            "price": each / 8,
            "ready": each % 3 == 0,
            "place": f"shelf {each % 97}",
        }
        for each in range(number)
    ]


@cache
def asked(case: Case) -> tuple[bytes, Any]:
    """Return the body of a case's call, and its right result."""
    params: tuple[Any, ...] = (structs(case.structs),) if case.structs else (7, 3)
    result = params[0] if case.structs else 10
    if case.protocol == XML:
        return xmlrpc.client.dumps(params, case.method).encode(), result
    call = {"jsonrpc": "2.0", "method": case.method, "params": params, "id": 1}
    return json.dumps(call).encode(), result


def request(case: Case, path: str) -> bytes:
    """Make the bytes of a case's request."""
    body, _ = asked(case)
    lines = {"Host": "localhost", "Content-Type": _MEDIA_TYPES[case.protocol], "Content-Length": str(len(body))}
    lines |= _PROXIED if case.proxied else {}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def result(case: Case, body: bytes) -> Any:
    """Read the result in the body of an answer.

    Raises:
        Exception: it is a fault, or is not an answer.

    """
    if case.protocol == XML:
        (value,), _ = xmlrpc.client.loads(body)
        return value
    return json.loads(body)["result"]
