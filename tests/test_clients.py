"""What real clients send is understood, and no answer has what breaks one of them.

The requests are those of some forty client programs, byte for byte where the form is what matters. Each row of BREAKS
is an answer that some client cannot read: the pattern that finds it, and an answer bent so, which it has to find.
"""

import gzip
import http.client
import json
import re
import urllib.request
import xmlrpc.client
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from gateway import Context, Fault, Registry
from tests.raw_http import Response, Wire, exchange, post, request
from tests.serving import Server, serving

pytestmark = pytest.mark.unmeasured

registry = Registry()


@registry.register(run="inline")
def echo(value: Any) -> Any:
    return value


@registry.register(run="inline")
def echo_all(*values: Any) -> Any:
    return list(values)


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@registry.register(run="inline")
def header(name: str, context: Context) -> str | None:
    return context.headers.get(name)


notified: list[Any] = []


@registry.register(run="inline")
def note(value: Any) -> None:
    notified.append(value)


@registry.register(name="größe", run="inline")
def size() -> str:
    return "180 cm"


@registry.register(run="inline")
def make(kind: str) -> Any:
    return MADE[kind]


@registry.register(run="inline")
def fail(kind: str) -> Any:
    if kind == "crash":
        raise RuntimeError("expected by the test")
    raise Fault(4, "Größer als <4> & rot", {"more": 1})


MADE: dict[str, Any] = {
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "small": 5,
    "int32": [2**31 - 1, -(2**31)],
    "int64": [2**31, -(2**63)],
    "doubles": [0.1, 3.14159, 1e-07, 1e22, -0.0, 1.0, 2.5e300],
    "empty string": "",
    "strings": ["a", " ", "é", "漢字", "a\r\nb\tc", "]]>", "<b>&amp;'\"</b>"],
    "bytes": [b"", b"raw" * 50],
    "date": datetime(2024, 2, 29, 12, 34, 56),
    "dates": [
        datetime(2024, 2, 29, 12, 34, 56, 250000),
        datetime(2024, 2, 29, 12, 34, 56, tzinfo=UTC),
        datetime(2024, 2, 29, 12, 34, 56, 1, timezone(timedelta(hours=-8))),
        datetime(1, 1, 1),
    ],
    "empty array": [],
    "empty struct": {},
    "nested": {"a": [{}, [], {"b": ["", None]}], "": {}},
    "large": ["a fine long line of text"] * 200,
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(registry, {"access.origins": "http://example.com"}) as server:
        yield server


def xml(*values: str, method: str = "echo_all", start: str = '<?xml version="1.0"?><methodCall>') -> str:
    params = "".join(f"<param>{value}</param>" for value in values)
    return f"{start}<methodName>{method}</methodName><params>{params}</params></methodCall>"


def result(response: Response | None) -> Any:
    """Return the value of an answer in either protocol."""
    assert response is not None
    assert response.status == 200
    if response.headers["content-type"] == "application/json":
        return json.loads(response.body)["result"]
    assert response.headers["content-type"] == "text/xml; charset=utf-8"
    (value,), _ = xmlrpc.client.loads(response.body, use_builtin_types=True)
    return value


ADD_XML = xml("<value><int>2</int></value>", "<value><int>3</int></value>", method="add").encode()
ADD_JSON = b'{"jsonrpc": "2.0", "method": "add", "params": [2, 3], "id": 1}'

# ---- requests: HTTP --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api", "/RPC2", "/jsonrpc", "/"])
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (ADD_XML, [("Content-Type", "text/xml")]),
        (ADD_XML, [("Content-Type", "text/xml; charset=utf-8")]),
        (ADD_XML, [("Content-Type", "text/xml;charset=UTF-8")]),
        (ADD_XML, [("Content-Type", 'text/xml; charset="utf-8"')]),
        (ADD_XML, [("content-type", "TEXT/XML")]),
        (ADD_XML, [("Content-Type", "application/xml")]),
        (ADD_XML, []),
        (b"\r\n\t " + ADD_XML + b"\n", []),
        (b"\xef\xbb\xbf" + ADD_XML, []),
        (ADD_XML, [("Content-Type", "application/x-www-form-urlencoded")]),
        (ADD_XML, [("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")]),
        (ADD_JSON, [("Content-Type", "application/json")]),
        (ADD_JSON, [("Content-Type", "application/json; charset=utf-8")]),
        (ADD_JSON, [("Content-Type", "application/json-rpc")]),
        (ADD_JSON, [("Content-Type", "application/jsonrequest")]),
        (ADD_JSON, []),
        (b"\r\n\t " + ADD_JSON + b"\n", []),
        (ADD_JSON, [("Content-Type", "application/x-www-form-urlencoded")]),
    ],
)
def test_the_type_or_else_the_body_tells_the_protocol(
    server: Server, path: str, body: bytes, headers: list[tuple[str, str]]
) -> None:
    response = exchange(server.port, request(path, headers, body))
    assert result(response) == 5
    assert response.headers["content-type"].startswith("text/xml" if b"<" in body else "application/json")


@pytest.mark.parametrize("content_type", [None, "application/x-www-form-urlencoded", "text/plain"])
@pytest.mark.parametrize("body", [ADD_XML, ADD_JSON])
def test_with_an_origin_only_the_type_tells(server: Server, content_type: str | None, body: bytes) -> None:
    headers = [("Content-Type", content_type)] if content_type is not None else []
    response = exchange(server.port, request("/api", [*headers, ("Origin", "http://example.com")], body))
    assert response.status == 415


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", "Basic dXNlcjpwYXNz")],
        [("Cookie", "session=1; other=2"), ("Cookie2", "$Version=1")],
        [("Accept", "text/xml")],
        [("Accept", "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"), ("Connection", "keep-alive")],
        [("Accept", "application/json-rpc")],
        [("Accept", "image/png")],
        [("Accept-Charset", "UTF8"), ("charsets", "utf-8")],
        [("Accept-Language", "*"), ("sec-fetch-mode", "cors"), ("User-Agent", "node")],
        [("Referer", "http://elsewhere.example/"), ("X-Requested-With", "XMLHttpRequest")],
        [("User-Agent", "")],
        [("Content-Language", "de"), ("Cache-Control", "no-cache"), ("Pragma", "no-cache")],
        [("TE", "deflate,gzip;q=0.3"), ("User-Agent", "libwww-perl/6.67")],
    ],
)
@pytest.mark.parametrize(("body", "content_type"), [(ADD_XML, "text/xml"), (ADD_JSON, "application/json")])
def test_headers_that_nobody_asked_for_change_nothing(
    server: Server, headers: list[tuple[str, str]], body: bytes, content_type: str
) -> None:
    response = exchange(server.port, request("/api", [("Content-Type", content_type), *headers], body))
    assert result(response) == 5
    assert not {"content-encoding", "www-authenticate", "set-cookie", "vary"} & response.headers.keys()


def raw(start: str, headers: Iterable[str], body: bytes) -> bytes:
    lines = [start, *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


@pytest.mark.parametrize(
    "headers",
    [
        ["User-Agent: The Incutio XML-RPC PHP Library", "Host: localhost", "Content-Type: text/xml"],
        ["Content-Type: text/xml"],
        ["Content-type: text/xml", "User-Agent: Tcl http client package", "Accept: */*"],
        ["Content-Type: text/xml", "Host: localhost", "Connection: close"],
    ],
)
def test_an_http_1_0_caller_gets_a_whole_answer_and_a_closed_connection(server: Server, headers: list[str]) -> None:
    with Wire(server.port) as wire:
        wire.send(raw("POST /RPC2 HTTP/1.0", headers, ADD_XML))
        response = wire.read()
        assert result(response) == 5
        assert response is not None
        assert "transfer-encoding" not in response.headers
        assert "keep-alive" not in response.headers.get("connection", "").lower()
        assert wire.is_closed()


@pytest.mark.parametrize("value", ["keep-alive", "Keep-Alive"])
def test_an_http_1_0_caller_that_asks_for_it_keeps_its_connection(server: Server, value: str) -> None:
    with Wire(server.port) as wire:
        for _ in range(3):
            wire.send(raw("POST /RPC2 HTTP/1.0", ["Content-Type: text/xml", f"Connection: {value}"], ADD_XML))
            response = wire.read()
            assert result(response) == 5
            assert response is not None
            assert response.headers["connection"].lower() == "keep-alive"


def test_a_connection_is_kept_for_the_next_call_until_the_caller_closes_it(server: Server) -> None:
    with Wire(server.port) as wire:
        for body, content_type in [(ADD_XML, "text/xml"), (ADD_JSON, "application/json")] * 3:
            wire.send(request("/api", {"Content-Type": content_type}, body))
            response = wire.read()
            assert result(response) == 5
            assert response is not None
            assert "connection" not in response.headers
        wire.send(request("/api", {"Content-Type": "text/xml", "Connection": "close"}, ADD_XML))
        last = wire.read()
        assert result(last) == 5
        assert last is not None
        assert last.headers["connection"] == "close"
        assert wire.is_closed()


def test_calls_sent_at_once_are_answered_in_their_order(server: Server) -> None:
    numbers = range(20)
    calls = [{"jsonrpc": "2.0", "method": "echo", "params": [number], "id": number} for number in numbers]
    with Wire(server.port) as wire:
        wire.send(b"".join(request("/api", {}, json.dumps(call).encode()) for call in calls))
        assert [result(wire.read()) for _ in numbers] == list(numbers)


@pytest.mark.parametrize("cut", [1, 7, 4096])
@pytest.mark.parametrize(("body", "content_type"), [(ADD_XML, "text/xml"), (ADD_JSON, "application/json")])
def test_a_chunked_body_is_put_together(server: Server, cut: int, body: bytes, content_type: str) -> None:
    pieces = [body[i : i + cut] for i in range(0, len(body), cut)]
    head = (
        f"POST /api HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    with Wire(server.port) as wire:
        for _ in range(2):
            wire.send(head.encode() + chunks + b"0\r\n\r\n")
            assert result(wire.read()) == 5


def test_whoever_expects_100_continue_gets_it_before_the_body(server: Server) -> None:
    text = "x" * (2**20 - 200)
    body = json.dumps({"jsonrpc": "2.0", "method": "echo", "params": [text], "id": 1}).encode()
    whole = request("/api", {"Content-Type": "application/json", "Expect": "100-continue"}, body)
    with Wire(server.port) as wire:
        for _ in range(2):
            wire.send(whole[: -len(body)])
            interim = wire.read()
            assert interim is not None
            assert (interim.status, interim.body) == (100, b"")
            wire.send(body)
            assert result(wire.read()) == text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/json", "Content-Encoding": "br"}, 415),
        ({"Content-Type": "text/html"}, 415),
    ],
)
def test_whoever_expects_100_continue_for_nothing_hears_so_before_the_body(
    server: Server, headers: dict[str, str], status: int
) -> None:
    with Wire(server.port) as wire:
        wire.send(request("/api", {**headers, "Expect": "100-continue"}, ADD_JSON)[: -len(ADD_JSON)])
        response = wire.read()
        assert response is not None
        assert response.status == status


PERL = b"""<?xml version="1.0" encoding="us-ascii"?>\
<methodCall><methodName>echo_all</methodName><params><param><value><i8>5</i8></value></param><param><value>\
<string>gr&#252;n</string></value></param><param><value><nil/></value></param></params></methodCall>"""
IXR = b"""<?xml version="1.0"?>
<methodCall>
<methodName>echo_all</methodName>
<params>
<param><value><int>5</int></value></param>
<param><value><string>a &amp; b</string></value></param>
</params></methodCall>
"""
DAVE = b"""<?xml version="1.0"?>
<methodCall>
\t<methodName>echo_all</methodName>
\t<params>
\t\t<param>
\t\t\t<value><boolean>true</boolean></value>
\t\t\t</param>
\t\t<param>
\t\t\t<value><dateTime.iso8601>2024-02-29T12:34:56.000Z</dateTime.iso8601></value>
\t\t\t</param>
\t\t</params>
\t</methodCall>
"""
PHP = b"""<?xml version="1.0" encoding="iso-8859-1"?>
<methodCall>
<methodName>echo_all</methodName>
<params>
 <param>
  <value>
   <array>
    <data>
     <value>
      <string>gr&#252;n</string>
     </value>
     <value>
      <struct/>
     </value>
    </data>
   </array>
  </value>
 </param>
</params>
</methodCall>
"""
XMLRPC_C = b"""<?xml version="1.0" encoding="UTF-8"?>\r
<methodCall xmlns:ex="http://ws.apache.org/xmlrpc/namespaces/extensions">\r
<methodName>echo_all</methodName>\r
<params>\r
<param><value><ex:i8>5</ex:i8></value></param>\r
<param><value><ex:nil/></value></param>\r
<param><value><dateTime.iso8601>20231114T22:13:20.250000</dateTime.iso8601></value></param>\r
</params>\r
</methodCall>\r
"""
NODE = b"""<?xml version="1.0"?><methodCall><methodName>echo_all</methodName><params><param><value><string>\
<![CDATA[<b>]]></string></value></param><param><value><int>1700000000000</int></value></param><param><value><array>\
<data/></array></value></param><param><value><string/></value></param></params></methodCall>"""
LITE = b"""<?xml version="1.0" encoding="UTF-8"?><methodCall><methodName>echo_all</methodName><params><param>\
<value /></param></params></methodCall>"""
JAVA = b"""<?xml version='1.0' encoding='UTF-8' standalone='yes' ?>
<methodCall>
  <methodName>echo_all</methodName>
  <params>
    <param>
      <value>
        <dateTime.iso8601>20240229T123456</dateTime.iso8601>
      </value>
    </param>
  </params>
</methodCall>"""
GO = b"<methodCall><methodName>echo_all</methodName></methodCall>"
RUBY = b"""<?xml version="1.0" ?><methodCall><methodName>add</methodName><params><param><value><i4>2</i4></value>\
</param><param><value><i4>3</i4></value></param></params></methodCall>
"""
DAY = datetime(2024, 2, 29, 12, 34, 56)
EVENING = datetime(2023, 11, 14, 22, 13, 20)
CLIENTS: list[tuple[str, str, bytes, Any]] = [
    (
        "Perl RPC::XML",
        """\
POST /RPC2 HTTP/1.1
TE: deflate,gzip;q=0.3
Connection: TE
Accept: */*
Accept-Encoding: deflate
Host: localhost:8000
User-Agent: RPC::XML::Client/1.42
Content-Type: text/xml
Content-Encoding: deflate""",
        zlib.compress(PERL),
        [5, "grün", None],
    ),
    (
        "Perl XMLRPC::Lite",
        """\
POST /RPC2 HTTP/1.1
TE: deflate,gzip;q=0.3
Connection: TE, close
Accept: text/xml
Accept: multipart/*
Host: localhost
User-Agent: SOAP::Lite/Perl/1.27
Content-Type: text/xml; charset=utf-8""",
        LITE,
        [""],
    ),
    (
        "WordPress IXR",
        """\
POST /RPC2 HTTP/1.0
Host: localhost
Content-Type: text/xml
User-Agent: The Incutio XML-RPC PHP Library""",
        IXR,
        [5, "a & b"],
    ),
    (
        "Tcl xmlrpc",
        """\
POST /RPC2 HTTP/1.0
Content-Type: text/xml
User-Agent: Tcl""",
        IXR,
        [5, "a & b"],
    ),
    (
        "davexmlrpc",
        """\
POST /RPC2 HTTP/1.1
Host: localhost
Connection: keep-alive""",
        DAVE,
        [True, DAY],
    ),
    (
        "PHP's extension by streams",
        """\
POST /RPC2 HTTP/1.1
Host: localhost
Connection: close
Content-Type: text/xml""",
        PHP,
        [["grün", {}]],
    ),
    (
        "PHP by curl, and what it leaves in place",
        """\
POST /RPC2 HTTP/1.1
Host: localhost:8000
Accept: */*
Accept-Encoding: deflate, gzip, br, zstd
Content-Type: application/x-www-form-urlencoded""",
        PHP,
        [["grün", {}]],
    ),
    (
        "xmlrpc-c in Apache's dialect",
        """\
POST /RPC2 HTTP/1.1
Host: localhost:8000
Accept: */*
User-Agent: Xmlrpc-c/1.54.6
Content-Type: text/xml""",
        XMLRPC_C,
        [5, None, EVENING],
    ),
    (
        "XmlRpc++",
        """\
POST /RPC2 HTTP/1.1
User-Agent: XMLRPC++ 0.7
Host: 127.0.0.1:8000
Content-Type: text/xml""",
        LITE,
        [""],
    ),
    (
        "node xmlrpc",
        """\
POST / HTTP/1.1
User-Agent: NodeJS XML-RPC Client
Content-Type: text/xml
Accept: text/xml
Accept-Charset: UTF8
Connection: Keep-Alive
Host: localhost:8000
Cookie: a=b""",
        NODE,
        ["<b>", 1700000000000, [], ""],
    ),
    (
        "aXMLRPC",
        """\
POST /RPC2 HTTP/1.1
Content-Type: text/xml; charset=utf-8
charsets: utf-8
User-Agent: aXMLRPC
Host: localhost:8000
Accept: text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2
Connection: keep-alive""",
        JAVA,
        [DAY],
    ),
    (
        "kolo for Go",
        """\
POST /RPC2 HTTP/1.1
Host: localhost:8000
User-Agent: Go-http-client/1.1
Content-Type: text/xml
Accept-Encoding: gzip""",
        GO,
        [],
    ),
    (
        "Ruby",
        """\
POST /RPC2 HTTP/1.1
User-Agent: XMLRPC::Client (Ruby 3.1.2)
Content-Type: text/xml; charset=utf-8
Connection: keep-alive
Accept-Encoding: gzip;q=1.0,deflate;q=0.6,identity;q=0.3
Accept: */*
Host: localhost:8000""",
        RUBY,
        5,
    ),
    (
        "tinyrpc",
        """\
POST / HTTP/1.1
Host: localhost:8000
User-Agent: python-requests/2.31
Accept: */*""",
        ADD_JSON,
        5,
    ),
    (
        "jayson",
        """\
POST / HTTP/1.1
Content-Type: application/json; charset=utf-8
Accept: application/json
Host: localhost""",
        b'{"method":"add","jsonrpc":"2.0","params":[2,3],"id":"e1b1a9a8-2f0a-4d3e-9a55-0c3f6a2f3f9e"}',
        5,
    ),
    (
        "jsonrpclib-pelix",
        """\
POST / HTTP/1.1
Host: localhost:8000
Accept-Encoding: gzip
Content-Type: application/json-rpc""",
        ADD_JSON,
        5,
    ),
    (
        "jsonrpc-requests",
        """\
POST /api HTTP/1.1
Host: localhost:8000
Content-Type: application/json
Accept: application/json-rpc""",
        b'{"jsonrpc": "2.0", "method": "echo_all", "id": 0}',
        [],
    ),
    (
        "libjson-rpc-cpp",
        """\
POST / HTTP/1.1
Host: localhost:8000
Content-Type: application/json
charsets: utf-8
Accept: */*""",
        b'{"id":1,"jsonrpc":"2.0","method":"add","params":[2,3]}\n',
        5,
    ),
    (
        "curl",
        """\
POST /api HTTP/1.1
Host: localhost:8000
User-Agent: curl/7.88.1
Accept: */*
Content-Type: application/x-www-form-urlencoded
Authorization: Basic dXNlcjpwYXNz""",
        ADD_JSON,
        5,
    ),
    (
        "fetch of node",
        """\
POST /api HTTP/1.1
host: localhost:8000
connection: keep-alive
content-type: application/json
accept: */*
accept-language: *
sec-fetch-mode: cors
user-agent: node
accept-encoding: gzip, deflate""",
        ADD_JSON,
        5,
    ),
]


@pytest.mark.parametrize(("head", "body", "expected"), [row[1:] for row in CLIENTS], ids=[row[0] for row in CLIENTS])
def test_a_clients_request_is_understood(server: Server, head: str, body: bytes, expected: Any) -> None:
    start, *headers = head.split("\n")
    with Wire(server.port) as wire:
        wire.send(raw(start, headers, body))
        assert result(wire.read()) == expected
        if start.endswith("1.0") or re.search(r"^Connection: .*close$", head, re.MULTILINE):
            assert wire.is_closed()
        else:
            wire.send(raw(start, headers, body))
            assert result(wire.read()) == expected


# ---- requests and answers: compression -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress(ADD_XML)),
        ("GZIP", gzip.compress(ADD_XML)),
        ("x-gzip", gzip.compress(ADD_XML)),
        ("gzip", gzip.compress(ADD_XML[:20]) + gzip.compress(ADD_XML[20:])),
        ("deflate", zlib.compress(ADD_XML)),
        ("deflate", zlib.compress(ADD_XML, 0)),
        ("identity", ADD_XML),
    ],
)
def test_a_compressed_body_is_unpacked(server: Server, coding: str, packed: bytes) -> None:
    for headers in ({"Content-Type": "text/xml"}, {}):
        response = exchange(server.port, request("/RPC2", {**headers, "Content-Encoding": coding}, packed))
        assert result(response) == 5


@pytest.mark.parametrize(
    ("coding", "corrupt"),
    [
        ("gzip", ADD_XML),
        ("gzip", b"\x1f\x8b"),
        ("gzip", gzip.compress(ADD_XML)[:-1]),
        ("gzip", gzip.compress(ADD_XML)[:-8] + b"\0" * 8),
        ("gzip", gzip.compress(ADD_XML) + b"junk"),
        ("gzip", zlib.compress(ADD_XML)),
        ("deflate", ADD_XML),
        ("deflate", zlib.compress(ADD_XML)[:-1]),
        ("deflate", zlib.compress(ADD_XML)[2:-4]),
        ("deflate", gzip.compress(ADD_XML)),
    ],
)
def test_a_body_that_does_not_unpack_is_answered_with_400(server: Server, coding: str, corrupt: bytes) -> None:
    for content_type in ("text/xml", "application/json", ""):
        headers = {"Content-Type": content_type} if content_type else {}
        with Wire(server.port) as wire:
            wire.send(request("/RPC2", {**headers, "Content-Encoding": coding}, corrupt))
            response = wire.read()
            assert response is not None
            assert response.status == 400
            wire.send(request("/RPC2", {"Content-Type": "text/xml"}, ADD_XML))
            assert result(wire.read()) == 5


UNPACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}
LARGE = {
    "text/xml": xml("<value>large</value>", method="make").encode(),
    "application/json": b'{"jsonrpc": "2.0", "method": "make", "params": ["large"], "id": 1}',
}


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("identity;q=1, *;q=0", None),
        ("br, zstd", None),
        ("gzipped", None),
        ("gzip;q=0", None),
        ("gzip; q=0.0, deflate;q=0", None),
        ("gzip", "gzip"),
        ("GZip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate", "gzip"),
        ("gzip, deflate, br, zstd", "gzip"),
        ("br, zstd, gzip", "gzip"),
        ("deflate, gzip, br, zstd", ("gzip", "deflate")),
        ("gzip;q=0.5", "gzip"),
        ("gzip;q=0, deflate", "deflate"),
        ("gzip;q=1.0, identity; q=0.5, *;q=0", "gzip"),
    ],
)
@pytest.mark.parametrize("content_type", LARGE)
def test_an_answer_is_compressed_for_who_asks_and_for_nobody_else(
    server: Server, accepted: str | None, coding: str | tuple[str, ...] | None, content_type: str
) -> None:
    headers = {"Content-Type": content_type} | ({} if accepted is None else {"Accept-Encoding": accepted})
    response = exchange(server.port, request("/api", headers, LARGE[content_type]))
    chosen = response.headers.get("content-encoding")
    assert chosen in coding if isinstance(coding, tuple) else chosen == coding
    body = response.body if chosen is None else UNPACK[chosen](response.body)
    unpacked = Response(status=response.status, version=response.version, headers=response.headers, body=body)
    assert result(unpacked) == MADE["large"]
    assert chosen is None or len(response.body) < len(body)


@pytest.mark.parametrize("headers", [{"TE": "gzip"}, {"TE": "deflate,gzip;q=0.3", "Accept": "gzip"}])
def test_te_is_no_accept_encoding(server: Server, headers: dict[str, str]) -> None:
    response = exchange(server.port, request("/api", {"Content-Type": "text/xml", **headers}, LARGE["text/xml"]))
    assert "content-encoding" not in response.headers
    assert result(response) == MADE["large"]


# ---- requests: XML ---------------------------------------------------------------------------------------------------

NIL = 'xmlns:ex="http://ws.apache.org/xmlrpc/namespaces/extensions"'


@pytest.mark.parametrize(
    ("document", "values"),
    [
        # prologs, white space, and ways to end a line
        ("<methodCall><methodName>echo_all</methodName><params/></methodCall>", []),
        (
            "<?xml version='1.0'?>\n<methodCall>\n<methodName>echo_all</methodName>\n<params>\n</params></methodCall>",
            [],
        ),
        ('<?xml version="1.0" ?><methodCall><methodName>echo_all</methodName><params /></methodCall>', []),
        ('<?xml version="1.0" encoding="UTF-8"?><methodCall><methodName>echo_all</methodName></methodCall>', []),
        (xml(start='<?xml version="1.0" encoding="utf-8" standalone="yes"?><methodCall>'), []),
        ("<methodCall><methodName> echo_all\n</methodName></methodCall>", []),
        (
            '<?xml version="1.0"?>\r\n<methodCall>\r\n<methodName>echo_all</methodName>\r\n<params>\r\n<param><value>'
            "<i4>5</i4></value></param>\r\n<param><value><string>a</string></value></param>\r\n</params>\r\n</methodCall>\r\n",
            [5, "a"],
        ),
        (
            '<?xml version="1.0"?>\n<methodCall>\n\t<methodName>echo_all</methodName>\n\t<params>\n\t\t<param>\n'
            "\t\t\t<value>\n\t\t\t\t<struct>\n\t\t\t\t\t<member>\n\t\t\t\t\t\t<name>a</name>\n\t\t\t\t\t\t<value>\n"
            "\t\t\t\t\t\t\t<i4>1</i4>\n\t\t\t\t\t\t\t</value>\n\t\t\t\t\t\t</member>\n\t\t\t\t\t</struct>\n"
            "\t\t\t\t</value>\n\t\t\t</param>\n\t\t</params>\n\t</methodCall>\n",
            [{"a": 1}],
        ),
        (
            xml("\n <value>\n <array>\n <data>\n <value>\n <int>1</int>\n </value>\n </data>\n </array>\n </value>"),
            [[1]],
        ),
        (xml("<value> <boolean>\n1\n</boolean> </value>", "<value>\t<double> 1.5 </double></value>"), [True, 1.5]),
        # strings
        (xml("<value><string><![CDATA[<b>&amp;]]></string></value>"), ["<b>&amp;"]),
        (xml("<value><![CDATA[a]]>b</value>"), ["ab"]),
        (xml("<value>untyped</value>", "<value> a b </value>"), ["untyped", " a b "]),
        (xml("<value><string> a\tb\r\nc </string></value>"), [" a\tb\nc "]),
        (xml("<value><string/></value>", "<value/>", "<value />", "<value></value>"), ["", "", "", ""]),
        (xml("<value><string></string></value>"), [""]),
        (xml("<value><string>&lt;&gt;&amp;&quot;&apos;</string></value>"), ["<>&\"'"]),
        (xml("<value><string>&#233;&#xE9;&#28450;&#x1F600;</string></value>"), ["éé漢😀"]),
        (xml("<value><string>é漢😀</string></value>"), ["é漢😀"]),
        # containers
        (xml("<value><array><data/></array></value>", "<value><struct/></value>"), [[], {}]),
        (xml("<value><array><data></data></array></value>", "<value><struct></struct></value>"), [[], {}]),
        (xml("<value><array><data><value/><value>a</value></data></array></value>"), [["", "a"]]),
        (xml("<value><struct><member><name/><value/></member></struct></value>"), [{"": ""}]),
        # nil and the extensions
        (xml("<value><nil/></value>", "<value><nil></nil></value>"), [None, None]),
        (xml(f"<value><ex:nil {NIL}/></value>", "<value><ex:i8>5</ex:i8></value>"), [None, 5]),
        (xml("<value><ex:nil/></value>", start=f"<methodCall {NIL}>"), [None]),
        (xml("<value><e:nil/></value>", start=f"<methodCall {NIL.replace('ex', 'e', 1)}>"), [None]),
        # integers
        (
            xml("<value><int>2147483648</int></value>", "<value><i4>-9223372036854775808</i4></value>"),
            [2**31, -(2**63)],
        ),
        (xml("<value><i8>5</i8></value>", "<value><i8>9223372036854775807</i8></value>"), [5, 2**63 - 1]),
        (
            xml("<value><int>+5</int></value>", "<value><int>007</int></value>", "<value><i4> 5 </i4></value>"),
            [5, 7, 5],
        ),
        (xml("<value><double>9223372036854775808</double></value>"), [2.0**63]),
        # booleans
        (xml("<value><boolean>true</boolean></value>", "<value><boolean>false</boolean></value>"), [True, False]),
        (xml("<value><boolean>1</boolean></value>", "<value><boolean>0</boolean></value>"), [True, False]),
        # doubles
        (
            xml(*(f"<value><double>{text}</double></value>" for text in ("1e-07", "1e-7", "1.0e-07", "0.0000001"))),
            [1e-07] * 4,
        ),
        (xml("<value><double>3.250000</double></value>", "<value><double>-1E+22</double></value>"), [3.25, -1e22]),
        (xml("<value><double>1500000000000000000000000000000</double></value>"), [1.5e30]),
        # dates
        (xml("<value><dateTime.iso8601>20240229T12:34:56</dateTime.iso8601></value>"), [MADE["date"]]),
        (xml("<value><dateTime.iso8601>20240229T123456</dateTime.iso8601></value>"), [MADE["date"]]),
        (xml("<value><dateTime.iso8601>2024-02-29T12:34:56.000Z</dateTime.iso8601></value>"), [MADE["date"]]),
        (xml("<value><dateTime.iso8601>2024-02-29T12:34:56</dateTime.iso8601></value>"), [MADE["date"]]),
        (xml("<value><dateTime.iso8601>20240229T123456.000+0000</dateTime.iso8601></value>"), [MADE["date"]]),
        (
            xml("<value><dateTime.iso8601>20231114T22:13:20.250000</dateTime.iso8601></value>"),
            [datetime(2023, 11, 14, 22, 13, 20)],
        ),
        # base64
        (xml("<value><base64>cmF3</base64></value>", "<value><base64>\ncm\r\nF3\n</base64></value>"), [b"raw", b"raw"]),
        (xml("<value><base64/></value>"), [b""]),
    ],
)
def test_every_form_of_xml_is_read(server: Server, document: str, values: list[Any]) -> None:
    response = post(server.port, document.encode(), "text/xml")
    assert [repr(value) for value in result(response)] == [repr(value) for value in values]


@pytest.mark.parametrize(
    ("declared", "text", "encoding"),
    [
        ('<?xml version="1.0" encoding="iso-8859-1"?>', "Gr&#246;&#223;e &#28450;", "ascii"),
        ('<?xml version="1.0" encoding="iso-8859-1" ?>', "Größe &#28450;", "latin-1"),
        ('<?xml version="1.0" encoding="us-ascii"?>', "Gr&#xF6;&#xDF;e &#x6F22;", "ascii"),
        ('<?xml version="1.0" encoding="UTF-8"?>', "Größe 漢", "utf-8"),
        ("", "Größe 漢", "utf-8"),
    ],
)
def test_every_encoding_of_xml_is_read(server: Server, declared: str, text: str, encoding: str) -> None:
    document = xml(f"<value><string>{text}</string></value>", start=f"{declared}<methodCall>")
    assert result(post(server.port, document.encode(encoding), "text/xml")) == ["Größe 漢"]


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [("", "utf-8"), ('<?xml version="1.0" encoding="iso-8859-1"?>', "latin-1"), ("", "ascii")],
)
def test_the_name_of_a_method_has_letters_of_any_alphabet(server: Server, declared: str, encoding: str) -> None:
    document = f"{declared}<methodCall><methodName>größe</methodName></methodCall>"
    response = post(server.port, document.encode(encoding, "xmlcharrefreplace"), "text/xml")
    assert result(response) == "180 cm"
    assert result(post(server.port, b'{"jsonrpc": "2.0", "method": "gr\\u00f6\\u00dfe", "id": 1}')) == "180 cm"


# ---- requests: JSON --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "call_id"),
    [
        ("1", 1),
        ("0", 0),
        ("-7", -7),
        ("12345678901234567890", 12345678901234567890),
        ("1.5", 1.5),
        ('"1"', "1"),
        ('"0"', "0"),
        ('""', ""),
        ('"e1b1a9a8-2f0a-4d3e-9a55-0c3f6a2f3f9e"', "e1b1a9a8-2f0a-4d3e-9a55-0c3f6a2f3f9e"),
        ('"gr\\u00f6\\u00dfe"', "größe"),
        ('"größe"', "größe"),
        ("null", None),
    ],
)
def test_an_id_comes_back_as_it_was(server: Server, written: str, call_id: Any) -> None:
    body = f'{{"jsonrpc": "2.0", "method": "add", "params": [2, 3], "id": {written}}}'
    answer = json.loads(post(server.port, body.encode()).body)
    assert answer == {"jsonrpc": "2.0", "result": 5, "id": call_id}
    assert type(answer["id"]) is type(call_id)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ('{"jsonrpc": "2.0", "method": "echo_all", "id": 1}', []),
        ('{"jsonrpc": "2.0", "method": "echo_all", "params": [], "id": 1}', []),
        ('{"jsonrpc": "2.0", "method": "add", "params": {"b": 3, "a": 2}, "id": 1}', 5),
        ('{"params": [2, 3], "id": 1, "method": "add", "jsonrpc": "2.0"}', 5),
        ('{"version": "1.1", "jsonrpc": "2.0", "method": "add", "params": [2, 3], "id": 1}', 5),
        ('{"id":1,"jsonrpc":"2.0","method":"add","params":[2,3]}\n', 5),
        ('{\r\n\t"jsonrpc" : "2.0",\r\n\t"method" : "add",\r\n\t"params" : [ 2, 3 ],\r\n\t"id" : 1\r\n}\r\n', 5),
        ('{"jsonrpc": "2.0", "method": "echo", "params": ["é漢😀"], "id": 1}', "é漢😀"),
        ('{"jsonrpc": "2.0", "method": "echo", "params": ["\\u00e9\\u6F22\\ud83d\\ude00\\/"], "id": 1}', "é漢😀/"),
        ('{"jsonrpc": "2.0", "method": "\\u0061dd", "params": [2, 3], "id": 1}', 5),
    ],
)
def test_every_form_of_json_is_read(server: Server, body: str, value: Any) -> None:
    assert result(post(server.port, body.encode())) == value


@pytest.mark.parametrize(
    "body",
    [
        '{"version": "1.1", "method": "add", "params": [2, 3], "id": 1}',
        '{"method": "add", "params": [2, 3], "id": 1}',
        '{"jsonrpc": "1.0", "method": "add", "params": [2, 3], "id": 1}',
    ],
)
def test_older_versions_of_json_rpc_are_told_so_in_words_that_they_read(server: Server, body: str) -> None:
    response = post(server.port, body.encode())
    answer = json.loads(response.body)
    assert response.status == 200
    assert (answer["error"]["code"], answer["error"]["message"], answer["id"]) == (-32600, "Invalid Request", 1)


# ---- answers ---------------------------------------------------------------------------------------------------------


def said(response: Response) -> str:
    """Return a response as a text: its status, its headers in lower case, and its body."""
    head = "".join(f"{name}: {value}\n" for name, value in response.headers.items())
    return f"HTTP {response.status}\n{head}\n{response.body.decode()}"


def bent(body: str, head: str = "") -> str:
    return f"HTTP 200\ncontent-type: text/xml; charset=utf-8\ncontent-length: {len(body)}\n{head}\n{body}"


def bent_json(body: str, head: str = "content-type: application/json\n") -> str:
    return f"HTTP 200\n{head}\n{body}"


XML = '<?xml version="1.0"?><methodResponse>'
CODE = "<member><name>faultCode</name><value><int>4</int></value></member>"
STRING = "<member><name>faultString</name><value><string>rot</string></value></member>"
INTS = r"-?(?:\d{1,9}|1\d{9}|20\d{8})"
REST_OF_FAULT = (
    r"<value><(int|i4)>-?\d{1,10}</\1></value></member>"
    r"<member><name>faultString</name><value><string>[^<]*</string></value></member></struct>"
)
# what an answer has that breaks a client, the pattern that finds it, and an answer bent so
BREAKS_XML = [
    ("another status than 200", r"\AHTTP (?!200\n)", "HTTP 400\n\n" + XML),
    ("chunks", r"\ntransfer-encoding:", bent(XML, "transfer-encoding: chunked\n")),
    ("no length", r"\A(?!(.*\n)*content-length: \d+\n)", "HTTP 200\ncontent-type: text/xml\n\n"),
    ("the end of the connection", r"\nconnection: close", bent(XML, "connection: close\n")),
    ("compression unasked", r"\ncontent-encoding:", bent(XML, "content-encoding: gzip\n")),
    ("another type", r"\A(?!(.*\n)*content-type: text/xml; charset=utf-8\n)", "HTTP 200\ncontent-type: text/html\n\n"),
    ("no prolog, or something before it", r"\n\n(?!<\?xml version=)", bent(" " + XML)),
    ("a byte order mark", "\ufeff", bent("\ufeff" + XML)),
    ("a comment", "<!--", bent(XML.replace("?>", "?><!-- -->"))),
    ("a DOCTYPE", "<!DOCTYPE", bent(XML.replace("?>", "?><!DOCTYPE methodResponse>"))),
    ("another encoding", r"""encoding=["'](?!(?i:utf-8)["'])""", bent(XML.replace("?>", " encoding='iso-8859-1'?>"))),
    ("a reference instead of a letter", r"&#(?!13;|x0*[dD];)", bent(XML + "<string>&#233;</string>")),
    ("CDATA", r"<!\[CDATA\[", bent(XML + "<string><![CDATA[a]]></string>")),
    ("a string without <string>", r"<value>[^<]", bent(XML + "<value>a</value>")),
    ("an empty string without both tags", r"<string\s*/>|<value\s*/>|<value></value>", bent(XML + "<string/>")),
    ("an empty container without both tags", r"<(data|struct|array|params)\s*/>", bent(XML + "<data/>")),
    ("an array without data", r"<array>(?!<data>)", bent(XML + "<array></array>")),
    ("an attribute", r"<(?!\?)[^<>]*=", bent(XML.replace("Response>", 'Response xmlns:ex="a">'))),
    ("i8 where 32 bits do", rf"<(?:i8|ex:i8)>{INTS}</", bent(XML + "<i8>5</i8>")),
    (
        "int where 32 bits do not",
        r"<(?:int|i4)>-?(?:\d{11,}|[3-9]\d{9}|22\d{8})</",
        bent(XML + "<int>3000000000</int>"),
    ),
    ("a boolean in words", r"<boolean>(?![01]</)", bent(XML + "<boolean>true</boolean>")),
    (
        "a date of another form",
        r"<dateTime\.iso8601>(?!\d{8}T\d\d:\d\d:\d\d</)",
        bent(XML + "<dateTime.iso8601>20240229T123456<"),
    ),
    ("faultString before faultCode", r"(?<!</member>)<member><name>faultString", bent(f"<struct>{STRING}{CODE}")),
    (
        "another member in a fault",
        rf"(?<!<struct>)<member><name>faultCode|<name>faultCode</name>(?!{REST_OF_FAULT})",
        bent(f"<fault><value><struct>{CODE}{STRING}{CODE}</struct></value></fault>"),
    ),
    ("a fault code of 64 bits", r"<name>faultCode</name><value><(?!int>|i4>)", bent(CODE.replace("int", "i8"))),
    ("a namespace", r"</?\w+:", bent(XML + "<ex:nil/>")),
    ("a double of seventeen digits", r"<double>-?\d+\.\d{17}", bent(XML + "<double>3.14158999999999988</double>")),
    ("a double that is none", r"<double>-?(?:nan|inf)", bent(XML + "<double>inf</double>")),
    ("a carriage return that is lost", "\r", bent(XML + "<string>a\r\nb</string>")),
    ("a character that XML does not have", "[\x00-\x08\x0b\x0c\x0e-\x1f]", bent(XML + "\x01")),
    ("a character beyond the BMP, unasked", "[\U00010000-\U0010ffff]", bent(XML + "😀")),
]
BREAKS_JSON = [
    ("another status than 200", r"\AHTTP (?!200\n)", "HTTP 500\n\n{}"),
    ("chunks", r"\ntransfer-encoding:", bent_json("{}", "transfer-encoding: chunked\n")),
    ("no length", r"\A(?!(.*\n)*content-length: \d+\n)", bent_json("{}")),
    ("the end of the connection", r"\nconnection: close", bent_json("{}", "connection: close\n")),
    ("compression unasked", r"\ncontent-encoding:", bent_json("{}", "content-encoding: gzip\n")),
    (
        "another type, or a charset",
        r"\A(?!(.*\n)*content-type: application/json\n)",
        bent_json("{}", "content-type: text/plain\n"),
    ),
    ("a byte order mark", "\ufeff", bent_json("\ufeff{}")),
    ("something before the text", r"\n\n(?![\[{])", bent_json("\ufeff{}")),
    ("an error beside a result", r'"error":null', bent_json('{"jsonrpc":"2.0","result":1,"error":null,"id":1}')),
    (
        "a result beside an error",
        r'"result":null,"error"|"error":\{.*\},"result"',
        bent_json('{"error":{},"result":null}'),
    ),
    ("a character beyond the BMP, unasked", "[\U00010000-\U0010ffff]", bent_json('"😀"')),
]
ASKED: list[tuple[str, list[Any]]] = [
    *(("make", [kind]) for kind in MADE),
    ("fail", ["own"]),
    ("fail", ["crash"]),
    ("nobody", []),
    ("add", ["1", 2]),
    ("add", []),
    ("echo", ["Größe 漢"]),
    ("system.listMethods", []),
    ("system.methodHelp", ["add"]),
    ("system.methodSignature", ["add"]),
    ("system.getCapabilities", []),
    ("rpc.discover", []),
]
MULTICALL = xmlrpc.client.dumps(
    ([{"methodName": method, "params": params} for method, params in ASKED] + [{"methodName": 5}, 5],),
    "system.multicall",
)
BROKEN_XML: list[str | bytes] = [
    "",
    "<",
    "<a/>",
    "<methodCall/>",
    "<!DOCTYPE a><a/>",
    xml("<value><int>x</int></value>"),
    "é".encode("latin-1"),
]
BROKEN_JSON: list[str | bytes] = ["", "{", "[]", "{}", "1", '{"jsonrpc": "2.0", "method": 1, "id": 5}', b'"\xff"']


@pytest.fixture(scope="module")
def answers(server: Server) -> dict[str, list[Response]]:
    """Gather answers of every kind: results, faults, batches, and what comes of broken requests."""
    xml_calls = [xmlrpc.client.dumps(tuple(params), method) for method, params in ASKED]
    xml_bodies: list[str | bytes] = [*xml_calls, MULTICALL, *BROKEN_XML]
    calls = [{"jsonrpc": "2.0", "method": method, "params": params, "id": 1} for method, params in ASKED]
    json_bodies: list[str | bytes] = [*map(json.dumps, calls), json.dumps(calls), *BROKEN_JSON]
    return {
        content_type: [
            post(server.port, body if isinstance(body, bytes) else body.encode(), content_type) for body in bodies
        ]
        for content_type, bodies in (("text/xml", xml_bodies), ("application/json", json_bodies))
    }


@pytest.mark.parametrize(("what", "pattern", "example"), BREAKS_XML)
def test_no_xml_answer_has_what_breaks_a_client(
    answers: dict[str, list[Response]], what: str, pattern: str, example: str
) -> None:
    assert re.search(pattern, example), f"the pattern does not find {what}"
    for response in answers["text/xml"]:
        assert not re.search(pattern, said(response)), what


@pytest.mark.parametrize(("what", "pattern", "example"), BREAKS_JSON)
def test_no_json_answer_has_what_breaks_a_client(
    answers: dict[str, list[Response]], what: str, pattern: str, example: str
) -> None:
    assert re.search(pattern, example), f"the pattern does not find {what}"
    for response in answers["application/json"]:
        assert not re.search(pattern, said(response)), what


def test_a_json_answer_has_exactly_the_members_of_the_specification(answers: dict[str, list[Response]]) -> None:
    for response in answers["application/json"]:
        document = json.loads(response.body)
        for answer in document if isinstance(document, list) else [document]:
            assert answer["jsonrpc"] == "2.0"
            assert answer.keys() in ({"jsonrpc", "result", "id"}, {"jsonrpc", "error", "id"})
            if "error" in answer:
                assert {"code", "message"} <= answer["error"].keys() <= {"code", "message", "data"}
                assert (type(answer["error"]["code"]), type(answer["error"]["message"])) == (int, str)


@pytest.mark.parametrize("kind", [kind for kind in MADE if kind != "dates"])
def test_a_value_arrives_as_it_was_made(server: Server, kind: str) -> None:
    body = xmlrpc.client.dumps((kind,), "make").encode()
    assert repr(result(post(server.port, body, "text/xml"))) == repr(MADE[kind])


def test_a_batch_is_answered_in_its_order(server: Server) -> None:
    order = [5, "b", 1, None, 4, "a", 0]
    calls: list[Any] = [{"jsonrpc": "2.0", "method": "echo", "params": [call_id], "id": call_id} for call_id in order]
    calls.insert(2, {"jsonrpc": "2.0", "method": "note", "params": [1]})
    answer = json.loads(post(server.port, json.dumps(calls).encode()).body)
    assert [(each["id"], each["result"]) for each in answer] == [(call_id, call_id) for call_id in order]


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"jsonrpc": "2.0", "method": "note", "params": ["alone"]}', "alone"),
        (b'[{"jsonrpc": "2.0", "method": "note", "params": ["in a batch"]}]', "in a batch"),
    ],
)
def test_a_notification_is_answered_with_200_and_nothing(server: Server, body: bytes, value: str) -> None:
    with Wire(server.port) as wire:
        wire.send(request("/api", {"Content-Type": "application/json"}, body))
        response = wire.read()
        assert response is not None
        assert (response.status, response.body, response.headers["content-length"]) == (200, b"", "0")
        assert response.headers["content-type"] == "application/json"
        assert notified[-1] == value
        wire.send(request("/api", {"Content-Type": "application/json"}, ADD_JSON))
        assert result(wire.read()) == 5


# ---- the standard library's clients ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -5,
        2**31 - 1,
        1.5,
        1e-07,
        "",
        "Größe 漢 😀",
        "a\nb\tc",
        b"raw",
        MADE["date"],
        [],
        {},
        MADE["nested"],
    ],
)
def test_the_librarys_client_gets_back_what_it_sends(server: Server, value: Any) -> None:
    with xmlrpc.client.ServerProxy(server.at("/RPC2"), allow_none=True, use_builtin_types=True) as proxy:
        assert repr(proxy.echo(value)) == repr(value)


def test_the_librarys_client_has_its_own_types_for_dates_and_bytes(server: Server) -> None:
    with xmlrpc.client.ServerProxy(server.at("/RPC2")) as proxy:
        answer: Any = proxy.echo_all(xmlrpc.client.DateTime(MADE["date"]), xmlrpc.client.Binary(b"raw"))
    date, raw_bytes = answer
    assert (type(date), date) == (xmlrpc.client.DateTime, "20240229T12:34:56")
    assert (type(raw_bytes), raw_bytes) == (xmlrpc.client.Binary, b"raw")


def test_the_librarys_client_calls_several_at_once(server: Server) -> None:
    with xmlrpc.client.ServerProxy(server.at("/RPC2"), allow_none=True) as proxy:
        several = xmlrpc.client.MultiCall(proxy)
        several.add(7, 3)
        several.fail("own")
        several.system.methodHelp("add")
        several.nobody()
        several.make("none")
        answers = several()
        assert (answers[0], answers[2], answers[4]) == (10, "", None)
        for place, code in ((1, 4), (3, -32601)):
            with pytest.raises(xmlrpc.client.Fault) as raised:
                answers[place]
            assert raised.value.faultCode == code


def test_the_librarys_client_sends_headers_and_credentials(server: Server) -> None:
    url = server.at("/RPC2").replace("//", "//user:pass@")
    with xmlrpc.client.ServerProxy(url, headers=[("X-Greeting", "hello")]) as proxy:
        assert proxy.header("x-greeting") == "hello"
        assert proxy.header("Authorization") == "Basic dXNlcjpwYXNz"
        assert proxy.header("User-Agent") == xmlrpc.client.Transport.user_agent


def test_the_librarys_client_compresses_requests_and_keeps_its_connection(server: Server) -> None:
    transport = xmlrpc.client.Transport()
    transport.encode_threshold = 0
    with xmlrpc.client.ServerProxy(server.at("/RPC2"), transport=transport) as proxy:
        assert proxy.header("Content-Encoding") == "gzip"
        connection = transport.make_connection(f"127.0.0.1:{server.port}").sock
        assert connection is not None
        for _ in range(3):
            assert proxy.echo(MADE["large"]) == MADE["large"]
            with pytest.raises(xmlrpc.client.Fault):
                proxy.nobody()
        assert transport.make_connection(f"127.0.0.1:{server.port}").sock is connection


def refused(proxy: xmlrpc.client.ServerProxy) -> int:
    """Call, and return the status of the refusal.

    Nothing is kept of the exception: its traceback has the response, which the library leaves unread and open.
    """
    try:
        proxy.add(2, 3)
    except xmlrpc.client.ProtocolError as error:
        return error.errcode
    raise AssertionError("it is not refused")


def test_the_librarys_client_reads_a_fault_and_goes_on(server: Server) -> None:
    with xmlrpc.client.ServerProxy(server.at("/RPC2")) as proxy:
        with pytest.raises(xmlrpc.client.Fault) as raised:
            proxy.fail("own")
        assert (raised.value.faultCode, raised.value.faultString) == (4, "Größer als <4> & rot")
        with pytest.raises(xmlrpc.client.Fault) as raised:
            proxy.echo("a\x01b")  # which the library writes as it is, and XML does not have
        assert raised.value.faultCode == -32700
        assert proxy.add(2, 3) == 5
    with xmlrpc.client.ServerProxy(server.at("/elsewhere")) as lost:
        assert refused(lost) == 404


@pytest.mark.parametrize("body", [ADD_XML, ADD_JSON])
def test_urllib_calls_it_a_form_and_is_understood(server: Server, body: bytes) -> None:
    with urllib.request.urlopen(server.url, body) as response:
        headers = {name.lower(): value for name, value in response.headers.items()}
        assert result(Response(status=response.status, version="", headers=headers, body=response.read())) == 5


def test_http_client_sends_chunks_and_keeps_its_connection(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for _ in range(2):
        pieces = iter([ADD_JSON[:10], ADD_JSON[10:]])
        connection.request("POST", "/api", pieces, {"Content-Type": "application/json"}, encode_chunked=True)
        assert json.loads(connection.getresponse().read())["result"] == 5
    connection.close()
