"""The kinds of upstreams that the same tests run over. A new bridge adds a Kind here, and a program that serves it."""

import gzip
import struct
import sys
from pathlib import Path

from msgspec import Struct

METHODS = "'add', 'subtract', 'multiply', 'divide', 'echo', 'pause', 'mark', 'getObj', 'sendObj', 'search'"


class Kind(Struct, frozen=True, kw_only=True):
    """One kind of upstream, and how to make trouble with it.

    Attributes:
        url: its URL, with ``{port}``.
        command: what starts a real server with the methods of programs.py; the port comes behind it.
        options: further lines of its table.
        named: the lines that make its methods known before it is reached.
        garbage: what a broken server may answer, whole: each is a BadUpstream.
        endless: the beginning of an answer, and what it goes on with for ever.

    """

    name: str
    url: str
    command: tuple[str, ...]
    options: str = ""
    named: str = f"methods = [{METHODS}]"
    garbage: tuple[bytes, ...]
    endless: tuple[bytes, bytes]


def program(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "tests.upstreams.programs", name)


def module(name: str, *options: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"tests.upstreams.{name}", *options)


def http(body: bytes, status: str = "200 OK", headers: bytes = b"Content-Type: text/plain\r\n") -> bytes:
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status.encode(), headers, len(body), body)


def http2(*frames: bytes) -> bytes:
    """Begin a connection, and answer its first stream."""
    return h2(4, 0, 0, b"") + b"".join(frames)


def h2(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Make a frame (RFC 9113, section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def h2_headers(*headers: tuple[bytes, bytes], end: bool = False) -> bytes:
    """Make a HEADERS frame of literals that are not indexed (RFC 7541, section 6.2.2)."""
    literals = (b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in headers)
    return h2(1, 5 if end else 4, 1, b"".join(literals))


def h2_message(data: bytes, compressed: int = 0) -> bytes:
    return h2(0, 0, 1, bytes([compressed]) + len(data).to_bytes(4, "big") + data)


_GRPC = h2_headers((b":status", b"200"), (b"content-type", b"application/grpc"))
_GRPC_GZIP = h2_headers((b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-encoding", b"gzip"))
_GRPC_OK = h2_headers((b"grpc-status", b"0"), end=True)
_HTML = h2_headers((b":status", b"200"), (b"content-type", b"text/html"))
_NO_HTTP = (
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\0\xff" * 100 + b"\r\n\r\n",
    http(b""),
    http(b"<html><body>127.0.0.1 is broken</body></html>", "502 Bad Gateway"),
    http(b"", "302 Found", b"Location: http://127.0.0.1:1/elsewhere\r\n"),
    http(b"\x1f\x8b\x08\0", headers=b"Content-Encoding: gzip\r\n"),
    http(b'"Traceback (most recent call last)"'),
    b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
)
_ENDLESS_HTTP = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHUNK = b"2000\r\n" + b" " * 0x2000 + b"\r\n"

KINDS = (
    Kind(
        name="xmlrpc+http",
        url="xmlrpc+http://127.0.0.1:{port}/RPC2",
        command=program("xmlrpc"),
        garbage=(
            *_NO_HTTP,
            http(b"<methodResponse><params><param><value><int>x</int></value></param></params></methodResponse>"),
            http(b"<methodResponse><fault><value>no</value></fault></methodResponse>"),
            http(b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'b'>]><methodResponse/>"),
        ),
        endless=(_ENDLESS_HTTP, _CHUNK),
    ),
    Kind(
        name="jsonrpc+http",
        url="jsonrpc+http://127.0.0.1:{port}/",
        command=program("jsonrpc"),
        garbage=(
            *_NO_HTTP,
            http(b'{"jsonrpc": "2.0", "id": 987654, "result": 3}'),
            http(b'{"jsonrpc": "2.0", "id": null, "result": 3}'),
            http(b"[]"),
        ),
        endless=(_ENDLESS_HTTP, _CHUNK),
    ),
    Kind(
        name="jsonrpc+tcp",
        url="jsonrpc+tcp://127.0.0.1:{port}",
        command=program("lines"),
        options=f"methods = [{METHODS}]",
        named="",
        garbage=(b"SSH-2.0-OpenSSH_9.2\r\n", b"\0\xff\n", b'{"jsonrpc": "2.0"}\n', b"[]\n", b'"Traceback"\n'),
        endless=(b'{"jsonrpc": "2.0", "result": "', b"x" * 0x2000),
    ),
    Kind(
        name="jsonrpc+tcp netstring",
        url="jsonrpc+tcp://127.0.0.1:{port}",
        command=program("netstrings"),
        options=f"methods = [{METHODS}]\nframing = 'netstring'",
        named="",
        garbage=(b"SSH-2.0-OpenSSH_9.2\r\n", b"2:[];", b"02:[],", b"2:[],", b"9999999999:", b":"),
        endless=(b"999999999:", b"x" * 0x2000),
    ),
)


def frame(message: bytes, index: int = 0, length: int | None = None) -> bytes:
    """Make a frame of a generic service; add is method 0, and what answers it is method 1 of the client."""
    return struct.pack("<IH", len(message) + 2 if length is None else length, index) + message


_GENERIC_GARBAGE = (
    b"SSH-2.0-OpenSSH_9.2\r\n",
    frame(b"", length=1),
    frame(b"\x08\x03", index=3),
    frame(b"\x08\x03", index=99),
)
_CALLBACKS = """client_service = 'generic.Client'
callbacks.add = 'added'
callbacks.subtract = 'subtracted'
callbacks.pause = 'paused'
callbacks.mark = 'marked'
callbacks.echo = 'echoed'
oneway = ['forget']"""
_OLD_PYTHON = str(Path(__file__).parents[2] / ".venv-protobuf" / "bin" / "python")  # make test builds it


def generic_program(kind: str) -> tuple[str, ...]:
    return (_OLD_PYTHON, "-m", "tests.upstreams.generic_programs", kind)


# Kinds whose methods have types of their own, so that they have no echo of any value.
TYPED = (
    Kind(
        name="grpc",
        url="grpc://127.0.0.1:{port}",
        command=module("grpc_programs"),
        options="service = 'programs.Programs'",
        named="proto = ['tests/upstreams/programs.proto']",
        garbage=(
            b"SSH-2.0-OpenSSH_9.2\r\n",
            http(b"<html></html>"),
            http2(b"\xff" * 100),
            http2(_HTML, h2(0, 1, 1, b"<html>127.0.0.1 is broken</html>")),
            http2(h2(1, 4, 1, b"\xff\xff\xff\xff\xff")),
            http2(h2(3, 0, 1, b"\0\0\0\2")),
            http2(_GRPC, h2(0, 1, 1, b"")),
            http2(_GRPC, _GRPC_OK),
            http2(_GRPC, h2_message(b"\xff\xff\xff"), _GRPC_OK),
            http2(_GRPC, h2_message(b"x", compressed=1), _GRPC_OK),
            http2(_GRPC_GZIP, h2_message(gzip.compress(b"\x08\x03"), compressed=1), _GRPC_OK),
        ),
        endless=(http2(_GRPC, h2(0, 0, 1, b"\0\x7f\xff\xff\xff")), h2(0, 0, 1, b"x" * 0x2000)),
    ),
    Kind(
        name="protobuf",
        url="protobuf://127.0.0.1:{port}",
        command=generic_program("frames"),
        options="proto = ['tests/upstreams/generic.proto']\nservice = 'generic.Programs'\noneway = ['forget']",
        named="",
        garbage=(*_GENERIC_GARBAGE, frame(b"\xff\xff"), frame(b"")),
        endless=(frame(b"", length=2**31), b"x" * 0x2000),
    ),
    Kind(
        name="protobuf callbacks",
        url="protobuf://127.0.0.1:{port}",
        command=generic_program("callbacks"),
        options=f"proto = ['tests/upstreams/generic.proto']\nservice = 'generic.Programs'\n{_CALLBACKS}",
        named="",
        garbage=(*_GENERIC_GARBAGE, frame(b"\xff\xff", index=1), frame(b"", index=1)),
        endless=(frame(b"", length=2**31), b"x" * 0x2000),
    ),
)
