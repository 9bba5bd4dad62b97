"""Both clients against our own gateway: HTTP, TLS, Unix sockets, plain TCP; each rule on the wire."""

import asyncio
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from gateway import Context, Fault, Registry
from gateway.client import ArgumentError, AsyncClient, CallTimeout, Client, Outcome, StatusError, TLSError
from gateway.core.access import make_key
from gateway.model.faults import (
    DeadlineExceeded,
    Denied,
    ForeignFault,
    InternalError,
    InvalidParams,
    MethodNotFound,
    RateLimited,
    RequestTooLarge,
)
from tests.certificates import Authority
from tests.client.asking import Ask, both, lying, protocols, result
from tests.conftest import Logged
from tests.serving import Server, eventually, serving

registry = Registry()
noted: list[Any] = []


@registry.register(name="inventory.list")
def inventory_list(kind: str, limit: int = 2) -> list[str]:
    return [kind] * limit


@registry.register
def add(a: int, b: int) -> int:
    return a + b


@registry.register
def echo(*values: Any) -> list[Any]:
    return list(values)


@registry.register
def when() -> dict[str, Any]:
    return {"at": datetime(2024, 2, 29, 12, 34, 56), "data": b"\x00\xff"}


@registry.register
def refuse(code: int) -> None:
    raise Fault(code, "not today", {"when": "tomorrow"})


@registry.register
def crash() -> None:
    raise RuntimeError("inside")


@registry.register
def note(value: Any) -> None:
    noted.append(value)


@registry.register
def head(name: str, context: Context) -> str | None:
    return context.headers.get(name)


@registry.register
async def rest(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "rested"


@registry.register
def long(size: int) -> str:
    return "x" * size


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(registry, {"server.tcp": "127.0.0.1:0"}) as running:
        yield running


@both
@protocols
def test_names_arguments_and_results(ask: Ask, protocol: str, server: Server) -> None:
    values: list[Any] = [None, True, 1, -(2**40), 1.5, "ü<&>\r\n", [1, [2]], {"a": {"b": []}}, {}]
    assert ask(
        server.url,
        lambda c: c.inventory.list("fig"),
        lambda c: c.call("inventory.list", "fig", 1),
        lambda c: c.echo(*values),
        lambda c: c.echo(),
        protocol=protocol,
    ) == [["fig", "fig"], ["fig"], values, []]


@both
def test_arguments_by_name_and_the_protocol_in_the_url(ask: Ask, server: Server) -> None:
    assert ask(server.url, lambda c: c.inventory.list(kind="fig", limit=1)) == [["fig"]]
    assert ask(f"xmlrpc+{server.url}", lambda c: c.when()) == [
        {"at": datetime(2024, 2, 29, 12, 34, 56), "data": b"\x00\xff"}
    ]
    (refused,) = ask(f"xmlrpc+{server.url}", lambda c: c.add(a=1, b=2))
    assert (type(refused), refused.sent) == (ArgumentError, "no")
    assert str(refused) == "XML-RPC has no arguments by name"


@both
def test_both_kinds_of_arguments_are_a_mistake(ask: Ask, server: Server) -> None:
    with pytest.raises(TypeError, match="all by position, or all by name"):
        ask(server.url, lambda c: c.add(1, b=2))


@both
@protocols
def test_what_cannot_be_encoded_is_not_sent(ask: Ask, protocol: str, server: Server) -> None:
    (refused,) = ask(server.url, lambda c: c.echo(1, [object()]), protocol=protocol)
    assert type(refused) is ArgumentError
    assert str(refused).startswith("params[1][0]: cannot be encoded as ")


@both
@protocols
def test_faults_have_types(ask: Ask, protocol: str, server: Server, logged: Logged) -> None:
    own, absent, wrong, inside = ask(
        server.url,
        lambda c: c.refuse(7),
        lambda c: c.absent(),
        lambda c: c.add(1, "2"),
        lambda c: c.crash(),
        protocol=protocol,
    )
    assert (type(own), own.code, own.message) == (ForeignFault, 7, "not today")
    assert own.data == ({"when": "tomorrow"} if protocol == "jsonrpc" else None)
    assert (type(absent), absent.message) == (MethodNotFound, "Method not found: there is no method absent")
    assert (type(wrong), wrong.detail) == (InvalidParams, "params[1]: expected int, got str")
    assert type(inside) is InternalError
    (line,) = logged.take("RuntimeError: inside")
    assert inside.data["error_id"] in line


@both
@protocols
def test_a_batch_has_an_outcome_for_each_call(ask: Ask, protocol: str, server: Server) -> None:
    kept: list[Outcome] = []

    def send(client: Any) -> Any:
        batch = client.batch()
        kept.extend([batch.add(1, 2), batch.call("refuse", 5), batch.inventory.list("fig", 1), batch.absent()])
        with pytest.raises(RuntimeError, match="has not been sent"):
            kept[0].result()
        assert len(batch) == 4
        return batch.send()

    (outcomes,) = ask(server.url, send, protocol=protocol)
    assert outcomes == kept
    assert (kept[0].result(), kept[2].value, kept[0].error) == (3, ["fig"], None)
    assert (type(kept[1].error), type(kept[3].error)) == (ForeignFault, MethodNotFound)
    with pytest.raises(Fault, match="not today"):
        kept[1].result()


@both
@protocols
def test_a_batch_that_is_refused_as_a_whole_raises(ask: Ask, protocol: str, server: Server) -> None:
    def send(client: Any) -> Any:
        batch = client.batch()
        for _ in range(101):
            batch.add(1, 2)
        return batch.send()

    empty, refused = ask(server.url, lambda c: c.batch().send(), send, protocol=protocol)
    assert empty == []
    assert refused.code == -32600
    assert "at most 100 calls" in refused.message


@both
def test_a_batch_is_sent_once(ask: Ask, server: Server) -> None:
    def twice(client: Any) -> Any:
        batch = client.batch()
        batch.note(1)
        sent = batch.send()
        with pytest.raises(RuntimeError, match="already"):
            batch.send()
        with pytest.raises(RuntimeError, match="already"):
            batch.note(2)
        return sent

    assert len(ask(server.url, twice)[0]) == 1


@both
def test_notifications_alone_and_in_a_batch(ask: Ask, server: Server) -> None:
    def send(client: Any) -> Any:
        batch = client.batch()
        batch.notify("note", 2)
        answered = batch.add(1, 1)
        batch.notify("note", 3)
        sent = batch.send()
        del answered
        return sent

    def notify(client: Any) -> Any:
        batch = client.batch()
        batch.notify("note", 4)
        return batch.send()

    for url in (server.url, f"tcp://127.0.0.1:{server.tcp_port}"):
        noted.clear()
        first, outcomes, none, last = ask(
            url, lambda c: c.notify("note", 1), send, notify, lambda c: c.call("note", 5), connections=1
        )
        assert (first, [outcome.result() for outcome in outcomes], none, last) == (None, [2], [], None)
        # A notification has no response, so it may still run when a call behind it has ended.
        eventually(lambda: len(noted) == 5, "a notification is lost")
        assert sorted(noted) == [1, 2, 3, 4, 5]


@both
def test_xmlrpc_has_no_notifications(ask: Ask, server: Server) -> None:
    def send(client: Any) -> Any:
        batch = client.batch()
        batch.notify("note", 1)
        return batch.send()

    for refused in ask(server.url, lambda c: c.notify("note", 1), send, protocol="xmlrpc"):
        assert type(refused) is ArgumentError
        assert "XML-RPC has no notifications" in str(refused)


@both
def test_headers_and_the_deadline_are_handed_on(ask: Ask, server: Server) -> None:
    spans = iter(["00-1", "00-2"])
    steps = (
        lambda c: c.head("X-Own"),
        lambda c: c.using(headers={"x-own": "b"}).head("X-Own"),
        lambda c: c.using(headers=lambda: {"traceparent": next(spans)}).head("traceparent"),
        lambda c: c.using(headers=lambda: {"traceparent": next(spans)}).head("x-own"),
        lambda c: c.using(timeout=5).head("X-Request-Timeout"),
    )
    *found, told = ask(server.url, *steps, headers={"X-Own": "a"})
    assert found == ["a", "b", "00-1", "a"]
    assert 4 < float(told) <= 4.5
    assert ask(server.url, lambda c: c.head("X-Request-Timeout"), headers={"X-Request-Timeout": "7"}) == ["7"]


@both
def test_the_server_says_that_the_time_is_over(ask: Ask, server: Server) -> None:
    (over,) = ask(server.url, lambda c: c.using(timeout=5, retries=9).using(timeout=0.4).rest(30))
    assert isinstance(over, DeadlineExceeded | CallTimeout)


@both
@protocols
def test_keys_and_names(ask: Ask, protocol: str, tmp_path: Path) -> None:
    key, stored = make_key()
    with serving(registry, {"access.keys": f'{{"odoo": "{stored}"}}'}) as running:
        with_name = running.url.replace("://", f"://odoo:%{ord(key[0]):02X}{key[1:]}@")
        for url, options in (
            (running.url, {"key": key}),
            (running.url, {"auth": ("odoo", key)}),
            (with_name, {}),
            (running.url, {"headers": {"authorization": f"Bearer {key}"}, "key": "wrong"}),
        ):
            assert ask(url, lambda c: c.add(1, 2), protocol=protocol, **options) == [3]
        (denied,) = ask(running.url, lambda c: c.add(1, 2), protocol=protocol, key="wrong", idempotent=True)
        assert type(denied) is Denied
        with Client(with_name) as client:
            assert key[1:] not in f"{client!r}{client.url}"


@both
@protocols
def test_too_long_a_request(ask: Ask, protocol: str) -> None:
    with serving(registry, {"limits.max_body": 1024}) as running:
        (refused,) = ask(running.url, lambda c: c.echo("x" * 5_000_000), protocol=protocol)
    assert type(refused) is RequestTooLarge


@both
def test_a_rate_says_when_to_call_again_and_is_waited_for(ask: Ask) -> None:
    with serving(registry, {"limits.client_rate": 1, "limits.client_burst": 1}) as running:
        first, in_json = ask(running.url, lambda c: c.add(1, 2), lambda c: c.add(1, 2))
        steps = (lambda c: c.add(1, 2), lambda c: c.using(idempotent=True, retries=5).add(2, 2))
        in_xml, waited = ask(running.url, *steps, protocol="xmlrpc")
    assert (first, waited) == (3, 4)
    for limited in (in_json, in_xml):
        assert (type(limited), limited.retry_after) == (RateLimited, 1)


@both
def test_gzip_both_ways(ask: Ask, server: Server) -> None:
    found = ask(server.url, lambda c: c.long(100_000), lambda c: c.echo("y" * 5000), compress_above=1000)
    assert found == ["x" * 100_000, ["y" * 5000]]


@both
def test_a_path_that_the_server_does_not_have(ask: Ask, server: Server) -> None:
    (absent,) = ask(server.at("/nothing"), lambda c: c.add(1, 2))
    assert (type(absent), absent.status, absent.sent, absent.url) == (StatusError, 404, "yes", server.at("/nothing"))
    assert "is the path right?" in str(absent)


@both
def test_plain_tcp_in_each_framing(ask: Ask) -> None:
    for framing in ("json", "newline", "netstring"):
        with serving(registry, {"server.tcp": "127.0.0.1:0", "server.tcp_framing": framing}) as running:
            url = f"tcp://127.0.0.1:{running.tcp_port}"
            found = ask(url, lambda c: c.add(1, 2), lambda c: c.echo("ü\n"), lambda c: c.refuse(3), framing=framing)
        assert found[:2] == [3, ["ü\n"]]
        assert found[2].code == 3


def test_over_plain_tcp_there_is_no_place_for_what_http_has() -> None:
    for url, options in {
        "tcp://k:k@127.0.0.1:1": {},
        "tcp://127.0.0.1:2": {"key": "k"},
        "tcp://127.0.0.1:3": {"headers": {"A": "b"}},
        "tcp://127.0.0.1:4": {"protocol": "xmlrpc"},
        "tcp://127.0.0.1:5/api": {},
    }.items():
        with pytest.raises(ValueError, match=r"no place for|only JSON-RPC|has a path"):
            Client(url, **options)  # type: ignore[arg-type]


@both
def test_unix_sockets(ask: Ask, tmp_path: Path) -> None:
    path, tcp = tmp_path / "gateway.sock", tmp_path / "tcp.sock"
    url = f"http+unix://{quote(str(path), safe='')}/api"
    with serving(registry, {"server.bind": f'["127.0.0.1:0", "unix:{path}"]'}):
        assert ask(url, lambda c: c.head("Host"), lambda c: c.add(1, 2)) == ["localhost", 3]
        assert ask(f"xmlrpc+{url}", lambda c: c.add(1, 2)) == [3]
    with lying([result(b"3") + b"\n"], path=tcp):
        assert ask(f"tcp+unix://{tcp}", lambda c: c.add(1, 2)) == [3]
    (absent,) = ask(f"tcp+unix://{tmp_path}/absent", lambda c: c.add(1, 2), retries=0)
    assert str(absent).endswith("is the server started, and the path of the socket right?")


@both
def test_plain_tcp_in_tls(ask: Ask, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(*authority.issue())
    with lying([result(b"3") + b"\n", result(b"4", 2) + b"\n"], tls=served) as liar:
        url = f"tcp+tls://127.0.0.1:{liar.port}"
        assert ask(url, lambda c: c.add(1, 2), lambda c: c.add(2, 2), ca=authority.file) == [3, 4]


@both
def test_tls_and_certificates_of_both_sides(ask: Ask, tmp_path: Path, logged: Logged) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue()
    own, own_key = authority.issue("odoo")
    settings = {"tls.certificate": certificate, "tls.key": key, "tls.client_ca": authority.file}
    with serving(registry, settings) as running:
        url = f"https://127.0.0.1:{running.port}/api"
        ca = str(authority.file)
        pair = {"cert": own, "cert_key": own_key}
        assert ask(url, lambda c: c.add(1, 2), lambda c: c.long(300_000), ca=ca, **pair) == [3, "x" * 300_000]
        assert ask(url, lambda c: c.add(1, 2), verify=False, **pair) == [3]
        assert ask(url, lambda c: c.add(1, 2), tls=authority.client((own, own_key))) == [3]
        (distrusted,) = ask(url, lambda c: c.add(1, 2), **pair)
        assert (type(distrusted), distrusted.sent) == (TLSError, "no")
        assert str(distrusted).endswith("name the file of its authority with ca")
        (nameless,) = ask(url, lambda c: c.add(1, 2), ca=ca)
        assert isinstance(nameless, ConnectionError)
    with pytest.raises(ValueError, match=r"missing\.pem: it cannot be read as certificates in PEM: no such file"):
        Client(url, ca="missing.pem")
    with pytest.raises(ValueError, match="no certificate and key can be read"):
        Client(url, ca=ca, cert=ca)
    for options in ({"ca": ca}, {"cert": ca}, {"verify": False}, {"tls": ssl.create_default_context()}):
        with pytest.raises(ValueError, match="need a URL that begins with https"):
            Client("http://127.0.0.1/", **options)
    logged.take("")


def test_threads_share_a_client(server: Server) -> None:
    found: list[int] = []

    def ask_often(client: Client, number: int) -> None:
        for value in range(20):
            assert client.add(number, value) == number + value
            found.append(value)

    with Client(server.url, connections=3) as client:
        threads = [threading.Thread(target=ask_often, args=(client, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(client._core._idle) <= 3
    assert len(found) == 160


@pytest.mark.parametrize("url", ["http", "tcp"])
def test_tasks_share_a_client(url: str, server: Server) -> None:
    async def ask() -> list[int]:
        where = server.url if url == "http" else f"tcp://127.0.0.1:{server.tcp_port}"
        async with AsyncClient(where, connections=3) as client:
            return list(await asyncio.gather(*(client.add(number, 1) for number in range(50))))

    assert asyncio.run(ask()) == list(range(1, 51))


def test_a_cancelled_call_closes_its_connection_and_another_one_goes_on(server: Server) -> None:
    async def ask() -> Any:
        async with AsyncClient(server.url, connections=1) as client:
            call = asyncio.create_task(client.call("rest", 30))
            await asyncio.sleep(0.05)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            return await client.add(1, 2)

    assert asyncio.run(ask()) == 3


def test_a_client_goes_from_loop_to_loop(server: Server) -> None:
    client = AsyncClient(server.url)
    first = asyncio.new_event_loop()
    first.set_debug(True)  # it refuses what another thread does to it
    thread = threading.Thread(target=first.run_forever)
    thread.start()

    async def ask() -> Any:
        return await client.add(1, 2)

    with asyncio.Runner() as second:
        assert asyncio.run_coroutine_threadsafe(ask(), first).result(10) == 3
        (kept,) = client._core._idle
        assert second.run(ask()) == 3
        assert client._core._idle[0][0] is not kept[0]
        eventually(lambda: not kept[0].is_clean(), "the connection of the first loop is open")
        second.run(client.close())
    first.call_soon_threadsafe(first.stop)
    thread.join(10)
    first.close()


def test_a_call_that_finds_no_connection_says_so(server: Server) -> None:
    started = time.monotonic()
    with Client(server.url, connections=1) as client:
        thread = threading.Thread(target=client.rest, args=(0.4,))
        thread.start()
        time.sleep(0.1)
        with pytest.raises(CallTimeout, match="other calls have all 1 connections: raise connections") as raised:
            client.using(timeout=0.1).add(1, 2)
        thread.join(10)
    assert raised.value.sent == "no"
    assert time.monotonic() - started < 20


WRONG: dict[str, tuple[Any, ...]] = {
    "there is no option 'tiemout'": ("http://h/", {"tiemout": 1}),
    "timeout must be above 0": ("http://h/", {"timeout": 0}),
    "framing must be one of json, newline, netstring": ("tcp://h:1", {"framing": "lines"}),
    "there is no protocol 'soap'": ("http://h/", {"protocol": "soap"}),
    "there is no protocol 'ftp'": ("ftp+http://h/", {}),
    "'a b' in headers is not the name of a header": ("http://h/", {"headers": {"a b": "c"}}),
    "Content-Length in headers cannot be chosen": ("http://h/", {"headers": {"Content-Length": "5"}}),
    "the header A must be in printable ASCII characters": ("http://h/", {"headers": {"A": "SECRET\r\nB: c"}}),
    "the header B must be in printable ASCII characters": ("http://h/", {"headers": {"B": "ü"}}),
    "a key has printable ASCII characters without blanks": ("http://h/", {"key": "SECRET "}),
    "the key is given twice": ("http://a:SECRET@h/", {"key": "SECRET"}),
    "must be percent-encoded": ("http://a:SECRET/x@h/", {}),
    "h/ is not a URL to call": ("odoo:SECRET@h/", {}),
    "http+unix:///x has no path of a socket": ("http+unix:///x", {}),
    "tcp+unix://host/x has no path of a socket": ("tcp+unix://host/x", {}),
    "tcp://h:0 has no port from 1 to 65535": ("tcp://h:0", {}),
    "is not the name of a host": (f"http://{'ü' * 70}/", {}),
}


@pytest.mark.parametrize(("problem", "given"), WRONG.items(), ids=list(WRONG))
def test_what_is_wrong_with_a_client(problem: str, given: tuple[str, dict[str, Any]]) -> None:
    url, options = given
    with pytest.raises((ValueError, TypeError)) as raised:
        Client(url, **options)
    assert problem in str(raised.value)
    assert "SECRET" not in str(raised.value)


def test_names_of_python_are_not_methods(server: Server) -> None:
    with Client(server.url) as client:
        for holder in (client, client.batch(), client.inventory):
            with pytest.raises(AttributeError):
                holder._ipython_display_()
        assert repr(client.inventory.list) == "<method inventory.list>"
        assert repr(client) == f"<Client of {server.url}>"
