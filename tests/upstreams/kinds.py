"""Kinds of upstreams that the same tests run over. A new protocol adds a Kind here, and a program that serves it."""

import gzip
import hashlib
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

from msgspec import Struct
from rpyc.core import brine  # type: ignore[import-untyped]

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
        greeting: what a broken server says first, before any of that.
        cue: what a call has in it, where a broken server must not answer anything else.
        typed: its methods take values of the types that an IDL gives them, and no others.

    """

    name: str
    url: str
    command: tuple[str, ...]
    options: str = ""
    named: str = f"methods = [{METHODS}]"
    garbage: tuple[bytes, ...]
    endless: tuple[bytes, bytes]
    greeting: bytes = b""
    cue: bytes = b""
    typed: bool = False


def program(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "tests.upstreams.programs", name)


def module(name: str, *options: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"tests.upstreams.{name}", *options)


def descriptors(name: str) -> str:
    """Return the option that gives the types of a .proto of this folder, which protoc has read before.

    They are made once and kept, under the hash of what they were made of.
    """
    here = Path(__file__).parent
    digest = hashlib.sha256((here / f"{name}.proto").read_bytes()).hexdigest()
    made = here.parents[1] / "build" / "descriptors" / f"{name}-{digest[:16]}.pb"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        draft = made.with_suffix(f".{os.getpid()}")
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{here}", "--include_imports", "--include_source_info"]
        subprocess.run([*command, f"--descriptor_set_out={draft}", f"{name}.proto"], check=True)
        draft.rename(made)
    return f"descriptor_set = '{made}'"


def http(body: bytes, status: str = "200 OK", headers: bytes = b"Content-Type: text/plain\r\n") -> bytes:
    return b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status.encode(), headers, len(body), body)


def http2(*frames: bytes) -> bytes:
    """Answer the first stream."""
    return b"".join(frames)


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
FEW = "connections = 4"  # the library's servers have a backlog of 5
_NO_HTTP = (
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\0\xff" * 100 + b"\r\n\r\n",
    http(b""),
    http(b"<html><body>127.0.0.1 is broken</body></html>", "500 Internal Server Error"),
    http(b"", "302 Found", b"Location: http://127.0.0.1:1/elsewhere\r\n"),
    http(b"\x1f\x8b\x08\0", headers=b"Content-Encoding: gzip\r\n"),
    http(b'"Traceback (most recent call last)"'),
    b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
)
_ENDLESS_HTTP = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHUNK = b"2000\r\n" + b" " * 0x2000 + b"\r\n"

ROOT = Path(__file__).parents[2]
IDL = ROOT / "tests" / "upstreams" / "programs.thrift"


def binary(name: bytes = b"add", kind: int = 2, number: int = 1, body: bytes = b"\x0a\0\0\0\0\0\0\0\0\0\3\0") -> bytes:
    """Make a Thrift message, a reply to ``add`` that says 3 if nothing else is given."""
    return struct.pack(">Ii", 0x80010000 | kind, len(name)) + name + struct.pack(">i", number) + body


def frame(message: bytes) -> bytes:
    return struct.pack(">i", len(message)) + message


def thrift(library: str, protocol: str, transport: str, garbage: tuple[bytes, ...], endless: bytes) -> Kind:
    return Kind(
        name=f"thrift {protocol} {transport} {library}",
        url="thrift://127.0.0.1:{port}",
        command=(sys.executable, "-m", "tests.upstreams.thrift_programs", library, protocol, transport),
        options=f"idl = '{IDL}'\nservice = 'Programs'\nprotocol = '{protocol}'\ntransport = '{transport}'",
        garbage=garbage,
        endless=(endless, b"x" * 0x2000),
        typed=True,
    )


_NO_THRIFT = (b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 100)
_NO_BINARY = (
    binary(number=7),
    binary(b"subtract"),
    binary(kind=1),
    binary(body=b"\x0b\0\0\0\0\0\3add\0"),
    binary(body=b"\x63\0\x09"),
    struct.pack(">Ii", 0x80010002, -1),
)
_NO_COMPACT = (b"\x82\x42\1\3add\0", b"\x82\x41" + b"\xff" * 20, b"\x82\x41\1\3add\x0d\0", b"\x82\x21\1\3add\0")


def router(kind: bytes = b"ROUTER") -> bytes:
    """Greet as a ZeroMQ socket does."""
    ready = b"\5READY\x0bSocket-Type" + len(kind).to_bytes(4) + kind
    return (b"\xff" + b"\0" * 8 + b"\x7f\3\0NULL").ljust(64, b"\0") + bytes((4, len(ready))) + ready


_NO_ZEROMQ = (
    b"\x08\0",
    b"\x05\0",
    b"\x02" + b"\xff" * 8,
    b"\x04\6\5ERROR",
    b"\0\0",
    b"\1\0\0\1\xc1",
    b"\1\0\0\1\x03",
    b"\1\0\0\3\x93\1\1",
    b"\1\0\0\5\x93\x80\xa1\xff\1",
    b"\1\0" * 17,
)


def rpyc(kind: int, number: Any, body: Any = None) -> bytes:
    """Make a message of RPyC."""
    return packed(bytes((kind,)) + brine.dump((number, body)))


def packed(data: bytes, compressed: int = 0) -> bytes:
    return struct.pack("!LB", len(data), compressed) + data + b"\n"


def root() -> bytes:
    """Answer the first question of a client, which is for the service."""
    return rpyc(2, 0, (4, ("tests.Service", 1, 2)))


_NO_RPYC = (
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\0\0\0\1\0\2x",
    b"\0\0\0\1\2\2\n",
    packed(b""),
    packed(b"\2"),
    packed(b"\2\x07"),
    packed(b"\2\x11\x51\x08\x0a\xff"),
    packed(b"\2" + brine.dump((1, (1, "abc")))[:-1]),
    packed(b"\2" + brine.dump((1, (1, 3))) + b"\0"),
    packed(b"\2" + b"\x10" * 5000),
    packed(b"abc", 1),
    packed(zlib.compress(b"\0" * 20_000_000), 1),
    packed(zlib.compress(brine.dump((1, (1, 3))))[:-2], 1),
    rpyc(9, 1, (1, 3)),
    rpyc(2, 99, (1, 3)),
    rpyc(2, "1", (1, 3)),
    rpyc(2, 1, 3),
    rpyc(2, 1, (9, 3)),
    rpyc(2, 1, (2, 3)),
    rpyc(2, 1, (3, ("builtins.list", 1, 1))),
    rpyc(2, 1, (4, ("builtins.list", 1))),
    rpyc(1, 5, (2, (2, ()))),
)

KINDS = (
    Kind(
        name="xmlrpc+http",
        url="xmlrpc+http://127.0.0.1:{port}/RPC2",
        command=program("xmlrpc"),
        options=FEW,
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
        options=FEW,
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
    thrift("thriftpy2", "binary", "buffered", (*_NO_THRIFT, *_NO_BINARY), struct.pack(">Ii", 0x80010002, 65536)),
    thrift("official", "compact", "buffered", (*_NO_THRIFT, *_NO_COMPACT), b"\x82\x41\1\x80\x80\4"),
    thrift(
        "official",
        "binary",
        "framed",
        (*_NO_THRIFT, *map(frame, _NO_BINARY), frame(b""), frame(binary()[:-1]), frame(binary() + b"\0")),
        b"\0\2\0\0",
    ),
    thrift("thriftpy2", "compact", "framed", (*_NO_THRIFT, *map(frame, _NO_COMPACT)), b"\0\1\0\0"),
    Kind(
        name="zerorpc",
        url="zerorpc://127.0.0.1:{port}",
        command=(str(ROOT / ".venv-zerorpc" / "bin" / "python"), "-m", "tests.upstreams.zerorpc_program"),
        garbage=_NO_ZEROMQ,
        endless=(b"\1\0", b"\3" + (0x2000).to_bytes(8) + b"x" * 0x2000),
        greeting=router(),
    ),
    Kind(
        name="rpyc",
        url="rpyc://127.0.0.1:{port}",
        command=(sys.executable, "-m", "tests.upstreams.rpyc_program"),
        garbage=_NO_RPYC,
        endless=(b"\0\1\0\1\0", b"x" * 0x2000),
        greeting=root(),
    ),
)


def generic_frame(message: bytes, index: int = 0, length: int | None = None) -> bytes:
    """Make a frame of a generic service; add is method 0, and what answers it is method 1 of the client."""
    return struct.pack("<IH", len(message) + 2 if length is None else length, index) + message


_GENERIC_GARBAGE = (
    b"SSH-2.0-OpenSSH_9.2\r\n",
    generic_frame(b"", length=1),
    generic_frame(b"\x08\x03", index=3),
    generic_frame(b"\x08\x03", index=99),
)
_CALLBACKS = """client_service = 'generic.Client'
callbacks.add = 'added'
callbacks.subtract = 'subtracted'
callbacks.pause = 'paused'
callbacks.mark = 'marked'
callbacks.echo = 'echoed'
callbacks.add_up = 'added_up'
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
        named=descriptors("programs"),
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
            http2(_GRPC_GZIP, h2_message(gzip.compress(b"\xff\xff"), compressed=1), _GRPC_OK),
            http2(_GRPC_GZIP, h2_message(b"no gzip", compressed=1), _GRPC_OK),
        ),
        endless=(http2(_GRPC, h2(0, 0, 1, b"\0\x7f\xff\xff\xff")), h2(0, 0, 1, b"x" * 0x2000)),
        greeting=h2(4, 0, 0, b""),
        cue=b"application/grpc",
    ),
    Kind(
        name="protobuf",
        url="protobuf://127.0.0.1:{port}",
        command=generic_program("frames"),
        options=f"{descriptors('generic')}\nservice = 'generic.Programs'\noneway = ['forget']",
        named="",
        garbage=(*_GENERIC_GARBAGE, generic_frame(b"\xff\xff"), generic_frame(b"")),
        endless=(generic_frame(b"", length=2**31), b"x" * 0x2000),
    ),
    Kind(
        name="protobuf callbacks",
        url="protobuf://127.0.0.1:{port}",
        command=generic_program("callbacks"),
        options=f"{descriptors('generic')}\nservice = 'generic.Programs'\n{_CALLBACKS}",
        named="",
        garbage=(*_GENERIC_GARBAGE, generic_frame(b"\xff\xff", index=1), generic_frame(b"", index=1)),
        endless=(generic_frame(b"", length=2**31), b"x" * 0x2000),
    ),
)
