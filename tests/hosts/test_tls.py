"""TLS of our own: the files, the messages about bad ones, the versions and ciphers, and who is let in."""

import asyncio
import json
import os
import socket
import ssl
import subprocess
import sys
import time
import warnings
import xmlrpc.client
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway import Registry
from gateway.config import ConfigError
from gateway.config.server import TLSSection
from gateway.hosts.http import HTTPHost
from gateway.hosts.listening import bind
from gateway.model.http import HTTPRequest, HTTPResponse
from gateway.model.limits import Limits
from gateway.process.tls import load
from tests.certificates import FUTURE, PAST, Authority
from tests.raw_http import Response, Wire, request
from tests.serving import Server, serving

DAY = timedelta(days=1)
JSON = {"Content-Type": "application/json"}
ADD = request("/api", JSON, b'{"jsonrpc":"2.0","method":"add","params":[2,3],"id":1}')

registry = Registry()


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


@registry.register(run="inline")
def large(size: int) -> str:
    return "x" * size


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> tuple[Path, Path]:
    return authority.issue()


@pytest.fixture(scope="module")
def server(pair: tuple[Path, Path]) -> Iterator[Server]:
    with serving(registry, {"tls.certificate": pair[0], "tls.key": pair[1], "limits.head_timeout": 1}) as started:
        yield started


@pytest.fixture(scope="module")
def guarded(authority: Authority, pair: tuple[Path, Path]) -> Iterator[Server]:
    rules = json.dumps([{"methods": ["add"], "certificates": ["odoo"]}])
    files = {"tls.certificate": pair[0], "tls.key": pair[1], "tls.client_ca": authority.file}
    with serving(registry, {**files, "access.rules": rules}) as started:
        yield started


def served(pair: tuple[Path, Path], client_ca: Path | None = None) -> TLSSection:
    return TLSSection(certificate=str(pair[0]), key=str(pair[1]), client_ca=str(client_ca or ""))


def call(server: Server, tls: ssl.SSLContext) -> Response:
    with Wire(server.port, tls=tls) as wire:
        wire.send(ADD)
        response = wire.read()
        assert response is not None
        return response


# The files


def own(authority: Authority, name: str, begin: int, end: int, *, is_ca: bool = False) -> tuple[Path, Path]:
    """Make a certificate for clients that signs itself, valid from one day to another, counted from two days ago."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(issuer_name=subject, subject_name=subject, public_key=key.public_key())
    builder = builder.serial_number(1).not_valid_before(PAST + begin * DAY).not_valid_after(PAST + end * DAY)
    builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
    certificate, key_file = authority.folder / f"{name}.pem", authority.folder / f"{name}.key"
    certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    key_file.write_bytes(in_pem(key))
    return certificate, key_file


def in_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def written(authority: Authority, name: str, data: bytes) -> Path:
    file = authority.folder / name
    file.write_bytes(data)
    return file


def _expired(a: Authority) -> TLSSection:
    return served(a.issue("expired", begin=PAST - DAY, end=PAST))


def _not_yet_valid(a: Authority) -> TLSSection:
    return served(a.issue("early", begin=FUTURE, end=FUTURE + DAY))


def _clients_only(a: Authority) -> TLSSection:
    return served(own(a, "client", 0, 4))


def _of_another(a: Authority) -> TLSSection:
    return served((a.issue()[0], a.issue()[1]))


def _encrypted(a: Authority) -> TLSSection:
    certificate, key = a.issue()
    return served((certificate, a.encrypt(key)))


def _swapped(a: Authority) -> TLSSection:
    certificate, key = a.issue()
    return served((key, certificate))


def _certificate_twice(a: Authority) -> TLSSection:
    certificate, _ = a.issue()
    return served((certificate, certificate))


def _der(a: Authority) -> TLSSection:
    certificate, key = a.issue()
    der = x509.load_pem_x509_certificate(certificate.read_bytes()).public_bytes(Encoding.DER)
    return served((written(a, "server.der", der), key))


def _damaged(a: Authority) -> TLSSection:
    certificate, key = a.issue()
    text = certificate.read_text().replace("MII", "AAA", 1)
    return served((written(a, "damaged.pem", text.encode()), key))


def _damaged_key(a: Authority) -> TLSSection:
    certificate, _ = a.issue()
    damaged = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
    return served((certificate, written(a, "damaged.key", damaged)))


def _missing(a: Authority) -> TLSSection:
    return served((a.folder / "none.pem", a.issue()[1]))


def _missing_key(a: Authority) -> TLSSection:
    return served((a.issue()[0], a.folder / "none.key"))


def _folder(a: Authority) -> TLSSection:
    return served((a.folder, a.issue()[1]))


def _no_name(a: Authority) -> TLSSection:
    return TLSSection(certificate="\0", key=str(a.issue()[1]))


def _with_ca(file: Callable[[Authority], Path]) -> Callable[[Authority], TLSSection]:
    def made(a: Authority) -> TLSSection:
        return served(a.issue(), file(a))

    return made


def _old_ca(a: Authority) -> Path:
    return own(a, "old-ca", -2, 0, is_ca=True)[0]


def _early_ca(a: Authority) -> Path:
    return own(a, "early-ca", 3, 4, is_ca=True)[0]


def _no_ca(a: Authority) -> Path:
    return a.issue()[0].with_suffix(".key")


def _leaf_as_ca(a: Authority) -> Path:
    return own(a, "leaf", 0, 4)[0]


def _damaged_ca(a: Authority) -> Path:
    return written(a, "damaged-ca.pem", a.file.read_bytes().replace(b"MII", b"AAA"))


def _missing_ca(a: Authority) -> Path:
    return a.folder / "no-ca.pem"


BAD: dict[Callable[[Authority], TLSSection], tuple[str, str]] = {
    _expired: ("certificate", "certificate has expired: renew it, or set this machine's clock"),
    _not_yet_valid: ("certificate", "certificate is not yet valid: wait, or set this machine's clock"),
    _clients_only: ("certificate", ": get one that is made for servers"),
    _of_another: ("key", "it is not the key of the certificate in {certificate}: name two files that belong together,"),
    _encrypted: (
        "key",
        "it is encrypted, and no password can be asked for: decrypt it with openssl pkey -in {key} -out FILE",
    ),
    _swapped: ("certificate", "there is no certificate in PEM in it: openssl x509 -outform PEM makes one of DER"),
    _certificate_twice: ("key", "there is no private key in PEM in it: name the certificate's key"),
    _der: ("certificate", "there is no certificate in PEM in it: openssl x509 -outform PEM makes one of DER"),
    _damaged: ("certificate", "its first certificate cannot be read: "),
    _damaged_key: ("key", "it cannot be used: "),
    _missing: ("certificate", "it cannot be read: no such file or directory; name a file that the gateway may read"),
    _missing_key: ("key", "it cannot be read: no such file or directory; name a file that the gateway may read"),
    _folder: ("certificate", "it cannot be read: is a directory; name a file that the gateway may read"),
    _no_name: ("certificate", "it cannot be read: embedded null byte; name a file that the gateway may read"),
    _with_ca(_old_ca): ("client_ca", "the authority has expired: renew it, or set this machine's clock"),
    _with_ca(_early_ca): ("client_ca", "the authority is not yet valid: wait, or set this machine's clock"),
    _with_ca(_no_ca): ("client_ca", "there is no certificate in PEM in it: "),
    _with_ca(_leaf_as_ca): ("client_ca", "there is no authority in it: name the one that signs your clients'"),
    _with_ca(_damaged_ca): ("client_ca", "its certificates cannot be read: "),
    _with_ca(_missing_ca): ("client_ca", "it cannot be read: no such file or directory; "),
}


@pytest.mark.parametrize(("make", "expected"), BAD.items())
def test_a_bad_file_is_one_line_that_names_option_file_and_remedy(
    make: Callable[[Authority], TLSSection], expected: tuple[str, str], authority: Authority
) -> None:
    tls = make(authority)
    with pytest.raises(ConfigError) as raised:
        load(tls)
    (problem,) = raised.value.problems
    option, found = expected
    assert problem.startswith(f"tls.{option}: {getattr(tls, option)}: ")
    assert found.format(certificate=tls.certificate, key=tls.key) in problem
    assert "\n" not in problem
    assert "_ssl.c" not in problem


def test_without_a_certificate_there_is_no_tls() -> None:
    assert load(TLSSection()) is None


def test_an_authority_that_has_expired_beside_one_that_is_valid_is_fine(authority: Authority) -> None:
    both = written(authority, "both.pem", _old_ca(authority).read_bytes() + authority.file.read_bytes())
    assert load(served(authority.issue(), both)) is not None


def test_text_around_the_certificates_is_fine_in_any_language(authority: Authority) -> None:
    certificate, key = authority.issue()
    text = "Sertifika Türkçe\n".encode() + certificate.read_bytes()
    assert load(served((written(authority, "text.pem", text), key))) is not None


@pytest.mark.processes
@pytest.mark.parametrize("command", ["serve", "check"])
def test_the_commands_report_it_and_end(command: str, authority: Authority, tmp_path: Path) -> None:
    tls = _expired(authority)
    (tmp_path / "own.py").write_text("from gateway import method\n\n@method\ndef one() -> int:\n    return 1\n")
    settings = ("--set", f"tls.certificate={tls.certificate}", "--set", f"tls.key={tls.key}")
    extra = ("--bind", "127.0.0.1:0") if command == "serve" else ()
    arguments = [sys.executable, "-m", "gateway", command, *settings, *extra, "own"]
    ended = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert ended.stdout == ""
    name = "error[certificates]: " if command == "check" else ""
    problem = f"gateway: {name}tls.certificate: {tls.certificate}: certificate has expired: "
    assert [line for line in ended.stderr.splitlines() if line.startswith("gateway: ")] == [
        f"{problem}renew it, or set this machine's clock"
    ]


# What is spoken


def test_the_standard_library_calls_over_https(server: Server, authority: Authority) -> None:
    assert server.url == f"https://127.0.0.1:{server.port}/api"
    with xmlrpc.client.ServerProxy(server.url, context=authority.client()) as proxy:
        assert proxy.add(2, 3) == 5


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_modern_tls_is_spoken(version: ssl.TLSVersion, server: Server, authority: Authority) -> None:
    context = authority.client()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    with Wire(server.port, tls=context) as wire:
        assert isinstance(wire.socket, ssl.SSLSocket)
        assert wire.socket.version() == version.name.replace("_", ".")
        assert wire.socket.selected_alpn_protocol() == "http/1.1"
        assert wire.socket.compression() is None
        wire.send(ADD * 3)
        assert [response.body[-15:] for response in (wire.read(), wire.read(), wire.read()) if response] == [
            b'"result":5,"id":1}'[-15:]
        ] * 3


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_refused(version: ssl.TLSVersion, server: Server, authority: Authority) -> None:
    context = authority.client()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        call(server, context)


@pytest.mark.parametrize("ciphers", ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA256"])
def test_ciphers_without_forward_secrecy_or_authentication_are_refused(
    ciphers: str, server: Server, authority: Authority
) -> None:
    context = authority.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    with pytest.raises(ssl.SSLError):
        call(server, context)


def test_nothing_is_negotiated_twice(pair: tuple[Path, Path]) -> None:
    context = load(served(pair))
    assert context is not None
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION


@pytest.mark.parametrize("options", ["keep-alive", "close"])
def test_a_large_answer_arrives_whole(options: str, server: Server, authority: Authority) -> None:
    body = b'{"jsonrpc":"2.0","method":"large","params":[8000000],"id":1}'
    with Wire(server.port, tls=authority.client()) as wire:
        wire.send(request("/api", {**JSON, "Connection": options}, body))
        response = wire.read()
    assert response is not None
    assert len(response.body) > 8_000_000


def test_a_connection_ends_with_close_notify(server: Server, authority: Authority) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain:
        context = authority.client()
        with context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as wrapped:
            wrapped.sendall(ADD.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            while wrapped.recv(65536):  # raises SSLEOFError where TCP ends without a word
                pass


# Who is let in


def test_the_name_in_a_clients_certificate_is_known_to_the_rules(guarded: Server, authority: Authority) -> None:
    assert b'"result":5' in call(guarded, authority.client(authority.issue("odoo"))).body
    refused = call(guarded, authority.client(authority.issue("other")))
    assert b'"code":-32005' in refused.body


def test_a_client_without_a_certificate_is_not_let_in(guarded: Server, authority: Authority) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        call(guarded, authority.client())


def test_a_client_of_another_authority_is_not_let_in(guarded: Server, authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path).issue("odoo")
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        call(guarded, authority.client(other))


def test_a_clients_certificate_that_has_expired_lets_nobody_in(guarded: Server, authority: Authority) -> None:
    expired = authority.issue("odoo", begin=PAST - DAY, end=PAST)
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        call(guarded, authority.client(expired))


def test_a_certificate_with_two_names_has_none(authority: Authority, pair: tuple[Path, Path]) -> None:
    ca_key = load_pem_private_key(authority.ca.private_key_pem.bytes(), None)
    ca = x509.load_pem_x509_certificate(authority.ca.cert_pem.bytes())
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in ("odoo", "guest")])
    builder = x509.CertificateBuilder(issuer_name=ca.subject, subject_name=names, public_key=key.public_key())
    builder = builder.serial_number(2).not_valid_before(PAST).not_valid_after(FUTURE)
    signed = builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM)
    double = (written(authority, "double.pem", signed), written(authority, "double.key", in_pem(key)))
    assert seen_by_the_endpoint(served(pair, authority.file), authority.client(double)) == [None]
    odoo = authority.issue("odoo")
    assert seen_by_the_endpoint(served(pair, authority.file), authority.client(odoo)) == ["odoo"]


def seen_by_the_endpoint(tls: TLSSection, client: ssl.SSLContext) -> list[str | None]:
    """Make one request, and return the names that the endpoint was given."""
    seen: list[str | None] = []

    def admit(head: HTTPRequest) -> HTTPResponse:
        seen.append(head.certificate)
        return HTTPResponse(body=b"seen")

    async def serve_one() -> None:
        host = HTTPHost(admit, Limits(), tls=load(tls))
        sockets = bind("127.0.0.1", 0, 8)
        host.serve(sockets)
        address, port = sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(address, port, ssl=client, server_hostname="localhost")
        writer.write(request("/api", {"Connection": "close"}, b""))
        assert b"seen" in await reader.read()
        writer.close()
        host.retire()
        await host.close()

    asyncio.run(serve_one())
    return seen


# New files


def test_new_files_are_for_new_connections_and_old_ones_go_on(authority: Authority, tmp_path: Path) -> None:
    async def serve_two() -> tuple[str, str]:
        host = HTTPHost(lambda _: HTTPResponse(body=b"seen"), Limits(), tls=load(served(authority.issue("first"))))
        sockets = bind("127.0.0.1", 0, 8)
        host.serve(sockets)
        port = sockets[0].getsockname()[1]
        first_reader, first_writer = await connect(port)
        host.tls = load(served(authority.issue("second")))
        second_reader, second_writer = await connect(port)
        for reader, writer in ((first_reader, first_writer), (second_reader, second_writer)):
            writer.write(request("/api", {}, b""))
            assert (await reader.readuntil(b"seen")).startswith(b"HTTP/1.1 200 ")
            writer.close()
        host.retire()
        await host.close()
        return shown(first_writer), shown(second_writer)

    async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", port, ssl=authority.client())

    def shown(writer: asyncio.StreamWriter) -> str:
        subject = writer.get_extra_info("peercert")["subject"]
        return next(str(value) for ((name, value),) in subject if name == "commonName")

    assert asyncio.run(serve_two()) == ("first", "second")


# What is no handshake; the fixture ``logged`` holds that none of it is a warning


@pytest.mark.parametrize(
    "sent",
    [b"POST /api HTTP/1.1\r\nHost: a\r\n\r\n", os.urandom(500), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 60],
)
def test_what_is_no_tls_ends_the_connection(sent: bytes, server: Server, authority: Authority) -> None:
    with Wire(server.port) as wire:
        wire.send(sent)
        while not wire.is_closed():
            pass
    assert b'"result":5' in call(server, authority.client()).body


@pytest.mark.parametrize("sent", [b"\0", b"\x16\x03\x01\x02\x00\x01", b"\xff" * 20_000, b"\0\r\n\r\n"])
def test_garbage_inside_of_tls_is_answered_with_400(sent: bytes, server: Server, authority: Authority) -> None:
    with Wire(server.port, tls=authority.client()) as wire:
        wire.send(sent)
        response = wire.read()
        assert response is not None
        assert response.status == 400
        assert wire.is_closed()


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
def test_a_handshake_that_stalls_is_ended(sent: bytes, server: Server) -> None:
    with Wire(server.port) as wire:
        wire.send(sent)
        began = time.monotonic()
        assert wire.is_closed()
        assert time.monotonic() - began > 0.9


def test_a_connection_that_breaks_inside_of_tls_is_no_warning(server: Server, authority: Authority) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain:
        wrapped = authority.client().wrap_socket(plain, server_hostname="localhost")
        with socket.socket(fileno=wrapped.detach()) as bare:
            bare.settimeout(10)
            bare.sendall(b"\x17\x03\x03\x00\x20" + os.urandom(32))  # a record that nobody has encrypted
            while bare.recv(65536):
                pass
    assert b'"result":5' in call(server, authority.client()).body
