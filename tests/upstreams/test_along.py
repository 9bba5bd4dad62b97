"""What goes along with a call to an upstream beside its arguments, over HTTP: nothing that is not asked for."""

import json
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gateway import Caller, ConfigError, Registry, app
from gateway.app import mounted
from gateway.cli.checks import findings
from gateway.config import load
from gateway.core.access import make_key
from gateway.hosts.wsgi import WSGIHost
from gateway.model.calls import Context
from gateway.model.http import HTTPRequest
from gateway.upstreams.transport.along import along_of
from gateway.upstreams.transport.http import HTTPOptions
from tests.conftest import Logged
from tests.hosts.test_wsgi import ask, environ
from tests.raw_http import Response, Wire, exchange, request
from tests.serving import serving
from tests.upstreams.kinds import http
from tests.upstreams.transport.test_http import JSON, XML, server

KEY, STORED = make_key()
ALONG = """
forward = ["Authorization", "traceparent", "accept-language"]
identity = "x-caller"
client_address = "X-Forwarded-For"
idempotency_key = "Idempotency-Key"
"""
RESULTS = {
    "xmlrpc": http(b"<methodResponse><params><param><value><int>3</int></value></param></params></methodResponse>"),
    "jsonrpc": b"",
}
SENT = {"traceparent": "00-ab-cd-01", "Accept-Language": "de", "X-Caller": "somebody else", "Cookie": "a=b"}
Exchange = Callable[[Mapping[str, str], bytes], Response]


class Heads(list[dict[str, str]]):
    """The headers of the requests that an upstream got, and how it answers."""

    def __init__(self, protocol: str) -> None:
        super().__init__()
        self.protocol = protocol
        self.broken = 0

    def answer(self, received: bytes, connection: Any) -> None:
        head, _, body = received.partition(b"\r\n\r\n")
        lines = [line.partition(": ") for line in head.decode("latin-1").split("\r\n")[1:]]
        names = [name.lower() for name, _, _ in lines]
        assert len(names) == len(set(names)), "a header comes twice"
        self.append({name.lower(): value for name, _, value in lines})
        if self.broken:
            self.broken -= 1
            connection.close()
            return
        said = RESULTS[self.protocol]
        if not said:
            said = http(json.dumps({"jsonrpc": "2.0", "result": 3, "id": json.loads(body)["id"]}).encode())
        connection.sendall(said)


@contextmanager
def upstream(folder: Path, protocol: str, more: str, access: str = "") -> Iterator[tuple[Path, Heads]]:
    heads = Heads(protocol)
    kind = XML if protocol == "xmlrpc" else JSON
    with server(heads.answer) as port:
        file = folder / "gateway.toml"
        table = f'[upstreams.up]\nurl = "{kind.url.format(port=port)}"\nmethods = ["add", "get"]\nidempotent = ["get"]'
        file.write_text(f"{table}\n{more}\n[access]\n{access}\n")
        yield file, heads


@contextmanager
def hosts(file: Path) -> Iterator[list[Exchange]]:
    """Serve a configuration by the gateway's own front and by a WSGI application."""
    application = WSGIHost(mounted.endpoint_of(load(file, {}, []), Registry()))

    def over_wsgi(headers: Mapping[str, str], body: bytes) -> Response:
        variables = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
        content = variables.pop("HTTP_CONTENT_TYPE")
        return ask(application, environ(body, CONTENT_TYPE=content, **variables))

    with serving(Registry(), None, file) as front:
        yield [lambda headers, body: exchange(front.port, request("/api", headers, body)), over_wsgi]


def call(send: Exchange, protocol: str, method: str = "up.add", **headers: str) -> Any:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if protocol == "xmlrpc":
        written = xmlrpc.client.dumps((1, 2), method).encode()
        return xmlrpc.client.loads(send({"Content-Type": "text/xml", **sent}, written).body)[0][0]
    body = json.dumps({"jsonrpc": "2.0", "method": method, "params": [1, 2], "id": 1}).encode()
    return json.loads(send({"Content-Type": "application/json", **sent}, body).body)["result"]


USUAL = {"host", "user-agent", "accept-encoding", "content-type", "content-length", "x-request-id", "x-request-timeout"}


@pytest.mark.parametrize("protocol", ["xmlrpc", "jsonrpc"])
def test_nothing_goes_along_by_default(protocol: str, tmp_path: Path) -> None:
    with upstream(tmp_path, protocol, "") as (file, heads), hosts(file) as sends:
        for send in sends:
            assert call(send, protocol, Authorization="Bearer x", Idempotency_Key="k", **SENT) == 3
        assert [set(head) for head in heads] == [USUAL, USUAL]


@pytest.mark.parametrize("protocol", ["xmlrpc", "jsonrpc"])
def test_what_is_asked_for_goes_along(protocol: str, tmp_path: Path) -> None:
    access = f'keys = {{ odoo = "{STORED}" }}\nanonymous = true\ntrusted_proxies = ["127.0.0.1"]'
    with upstream(tmp_path, protocol, ALONG, access) as (file, heads), hosts(file) as sends:
        for send in sends:
            heads.clear()
            bearer = f"Bearer {KEY}"
            call(send, protocol, Authorization=bearer, Idempotency_Key="k-7", X_Forwarded_For="10.0.0.9", **SENT)
            call(send, protocol, **SENT)
            first, second = heads
            assert set(first) - USUAL == {
                "authorization",
                "traceparent",
                "accept-language",
                "x-caller",
                "x-forwarded-for",
                "idempotency-key",
            }
            assert (first["authorization"], first["traceparent"]) == (bearer, "00-ab-cd-01")
            assert (first["x-caller"], first["x-forwarded-for"], first["idempotency-key"]) == (
                "odoo",
                "10.0.0.9",
                "k-7",
            )
            assert "x-caller" not in second, "a caller has chosen who it is"
            assert "authorization" not in second
            assert (second["x-forwarded-for"], len(second["idempotency-key"])) == ("127.0.0.1", 32)


def test_each_of_many_requests_with_such_a_head_passes_on_its_own(tmp_path: Path) -> None:
    """The front keeps heads that come again, but for what varies."""
    more = 'forward = ["traceparent", "X-Shop"]\nidempotency_key = "idempotency-key"'
    with upstream(tmp_path, "jsonrpc", more) as (file, heads), serving(Registry(), None, file) as front:
        body = json.dumps({"jsonrpc": "2.0", "method": "up.add", "params": [1, 2], "id": 1}).encode()
        sent = [(f"00-{n}-01", "ab"[n % 2]) for n in range(12)]
        with Wire(front.port) as wire:
            for trace, shop in sent:
                headers = {"Content-Type": "application/json", "traceparent": trace, "X-Shop": shop}
                wire.send(request("/api", headers, body))
                assert wire.read() is not None
        assert [(head["traceparent"], head["x-shop"]) for head in heads] == sent
        assert len({head["idempotency-key"] for head in heads}) == len(sent)


def test_all_attempts_of_a_call_have_one_key_and_each_call_of_a_batch_its_own(tmp_path: Path, logged: Logged) -> None:
    key = 'idempotency_key = "Idempotency-Key"'
    with upstream(tmp_path, "jsonrpc", key) as (file, heads), serving(Registry(), None, file) as front:
        heads.broken = 1
        one = {"jsonrpc": "2.0", "method": "up.get", "params": [], "id": 1}

        def send(body: Any, **headers: str) -> None:
            sent = {"Content-Type": "application/json", **headers}
            assert exchange(front.port, request("/api", sent, json.dumps(body).encode())).status == 200

        send(one)
        assert len(heads) == 2
        assert heads[0]["idempotency-key"] == heads[1]["idempotency-key"]
        heads.clear()
        send([one, one], **{"Idempotency-Key": "mine"})
        send(one, **{"Idempotency-Key": "not plain, " * 50})
        keys = [head["idempotency-key"] for head in heads]
        assert keys[:2] == ["mine-0", "mine-1"]
        assert len(keys[2]) == 32
    assert logged.take("is down: EOFError")


def test_a_name_of_the_users_own_cannot_end_a_header(tmp_path: Path) -> None:
    served = Registry()

    @served.authenticate
    def who(head: HTTPRequest, caller: Caller) -> Caller:
        return replace(caller, key="a b\r\nX-Admin: 1%é")

    with upstream(tmp_path, "jsonrpc", 'identity = "x-caller"') as (file, heads), serving(served, None, file) as front:
        call(lambda headers, body: exchange(front.port, request("/api", headers, body)), "jsonrpc")
        assert heads[0]["x-caller"] == "a%20b%0D%0AX-Admin:%201%25%C3%A9"
        assert set(heads[0]) - USUAL == {"x-caller"}


def test_what_cannot_stand_in_a_head_is_left_out(tmp_path: Path) -> None:
    with upstream(tmp_path, "jsonrpc", 'forward = ["X-A", "X-B"]') as (file, heads):
        with hosts(file) as (_, over_wsgi):
            call(over_wsgi, "jsonrpc", X_A="a\x7f", X_B="b\xe9")
        assert set(heads[0]) - USUAL == {"x-b"}


def test_a_certificate_tells_who_calls() -> None:
    along = along_of(HTTPOptions(url="xmlrpc+http://a:1", identity="X-Caller"))
    assert along is not None
    context = Context.fake()
    assert along(context) == ()
    context.caller = Caller(client="::1", certificate="tills")
    assert along(context) == (("X-Caller", "tills"),)


WRONG = {
    'forward = ["Content-Length"]': "forward: content-length cannot be chosen",
    'forward = ["x-request-id"]': "forward: x-request-id cannot be chosen",
    'forward = ["Host"]': "forward: host cannot be chosen",
    'forward = ["proxy-authorization"]': "forward: proxy-authorization cannot be chosen",
    'forward = ["a b"]': "forward[0]: expected the name of a header, not 'a b'",
    'identity = "x:y"': "identity: expected the name of a header, or nothing, not 'x:y'",
    'forward = ["X-Caller"]\nidentity = "x-caller"': "identity: x-caller is named twice",
    'headers = { Authorization = "a" }\nforward = ["authorization"]': "forward: authorization is named twice",
    "headers = { A = { fil = 'a' } }": "headers.A.fil: there is no such option; did you mean file?",
    "headers = { A = {} }": "headers.A: expected file or env, one of the two",
    "headers = { A = { file = 'a', env = 'B' } }": "headers.A: expected file or env, one of the two",
    "headers = { A = { env = 'NOT_THERE' } }": "headers.A: the environment has no variable NOT_THERE",
    "headers = { A = { file = '/not/there' } }": "headers.A: /not/there cannot be read: no such file or directory",
    "headers = { A = { file = '.' } }": "headers.A: . cannot be read: is a directory",
}


@pytest.mark.parametrize("more", WRONG)
def test_what_is_wrong_is_told(more: str, tmp_path: Path) -> None:
    with upstream(tmp_path, "xmlrpc", more) as (file, _), pytest.raises(ConfigError) as error:
        app.build(load(file, {}, []), Registry())
    assert WRONG[more] in error.value.problems[0]


SECRET = "Bearer 5ecre7"  # noqa: S105 - of a test


@pytest.mark.parametrize("where", ["file", "env"])
def test_a_secret_is_read_from_elsewhere_and_never_shown(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILLING_KEY", SECRET)
    (tmp_path / "key").write_text(f"{SECRET}\r\n")
    source = {"file": str(tmp_path / "key"), "env": "BILLING_KEY"}[where]
    more = f'headers = {{ Authorization = {{ {where} = "{source}" }}, X-Other = "plain" }}'
    with upstream(tmp_path, "jsonrpc", more) as (file, heads), serving(Registry(), None, file) as front:
        call(lambda headers, body: exchange(front.port, request("/api", headers, body)), "jsonrpc")
        assert (heads[0]["authorization"], heads[0]["x-other"]) == (SECRET, "plain")
        assert SECRET not in repr(front.gateway.config)


@pytest.mark.parametrize("content", [b"", b"a\nb", b"\xff\xfe", b"\n"])
def test_a_secret_that_cannot_be_sent_is_told_without_it(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(content)
    more = f'headers = {{ Authorization = {{ file = "{tmp_path}/key" }} }}'
    with upstream(tmp_path, "jsonrpc", more) as (file, _), pytest.raises(ConfigError) as error:
        app.build(load(file, {}, []), Registry())
    (problem,) = error.value.problems
    is_text = content != b"\xff\xfe"
    assert problem.startswith(f"upstreams.up: headers.Authorization: {'what ' if is_text else ''}{tmp_path}/key ")
    assert "a\nb" not in problem


@pytest.mark.parametrize("forwarded", [False, True])
def test_an_upstream_that_refuses_our_credentials_is_the_operators_problem(
    forwarded: bool, tmp_path: Path, logged: Logged
) -> None:
    more = 'forward = ["Authorization"]' if forwarded else 'headers = { Authorization = "Bearer 7f3a" }'
    with upstream(tmp_path, "xmlrpc", more) as (file, heads), serving(Registry(), None, file) as front:
        heads.protocol = "refused"
        RESULTS["refused"] = http(b"no", "401 Unauthorized")
        for _ in range(3):
            body = json.dumps({"jsonrpc": "2.0", "method": "up.add", "params": [1, 2], "id": 1}).encode()
            sent = {"Content-Type": "application/json"}
            assert json.loads(exchange(front.port, request("/api", sent, body)).body)["error"]["code"] == -32005
    lines = logged.take(
        "ERROR gateway.upstreams upstream up: it does not accept the gateway's credentials: HTTP status 401"
    )
    assert len(lines) == (0 if forwarded else 1)


def test_keys_of_the_gateway_that_go_along_are_told(tmp_path: Path) -> None:
    access = f'keys = {{ odoo = "{STORED}" }}'
    with upstream(tmp_path, "xmlrpc", 'forward = ["Authorization"]', access) as (file, _):
        gateway = app.build(load(file, {}, []), Registry())
        assert [str(each) for each in findings(gateway, ())] == [
            "warning[keys-forwarded]: upstreams.up.forward: authorization holds the callers' API keys of this gateway,"
            " which the upstream can then use; let it have their names by identity"
        ]
