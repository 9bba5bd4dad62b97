"""Who is let in, over real sockets; an address of 127.0.0.0/8 stands in for a peer from elsewhere.

The corpus' categories ``allowlist`` and ``browser`` are here for the Tornado host; its peers that no test machine has
are asked of the policy itself, too.
"""

import base64
import json
import tracemalloc
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import Context, Registry
from gateway.config.access import Access
from gateway.core.access import AccessPolicy, make_key
from gateway.model.calls import Caller
from gateway.model.http import AccessDenied, HTTPRequest
from gateway.model.networks import Network
from tests.conftest import CORPUS_SETTINGS
from tests.corpus_methods import registry as corpus_registry
from tests.raw_http import Response, Wire, request
from tests.serving import Server, eventually, serving

XML = {"Content-Type": "text/xml"}
JSON = {"Content-Type": "application/json"}
WHO = b'{"jsonrpc":"2.0","method":"who","id":1}'
KEY, STORED = make_key()
OTHER, OTHER_STORED = make_key()
DENIED = {"jsonrpc": "2.0", "error": {"code": -32005, "message": "Denied"}, "id": None}

registry = Registry()
stopped: list[str] = []


@registry.register(run="inline", aliases=("stock.whoami",))
def who(context: Context) -> list[str | None]:
    return [context.client, context.key]


@registry.register(run="inline", name="admin.stop", aliases=("harmless",))
def stop() -> str:
    stopped.append("stopped")
    return "stopped"


@registry.register(run="inline", name="admin.look")
def look() -> str:
    return "seen"


def cases() -> list[dict[str, Any]]:
    lines = (Path(__file__).parents[1] / "corpus" / "hostile.jsonl").read_text("utf-8").splitlines()
    return [case for case in map(json.loads, lines) if case["category"] in ("allowlist", "browser")]


@contextmanager
def gateway(**settings: Any) -> Iterator[Server]:
    """Serve with options of [access] and [limits], by their bare names."""
    sections = {name: f"{'limits' if 'rate' in name or 'burst' in name else 'access'}.{name}" for name in settings}
    written = {
        sections[name]: json.dumps(value) if isinstance(value, (dict, list)) else value
        for name, value in settings.items()
    }
    with serving(registry, written) as server:
        yield server


def ask(server: Server, headers: dict[str, str] | None = None, body: bytes = WHO, peer: str = "127.0.0.1") -> Response:
    with Wire(server.port, source=peer) as wire:
        wire.send(request("/api", {**JSON, **(headers or {})}, body))
        response = wire.read()
        assert response is not None
        return response


def result(response: Response) -> Any:
    assert response.status == 200
    return msgspec.json.decode(response.body)["result"]


# the client's address


@pytest.mark.parametrize("case", [case for case in cases() if case["category"] == "allowlist"], ids=lambda c: c["id"])
def test_the_corpus_of_the_allowlist(case: dict[str, Any]) -> None:
    sent = case["request"]
    settings = {**CORPUS_SETTINGS, "access.trusted_proxies": "127.0.0.1", "access.allow": "10.0.0.0/8"}
    bind, peer = ("[::1]:0", "::1") if ":" in case["peer"] else ("127.0.0.1:0", _stand_in(case["peer"]))
    with serving(corpus_registry, {**settings, "server.bind": bind}) as server, Wire(server.port, source=peer) as wire:
        wire.send(request(sent["path"], sent["headers"], sent["body"].encode()))
        response = wire.read()
    assert response is not None
    assert response.status == case["expect"]["http"]
    if response.status == 200:
        assert xmlrpc.client.loads(response.body) == ((case["expect"]["result"],), None)
    else:
        with pytest.raises(xmlrpc.client.Fault, match="Denied"):
            xmlrpc.client.loads(response.body)


def _stand_in(peer: str) -> str:
    """Return an address that this machine has, and that is as little trusted as the peer is."""
    return peer if peer.startswith("127.") else "127.0.0.9"


@pytest.mark.parametrize("case", [case for case in cases() if case["category"] == "allowlist"], ids=lambda c: c["id"])
def test_the_corpus_of_the_allowlist_with_its_own_peers(case: dict[str, Any]) -> None:
    policy = AccessPolicy(Access(trusted_proxies=(Network("127.0.0.1"),), allow=(Network("10.0.0.0/8"),)))
    judged = policy.judge(_head(case["peer"], dict(case["request"]["headers"])))
    assert isinstance(judged, Caller) == (case["expect"]["http"] == 200)


def _head(peer: str, headers: dict[str, str] | None = None) -> HTTPRequest:
    return HTTPRequest(method="POST", target="/api", headers=headers or {}, peer=peer)


CLIENTS = {  # peer, X-Forwarded-For: the client that is found, or none
    ("203.0.113.9", None): "203.0.113.9",
    ("203.0.113.9", "10.0.0.5"): "203.0.113.9",
    ("127.0.0.1", None): "127.0.0.1",
    ("127.0.0.1", "203.0.113.9"): "203.0.113.9",
    ("127.0.0.1", "203.0.113.9, 10.0.0.5"): "10.0.0.5",
    ("127.0.0.1", "203.0.113.9,10.0.0.5,127.0.0.1"): "10.0.0.5",
    ("127.0.0.1", "203.0.113.9,\t192.168.0.1 ,127.0.0.1"): "203.0.113.9",
    ("127.0.0.1", "192.168.0.7, 127.0.0.1"): "192.168.0.7",
    ("192.168.0.1", "::ffff:10.0.0.5"): "10.0.0.5",
    ("::ffff:127.0.0.1", "2001:db8::1"): "2001:db8::1",
    ("127.0.0.1", "2001:DB8:0:0::1"): "2001:db8::1",
    ("127.0.0.1", ""): None,
    ("127.0.0.1", "203.0.113.9,"): None,
    ("127.0.0.1", "203.0.113.9:4711"): None,
    ("127.0.0.1", "[2001:db8::1]"): None,
    ("127.0.0.1", "010.0.0.5"): None,
    ("127.0.0.1", "10.1"): None,
    ("127.0.0.1", "\u0661.1.1.1"): None,
    ("127.0.0.1", "rubbish, 10.0.0.5"): "10.0.0.5",
    ("unix:", None): None,
    ("", "10.0.0.5"): None,
}


@pytest.mark.parametrize(("sent", "client"), CLIENTS.items())
def test_the_client_is_the_first_hop_that_is_no_trusted_proxy(sent: tuple[str, str | None], client: str | None) -> None:
    peer, forwarded = sent
    policy = AccessPolicy(Access(trusted_proxies=(Network("127.0.0.1"), Network("192.168.0.0/28"))))
    judged = policy.judge(_head(peer, {} if forwarded is None else {"X-Forwarded-For": forwarded}))
    assert (judged.client if isinstance(judged, Caller) else None) == client


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "localhost", "", "10.0.0.0/255.0.255.0", "1", "::/129"])
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a network like 10\.0\.0\.0/8 or 2001:db8::/32, or an address$"):
        Network(text)


def test_networks_of_both_kinds() -> None:
    for network, inside, outside in (
        ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
        ("2001:db8::/32", "2001:db8:1::1", "2001:db9::1"),
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("0.0.0.0/0", "255.255.255.255", "::1"),
    ):
        assert ip_address(inside) in Network(network)
        assert ip_address(outside) not in Network(network)
    assert Network("10.0.0.0/8") == Network("10.0.0.0/8") != Network("10.0.0.0/9")
    assert str(Network("2001:DB8::/32")) == "2001:db8::/32"


def test_methods_are_told_the_client_and_nobody_believes_an_untrusted_peer() -> None:
    with gateway(trusted_proxies="127.0.0.1") as server:
        assert result(ask(server, {"X-Forwarded-For": "2001:db8::5"})) == ["2001:db8::5", None]
        assert result(ask(server, {"X-Forwarded-For": "2001:db8::5"}, peer="127.0.0.9")) == ["127.0.0.9", None]


def test_several_headers_are_one_list() -> None:
    with gateway(trusted_proxies="127.0.0.1", allow="10.0.0.0/8") as server:
        head = [("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-For", "10.0.0.5"), *JSON.items()]
        with Wire(server.port) as wire:
            wire.send(request("/api", head, WHO))
            response = wire.read()
        assert response is not None
        assert result(response) == ["10.0.0.5", None]


# Host and Origin


@pytest.mark.parametrize("case", [case for case in cases() if case["category"] == "browser"], ids=lambda c: c["id"])
def test_the_corpus_of_browsers(case: dict[str, Any]) -> None:
    settings = {**CORPUS_SETTINGS, **({"access.hosts": "localhost,127.0.0.1"} if "config" in case else {})}
    sent = case["request"]
    raw = base64.b64decode(case["raw_b64"]) if "raw_b64" in case else None
    with serving(corpus_registry, settings) as server, Wire(server.port) as wire:
        wire.send(raw or request(sent["path"], sent["headers"], sent["body"].encode()))
        response = wire.read()
    assert response is not None
    assert response.status == case["expect"]["http"] == 403


HOSTS = {
    "localhost": 200,
    "LOCALHOST:8000": 200,
    "127.0.0.1:8000": 200,
    "[::1]:8000": 200,
    "[::1]": 200,
    "evil.example": 403,
    "localhost.evil.example": 403,
    "localhost.": 403,
    "": 403,
}


@pytest.mark.parametrize(("host", "status"), HOSTS.items())
def test_the_names_that_a_gateway_goes_by(host: str, status: int) -> None:
    with gateway(hosts="localhost,127.0.0.1,[::1]") as server, Wire(server.port) as wire:
        wire.send(request("/api", JSON, WHO).replace(b"Host: localhost", f"Host: {host}".encode()))
        response = wire.read()
    assert response is not None
    assert response.status == status


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "https://app.example.evil.example", "https://app.example:8443"]
)
def test_a_page_of_another_site_is_refused_whatever_it_sends(origin: str) -> None:
    with gateway(origins="https://app.example") as server:
        for kind in ("application/json", "text/plain", "text/xml"):
            assert ask(server, {"Origin": origin, "Content-Type": kind}).status == 403


def test_a_page_of_an_allowed_site_may_ask_first_then_call_and_read_the_answer() -> None:
    origin = {"Origin": "https://app.example"}
    with gateway(origins="https://app.example") as server, Wire(server.port) as wire:
        asked = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        wire.send(request("/api", asked, b"", "OPTIONS"))
        response = wire.read()
        assert response is not None
        assert response.status == 204
        assert response.headers["access-control-allow-origin"] == "https://app.example"
        assert response.headers["access-control-allow-methods"] == "POST"
        assert "Content-Type" in response.headers["access-control-allow-headers"]
        answer = ask(server, origin)
        assert result(answer) == ["127.0.0.1", None]
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert answer.headers["vary"] == "Origin"
        shown = answer.headers["access-control-expose-headers"].split(", ")
        assert {"Deprecation", "Retry-After", "Sunset", "X-Request-ID"} == {*shown}
        wire.send(request("/api", {**asked, "Origin": "https://evil.example"}, b"", "OPTIONS"))
        response = wire.read()
        assert response is not None
        assert response.status == 403
        assert not [name for name in response.headers if name.startswith("access-control")]


def test_without_an_origin_nothing_is_said_of_it() -> None:
    with gateway(origins="https://app.example") as server:
        assert not {"vary", "access-control-allow-origin"} & set(ask(server).headers)


# keys


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


SHOWN = {  # Authorization: the name of the key, or None where nobody is let in
    f"Bearer {KEY}": "odoo",
    f"bearer  {KEY}": "odoo",
    _basic("odoo", KEY): "odoo",
    f"Bearer {OTHER}": "shop",
    f"Bearer {KEY}x": None,
    f"Bearer {KEY[:-1]}": None,
    "Bearer ": None,
    "Bearer": None,
    f"Bearer {STORED}": None,
    f"Bearer {STORED.removeprefix('sha256:')}": None,
    KEY: None,
    _basic("shop", KEY): None,
    _basic("odoo", ""): None,
    _basic("", KEY): None,
    "Basic !": None,
    "Basic b2Rvbw": None,
    f"Digest {KEY}": None,
    "": None,
    "Bearer \xfc": None,
}


@pytest.fixture(scope="module")
def keyed() -> Iterator[Server]:
    with gateway(keys={"odoo": STORED, "shop": OTHER_STORED}) as server:
        yield server


@pytest.mark.parametrize(("shown", "name"), SHOWN.items(), ids=range(len(SHOWN)))  # the keys are new in each run
def test_who_shows_a_key_is_known_by_its_name(shown: str, name: str | None, keyed: Server) -> None:
    response = ask(keyed, {"Authorization": shown})
    if name is not None:
        assert result(response) == ["127.0.0.1", name]
    else:
        assert response.status == 401
        assert response.headers["www-authenticate"].startswith("Bearer ")
        assert msgspec.json.decode(response.body) == DENIED


def test_without_a_key_nobody_is_let_in_and_each_protocol_is_told_so(keyed: Server) -> None:
    assert msgspec.json.decode(ask(keyed).body) == DENIED
    with Wire(keyed.port) as wire:
        wire.send(request("/api", XML, b"<methodCall/>"))
        response = wire.read()
    assert response is not None
    assert response.status == 401
    with pytest.raises(xmlrpc.client.Fault) as raised:
        xmlrpc.client.loads(response.body)
    assert (raised.value.faultCode, raised.value.faultString) == (-32005, "Denied")


def test_the_standard_library_s_client_with_a_key_in_its_url(keyed: Server) -> None:
    with xmlrpc.client.ServerProxy(f"http://odoo:{KEY}@127.0.0.1:{keyed.port}/api") as proxy:
        assert proxy.who() == ["127.0.0.1", "odoo"]
    proxy = xmlrpc.client.ServerProxy(f"http://odoo:{OTHER}@127.0.0.1:{keyed.port}/api")
    with proxy, pytest.raises(xmlrpc.client.ProtocolError) as raised:
        proxy.who()
    assert raised.value.errcode == 401


def test_an_authorization_that_nobody_asks_for_is_passed_over() -> None:
    with gateway() as server:
        assert result(ask(server, {"Authorization": _basic("user", "password")})) == ["127.0.0.1", None]


def test_callers_without_a_key_can_be_let_in_but_not_with_a_wrong_one() -> None:
    with gateway(keys={"odoo": STORED}, anonymous="true") as server:
        assert result(ask(server)) == ["127.0.0.1", None]
        assert result(ask(server, {"Authorization": f"Bearer {KEY}"})) == ["127.0.0.1", "odoo"]
        assert ask(server, {"Authorization": f"Bearer {OTHER}"}).status == 401


def test_keys_are_long_and_each_is_another() -> None:
    made = {make_key()[0] for _ in range(50)}
    assert len(made) == 50
    assert all(key.startswith("gw_") and len(key) == 46 for key in made)


# refusals


def test_who_is_refused_is_told_nothing_and_the_log_has_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "gateway.refusals"), gateway(allow="10.0.0.0/8", keys={"odoo": STORED}) as server:
        response = ask(server)
    assert response.status == 403
    assert msgspec.json.decode(response.body) == DENIED
    assert "127.0.0.1" not in str(response.headers)
    assert "127.0.0.1 is not in access.allow" in caplog.text


def test_a_request_is_refused_before_its_body_is_there() -> None:
    with gateway(allow="10.0.0.0/8") as server, Wire(server.port) as wire:
        head = request("/api", {**JSON, "Expect": "100-continue"}, b"x" * 1000)[:-1000]
        wire.send(head)
        response = wire.read()
    assert response is not None
    assert response.status == 403


def test_refused_peers_are_not_told_which_paths_and_verbs_there_are() -> None:
    with gateway(allow="10.0.0.0/8") as server, Wire(server.port) as wire:
        for method, path in (("GET", "/api"), ("POST", "/nowhere"), ("OPTIONS", "/api")):
            wire.send(request(path, {}, b"", method))
            response = wire.read()
            assert response is not None
            assert (response.status, response.body) == (403, b"Denied\n")


# rules for methods

RULES = [
    {"methods": ["admin.look"], "keys": ["odoo", "shop"]},
    {"methods": ["admin.*"], "keys": ["odoo"], "networks": ["127.0.0.0/29"]},
    {"methods": ["stock.*"], "networks": ["10.0.0.0/8"]},
    {"methods": ["system.methodHelp"], "keys": []},
]


@pytest.fixture(scope="module")
def ruled() -> Iterator[Server]:
    with gateway(keys={"odoo": STORED, "shop": OTHER_STORED}, anonymous="true", rules=RULES) as server:
        yield server


ALLOWED = {  # method, key, peer: whether it may be called
    ("admin.stop", KEY, "127.0.0.1"): True,
    ("admin.stop", KEY, "127.0.0.9"): False,
    ("admin.stop", OTHER, "127.0.0.1"): False,
    ("admin.stop", None, "127.0.0.1"): False,
    ("admin.look", OTHER, "127.0.0.9"): True,
    ("admin.look", None, "127.0.0.1"): False,
    ("harmless", None, "127.0.0.1"): False,
    ("harmless", KEY, "127.0.0.1"): True,
    ("who", None, "127.0.0.1"): False,
    ("system.listMethods", None, "127.0.0.9"): True,
    ("system.methodHelp", KEY, "127.0.0.1"): False,
}


@pytest.mark.parametrize(("asked", "allowed"), ALLOWED.items())
def test_who_may_call_what(asked: tuple[str, str | None, str], allowed: bool, ruled: Server) -> None:
    method, key, peer = asked
    body = msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": ["add"] * ("Help" in method), "id": 1})
    response = ask(ruled, {} if key is None else {"Authorization": f"Bearer {key}"}, body, peer)
    answer = msgspec.json.decode(response.body)
    assert response.status == 200
    assert ("result" in answer) == allowed
    assert allowed or answer["error"] == {"code": -32005, "message": "Denied"}


# method, key: whether introspection shows it at 127.0.0.1; harmless is an alias of an admin method
INTROSPECTED: dict[tuple[str, str | None], bool] = {
    ("admin.stop", KEY): True,
    ("admin.stop", OTHER): False,
    ("admin.look", OTHER): True,
    ("admin.look", None): False,
    ("harmless", KEY): True,
    ("harmless", None): False,
    ("system.methodHelp", KEY): False,
    ("system.listMethods", None): True,
}


@pytest.mark.parametrize(("asked", "shown"), INTROSPECTED.items())
def test_introspection_shows_what_the_caller_may_call(
    asked: tuple[str, str | None], shown: bool, ruled: Server
) -> None:
    name, key = asked

    def call(method: str, *params: str) -> Any:
        body = msgspec.json.encode({"jsonrpc": "2.0", "method": method, "params": params, "id": 1})
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return msgspec.json.decode(ask(ruled, headers, body).body)

    assert (name in call("system.listMethods")["result"]) == shown
    assert (name in [method["name"] for method in call("rpc.discover")["result"]["methods"]]) == shown
    assert call("system.methodExist", name)["result"] == shown
    assert ("result" in call("system.methodSignature", name)) == shown


def test_method_help_tells_nothing_of_what_the_caller_may_not_call() -> None:
    body = b'{"jsonrpc":"2.0","method":"system.methodHelp","params":["admin.stop"],"id":1}'
    rules = [{"methods": ["admin.*"], "keys": ["odoo"]}]
    with gateway(keys={"odoo": STORED}, anonymous="true", rules=rules) as server:
        assert "result" in msgspec.json.decode(ask(server, {"Authorization": f"Bearer {KEY}"}, body).body)
        assert msgspec.json.decode(ask(server, {}, body).body)["error"]["code"] == -32601


def test_what_may_not_be_called_is_not_told_from_what_is_not_there(ruled: Server) -> None:
    bodies = [f'{{"jsonrpc":"2.0","method":"admin.{name}","params":[1],"id":1}}' for name in ("stop", "nothing")]
    assert ask(ruled, body=bodies[0].encode()).body == ask(ruled, body=bodies[1].encode()).body


def test_each_call_of_a_batch_is_judged(ruled: Server) -> None:
    names = ("system.listMethods", "admin.stop", "admin.look", "harmless")
    batch = [{"jsonrpc": "2.0", "method": name, "id": number} for number, name in enumerate(names)]
    answers = msgspec.json.decode(
        ask(ruled, {"Authorization": f"Bearer {OTHER}"}, msgspec.json.encode(batch), "127.0.0.9").body
    )
    assert ["result" in answer for answer in answers] == [True, False, True, False]


def test_each_call_of_a_multicall_is_judged(ruled: Server) -> None:
    with xmlrpc.client.ServerProxy(f"http://shop:{OTHER}@127.0.0.1:{ruled.port}/api") as proxy:
        several = xmlrpc.client.MultiCall(proxy)
        several.admin.look()
        several.admin.stop()
        answers = several()
        assert answers[0] == "seen"
        with pytest.raises(xmlrpc.client.Fault, match="Denied"):
            answers[1]


def test_notifications_are_judged_too(ruled: Server) -> None:
    stopped.clear()
    assert ask(ruled, body=b'{"jsonrpc":"2.0","method":"admin.stop"}').body == b""
    assert stopped == []
    assert ask(ruled, {"Authorization": f"Bearer {KEY}"}, b'{"jsonrpc":"2.0","method":"admin.stop"}').body == b""
    assert stopped == ["stopped"]


# rates


def test_calls_of_a_client_are_counted_and_the_next_is_told_when_to_come_back() -> None:
    with gateway(client_rate=0.1, client_burst=3) as server:
        responses = [ask(server) for _ in range(4)]
        assert [response.status for response in responses] == [200, 200, 200, 429]
        assert ask(server, peer="127.0.0.9").status == 200
    seconds = int(responses[3].headers["retry-after"])
    assert 8 <= seconds <= 10
    error = msgspec.json.decode(responses[3].body)["error"]
    assert error == {"code": -32003, "message": "Rate limited: too many calls", "data": {"retry_after": seconds}}


def test_each_call_of_a_batch_is_counted() -> None:
    batch = b"[" + b",".join([WHO] * 5) + b"]"
    with gateway(client_rate=0.01, client_burst=3) as server:
        answers = msgspec.json.decode(ask(server, body=batch).body)
        assert ["result" in answer for answer in answers] == [True, True, True, False, False]
        assert answers[3]["error"]["code"] == -32003
        assert ask(server, body=batch).status == 429


def test_each_call_of_a_multicall_is_counted() -> None:
    with (
        gateway(client_rate=0.01, client_burst=2) as server,
        xmlrpc.client.ServerProxy(f"http://127.0.0.1:{server.port}/api") as proxy,
    ):
        several = xmlrpc.client.MultiCall(proxy)
        for _ in range(3):
            several.admin.look()
        answers = several()
        assert (answers[0], answers[1]) == ("seen", "seen")
        with pytest.raises(xmlrpc.client.Fault, match="Rate limited: too many calls"):
            answers[2]
        with pytest.raises(xmlrpc.client.ProtocolError) as raised:
            proxy.admin.look()
    assert raised.value.errcode == 429


def test_calls_with_a_key_are_counted_wherever_it_is_used() -> None:
    with gateway(key_rate=0.01, key_burst=2, keys={"odoo": STORED, "shop": OTHER_STORED}) as server:
        odoo, shop = ({"Authorization": f"Bearer {key}"} for key in (KEY, OTHER))
        peers = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
        assert [ask(server, odoo, peer=peer).status for peer in peers] == [200, 200, 429]
        assert ask(server, shop).status == 200


def test_who_rests_may_call_again() -> None:
    with gateway(client_rate=1, client_burst=1) as server:
        assert [ask(server).status for _ in range(2)] == [200, 429]
        eventually(lambda: ask(server).status == 200, "it never may call again")


def test_an_ipv6_client_is_its_network_of_64_bits() -> None:
    with gateway(trusted_proxies="127.0.0.1", client_rate=0.01, client_burst=2) as server:
        clients = ("2001:db8::1", "2001:db8::2:3:4:5", "2001:db8:0:0:ffff::", "2001:db8:0:1::1")
        assert [ask(server, {"X-Forwarded-For": client}).status for client in clients] == [200, 200, 429, 200]


@pytest.mark.parametrize("scope", ["eth0", "1", "\x1b[31mred", "x" * 50_000, ""])
def test_a_forwarded_address_has_no_scope(scope: str) -> None:
    policy = AccessPolicy(Access(trusted_proxies=(Network("127.0.0.1"),)))
    assert isinstance(policy.judge(_head("127.0.0.1", {"X-Forwarded-For": f"fe80::1%{scope}"})), AccessDenied)


def test_the_scope_of_a_peer_is_left_out() -> None:
    judged = AccessPolicy(Access(allow=(Network("fe80::/10"),))).judge(_head("fe80::1%eth0", {}))
    assert isinstance(judged, Caller)
    assert judged.client == "fe80::1"


@pytest.mark.parametrize("peer", ["10.0.0.9", "127.0.0.1"])
def test_forwarded_headers_are_not_kept(peer: str) -> None:
    """Neither those of untrusted peers, nor long ones that a trusted proxy passes on."""
    policy = AccessPolicy(Access(trusted_proxies=(Network("127.0.0.1"),)))
    tracemalloc.start()
    try:
        policy.judge(_head(peer, {"X-Forwarded-For": "1.1.1.1"}))
        before, _ = tracemalloc.get_traced_memory()
        for number in range(1000):
            policy.judge(_head(peer, {"X-Forwarded-For": f"{'1.2.3.4, ' * 1000}10.0.{number // 250}.{number % 250}"}))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2**20
