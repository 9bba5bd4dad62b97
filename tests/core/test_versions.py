"""Versions of an interface side by side, on the wire: which one serves a name, who may call it, how it is withdrawn.

The gateway's own front and a WSGI application get the same requests.
"""

import asyncio
import itertools
import json
import re
import socket
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from gateway import Context, MethodNotFound, Registry, app, method
from gateway.app import mounted
from gateway.cli.checks import findings
from gateway.config import ConfigError, load
from gateway.config.versions import Canary, VersionTable
from gateway.core.access import make_key
from gateway.core.versions import Found, Versions, _is_drawn, midnight
from gateway.hosts.wsgi import WSGIHost
from gateway.methods.options import RegistrationError
from gateway.model.calls import Caller
from gateway.model.http import HTTPRequest, Plain
from tests.conftest import Logged
from tests.hosts.test_wsgi import ask, environ
from tests.raw_http import Response, exchange, request
from tests.scraping import until
from tests.serving import free_port, serving
from tests.upstreams.jsonrpc.test_tcp import server

TODAY = datetime.now(UTC).date()
KEY, STORED = make_key()
OTHER_KEY, OTHER = make_key()
registry = Registry()
inventory = registry.namespace("inventory")


@inventory.register(name="v1.get", run="inline")
def get_one(item: int, context: Context) -> list[Any]:
    """Return what the method knows of its name."""
    return ["v1", item, context.method, context.called]


@inventory.register(name="get", aliases="fetch", version="v2", run="inline")
def get_two(item: int, context: Context) -> list[Any]:
    """Return what the second version knows."""
    return ["v2", item, context.method, context.called]


@inventory.register(name="v1.only", run="inline")
def only_in_one() -> str:
    return "only v1"


@inventory.register(name="own", run="inline")
def own() -> str:
    return "own"


@registry.register(name="stock.get", run="inline")
def stock_get() -> str:
    return "stock"


@registry.register(name="legacy.stock.count", run="inline")
def count() -> str:
    return "counted"


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    return a + b


def day(days: int) -> date:
    return TODAY + timedelta(days=days)


def said(since: int, sunset: int | None = None, use: str = "") -> dict[str, Any]:
    """Say what a table deprecates, in days from today."""
    until = {} if sunset is None else {"sunset": day(sunset).isoformat()}
    return {"since": day(since).isoformat(), **until, **({"use": use} if use else {})}


def settings(**tables: dict[str, Any]) -> dict[str, str]:
    """Make settings of tables of versions."""
    return {
        f"versions.{name}.{option}": value if isinstance(value, str) else json.dumps(value)
        for name, table in tables.items()
        for option, value in table.items()
    }


USUAL = settings(inventory={"default": "v1", "header": "X-RPC-Version"})
Exchange = Callable[[str, Mapping[str, str], bytes], Response]


class Asking(Struct):
    """Calls a gateway over one of its hosts, in one of the protocols."""

    exchange: Exchange
    protocol: str

    def __call__(self, name: str, *params: Any, **headers: str) -> Any:
        """Call, and return the result or the code, text and data of the fault."""
        return self.respond(name, *params, **headers)[0]

    def respond(self, name: str, *params: Any, **headers: str) -> tuple[Any, Mapping[str, str]]:
        sent = {each.replace("_", "-"): value for each, value in headers.items()}
        if self.protocol == "jsonrpc":
            body = json.dumps({"jsonrpc": "2.0", "method": name, "params": params, "id": 1}).encode()
            response = self.exchange("/api", {"Content-Type": "application/json", **sent}, body)
            answer = json.loads(response.body)
            error = answer.get("error")
            outcome = answer["result"] if error is None else (error["code"], error["message"], error.get("data"))
            return outcome, response.headers
        written = xmlrpc.client.dumps(params, name).encode()
        response = self.exchange("/api", {"Content-Type": "text/xml", **sent}, written)
        try:
            return xmlrpc.client.loads(response.body)[0][0], response.headers
        except xmlrpc.client.Fault as fault:
            return (fault.faultCode, fault.faultString, None), response.headers


def wsgi(chosen: Mapping[str, Any], served: Registry = registry) -> Exchange:
    """Make an application, and return what sends requests to it."""
    application = WSGIHost(
        mounted.endpoint_of(load(None, {}, [f"{name}={value}" for name, value in chosen.items()]), served)
    )

    def exchanged(path: str, headers: Mapping[str, str], body: bytes) -> Response:
        variables = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
        content = variables.pop("HTTP_CONTENT_TYPE")
        return ask(application, environ(body, path=path, CONTENT_TYPE=content, **variables))

    return exchanged


def in_wsgi(chosen: Mapping[str, Any], protocol: str = "jsonrpc", served: Registry = registry) -> Asking:
    return Asking(wsgi(chosen, served), protocol)


@pytest.fixture(scope="module")
def exchanges() -> Iterator[dict[str, Exchange]]:
    with serving(registry, {**USUAL, "server.tcp": "127.0.0.1:0"}) as front:
        yield {
            "front": lambda path, headers, body: exchange(front.port, request(path, headers, body)),
            "wsgi": wsgi(USUAL),
        }


@pytest.fixture(params=["front", "wsgi"])
def host(request: pytest.FixtureRequest, exchanges: dict[str, Exchange]) -> Exchange:
    return exchanges[request.param]


@pytest.fixture(params=["jsonrpc", "xmlrpc"])
def call(request: pytest.FixtureRequest, host: Exchange) -> Asking:
    return Asking(host, request.param)


def test_a_name_stands_for_the_version_that_is_asked_for_or_else_the_default(call: Asking) -> None:
    assert call("inventory.get", 7) == ["v1", 7, "inventory.v1.get", "inventory.get"]
    for asked in ("v2", "2"):
        assert call("inventory.get", 7, X_RPC_Version=asked)[:3] == ["v2", 7, "inventory.v2.get"]
    assert call("inventory.get", 7, X_RPC_Version="v1")[0] == "v1"
    assert call("inventory.fetch", 7, X_RPC_Version="v2")[0] == "v2"


def test_a_name_with_a_version_stands_for_itself(call: Asking) -> None:
    assert call("inventory.v2.get", 7, X_RPC_Version="v1") == ["v2", 7, "inventory.v2.get", ""]
    assert call("inventory.own") == "own"
    assert call("add", 1, 2, X_RPC_Version="v7") == 3


def test_an_unknown_version_is_told_which_ones_there_are(call: Asking) -> None:
    code, text, data = call("inventory.get", 7, X_RPC_Version="v9")
    detail = "there is no version v9 of inventory; there are v1, v2"
    assert (code, data["detail"] if data else text.partition(": ")[2]) == (-32601, detail)
    assert "no version like this of" in str(call("inventory.get", 7, X_RPC_Version="<v 9>"))
    assert call("inventory.only", X_RPC_Version="v2")[0] == -32601
    assert call("inventory.nothing")[0] == -32601


def test_over_plain_tcp_there_is_the_name_alone() -> None:
    with serving(registry, {**USUAL, "server.tcp": "127.0.0.1:0"}) as front:
        sent = b'{"jsonrpc":"2.0","method":"inventory.get","params":[7],"id":1}'
        with socket.create_connection(("127.0.0.1", front.tcp_port), timeout=10) as client:
            client.sendall(sent)
            assert b'"v1",7' in client.recv(1000).replace(b" ", b"")


def test_the_callers_names_are_listed_and_described(call: Asking) -> None:
    names = call("system.listMethods")
    assert {"inventory.get", "inventory.only", "inventory.own", "inventory.v1.get", "inventory.v2.get"} <= set(names)
    assert len(names) == len(set(names))
    assert "inventory.fetch" not in names
    assert call("system.methodHelp", "inventory.get") == "Return what the method knows of its name."
    assert call("system.methodExist", "inventory.get") is True
    assert call("system.methodExist", "inventory.fetch") is False
    described = {each["name"] for each in call("rpc.discover")["methods"]}
    assert {"inventory.get", "inventory.v1.get"} <= described


def drawn(percent: float, by: Any = "client") -> set[str]:
    canary = Canary(to="v2", percent=percent, by=by)
    return {f"10.0.{n // 256}.{n % 256}" for n in range(4000) if _is_drawn("x", canary, _client(n))}


def _client(number: int) -> Caller:
    return Caller(client=f"10.0.{number // 256}.{number % 256}")


def test_a_share_of_the_callers_gets_the_canary_and_keeps_it() -> None:
    shares = [drawn(percent) for percent in (0, 1, 5, 10, 50, 100)]
    assert all(before < after for before, after in itertools.pairwise(shares))
    assert [round(len(share) / 40) for share in shares] == pytest.approx([0, 1, 5, 10, 50, 100], abs=2)
    half = Canary(to="v2", percent=50, by="key")
    of_one_key = {_is_drawn("x", half, Caller(client=f"10.0.0.{n}", key="odoo")) for n in range(50)}
    assert len(of_one_key) == 1
    of_keys = {_is_drawn("x", half, Caller(client="10.0.0.1", key=f"key{n}")) for n in range(50)}
    assert of_keys == {True, False}
    each_call = Canary(to="v2", percent=50, by="call")
    assert {_is_drawn("x", each_call, Caller(client="10.0.0.1")) for _ in range(100)} == {True, False}
    one_net = {_is_drawn("x", half, Caller(client=f"2001:db8::{n}")) for n in range(50)}
    assert len(one_net) == 1


@pytest.mark.parametrize(("percent", "version"), [(0, "v1"), (100, "v2")])
def test_the_canary_on_the_wire(percent: int, version: str) -> None:
    canary = {"to": "v2", "percent": percent}
    call = in_wsgi(settings(inventory={"default": "v1", "header": "X-V", "canary": canary}))
    assert call("inventory.get", 1)[0] == version
    assert call("inventory.only") == "only v1"
    assert call("inventory.get", 1, X_V="v1")[0] == "v1"


DEPRECATED = {"default": "v1", "header": "X-V", "deprecated": {"v1": said(-1, 30, "v2")}}


@pytest.mark.parametrize("protocol", ["jsonrpc", "xmlrpc"])
def test_what_is_deprecated_is_told_in_headers_and_in_words(protocol: str) -> None:
    with serving(registry, settings(inventory=DEPRECATED)) as front:
        for exchanged in (
            lambda path, headers, body: exchange(front.port, request(path, headers, body)),
            wsgi(settings(inventory=DEPRECATED)),
        ):
            call = Asking(exchanged, protocol)
            for name in ("inventory.get", "inventory.v1.get"):
                result, headers = call.respond(name, 7)
                assert result[0] == "v1"
                assert headers["deprecation"] == f"@{midnight(day(-1)):.0f}"
                assert parsedate_to_datetime(headers["sunset"]).timestamp() == midnight(day(30))
                told = f"Deprecated: since {day(-1)}, until {day(30)}; use v2"
                assert call("system.methodHelp", name).endswith(told)
            for name, asked in (("inventory.get", "v2"), ("inventory.v2.get", "v1"), ("add", "v1")):
                _, headers = call.respond(name, 1, 2, X_V=asked)
                assert not {"deprecation", "sunset"} & headers.keys()
            described = {each["name"]: each.get("deprecated", False) for each in call("rpc.discover")["methods"]}
            assert described["inventory.get"]
            assert described["inventory.v1.get"]
            assert not described["inventory.v2.get"]


def test_a_batch_tells_the_first_of_the_days() -> None:
    table = {"default": "v1", "deprecated": {"v1": said(-1, 30), "v2": said(-9, 60), "own": said(-3)}}
    exchanged = wsgi(settings(inventory=table))
    names = ("inventory.get", "inventory.v2.get", "inventory.own", "inventory.nothing", "add")
    calls = [{"jsonrpc": "2.0", "method": name, "params": [1], "id": n} for n, name in enumerate(names)]
    headers = exchanged("/api", {"Content-Type": "application/json"}, json.dumps(calls).encode()).headers
    assert headers["deprecation"] == f"@{midnight(day(-9)):.0f}"
    assert parsedate_to_datetime(headers["sunset"]).timestamp() == midnight(day(30))


def test_nothing_is_told_before_the_day() -> None:
    call = in_wsgi(settings(inventory={"default": "v1", "deprecated": {"v1": said(1, 30)}}))
    result, headers = call.respond("inventory.get", 7)
    assert result[0] == "v1"
    assert not {"deprecation", "sunset"} & headers.keys()
    assert "Deprecated" not in call("system.methodHelp", "inventory.get")


def test_what_was_withdrawn_is_not_found_and_not_listed() -> None:
    gone = {"default": "v1", "header": "X-V", "deprecated": {"v1": said(-30, -1, "v2")}}
    call = in_wsgi(settings(inventory=gone))
    fault = call("inventory.get", 7)
    assert fault[0] == -32601
    text = f"inventory.get was withdrawn on {day(-1)}; use v2"
    assert fault[2] == {"sunset": day(-1).isoformat(), "use": "v2", "detail": text}
    for name, asked in (("inventory.v1.get", "v2"), ("inventory.get", "v1")):
        assert call(name, 7, X_V=asked)[2]["sunset"] == day(-1).isoformat()
    assert call("inventory.get", 7, X_V="v2")[0] == "v2"
    assert call("inventory.get", 7, X_V="v9")[2]["detail"].endswith("there are v2")
    names = call("system.listMethods")
    assert "inventory.v2.get" in names
    assert not {"inventory.get", "inventory.v1.get", "inventory.v1.only"} & set(names)
    assert call("system.methodExist", "inventory.v1.get") is False
    assert call("system.methodHelp", "inventory.get")[0] == -32601
    assert "was withdrawn" in in_wsgi(settings(inventory=gone), "xmlrpc")("inventory.get", 7)[1]


def test_a_canary_that_was_withdrawn_serves_nobody() -> None:
    table = {"default": "v1", "canary": {"to": "v2", "percent": 100}, "deprecated": {"v2": said(-30, -1)}}
    assert in_wsgi(settings(inventory=table))("inventory.get", 7)[0] == "v1"


def rules(*given: dict[str, Any]) -> dict[str, str]:
    keys = json.dumps({"odoo": STORED, "other": OTHER})
    return {"access.rules": json.dumps(given), "access.keys": keys, "access.anonymous": "true"}


@pytest.mark.parametrize("denied", ["inventory.v2.get", "inventory.get"])
def test_both_names_must_be_permitted(denied: str) -> None:
    chosen = {**USUAL, **rules({"methods": [denied], "keys": ["odoo"]})}
    bearer = {"Authorization": f"Bearer {KEY}", "X_RPC_Version": "v2"}
    with serving(registry, chosen) as front:
        for exchanged in (
            lambda path, headers, body: exchange(front.port, request(path, headers, body)),
            wsgi(chosen),
        ):
            for protocol in ("jsonrpc", "xmlrpc"):
                call = Asking(exchanged, protocol)
                for name in ("inventory.get", "inventory.v1.get"):
                    assert call(name, 7, **bearer)[0] in ("v1", "v2")
                assert call("inventory.get", 7, X_RPC_Version="v2")[0] == -32005
                is_default_permitted = denied != "inventory.get"
                assert (call("inventory.get", 7)[0] == "v1") is is_default_permitted
                assert call("system.methodExist", "inventory.get") is is_default_permitted
                assert ("inventory.get" in call("system.listMethods")) is is_default_permitted


def test_a_name_is_not_shown_where_the_one_that_serves_it_is_not_permitted() -> None:
    call = in_wsgi({**USUAL, **rules({"methods": ["inventory.v1.*"], "keys": ["odoo"]})})
    assert call("inventory.get", 7)[0] == -32005
    assert call("system.methodExist", "inventory.get") is False
    assert not {"inventory.get", "inventory.only"} & set(call("system.listMethods"))
    shown = call("system.listMethods", Authorization=f"Bearer {KEY}")
    assert {"inventory.get", "inventory.only"} <= set(shown)


def test_whoever_may_not_call_it_is_not_told_of_its_sunset() -> None:
    gone = settings(inventory={"default": "v1", "deprecated": {"v1": said(-30, -1, "v2")}})
    call = in_wsgi({**gone, **rules({"methods": ["inventory.v1.*"], "keys": ["odoo"]})})
    assert call("inventory.get", 7)[0] == -32005


def plain_answer(know: Callable[[HTTPRequest], Plain | None], name: str) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "method": name, "params": [1, 2], "id": 1}).encode()
    headers = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": str(len(body))}
    plain = know(HTTPRequest(method="POST", target="/api", headers=headers, peer="127.0.0.1"))
    assert plain is not None
    return plain.answer(body, None, None, None, lambda _: None, None)


def test_the_plain_way_is_for_what_no_table_is_about() -> None:
    table = {"default": "v1", "prefixes": {"v3": "legacy.stock."}}
    gateway = app.build(load(None, {}, [f"{n}={v}" for n, v in settings(inventory=table).items()]), registry)

    async def answers() -> list[bool]:
        names = ("add", "inventory.get", "inventory.v1.get", "inventory.own", "legacy.stock.count")
        return [plain_answer(gateway.know, name) is not None for name in names]

    assert asyncio.run(answers()) == [True, False, False, False, False]


def test_an_interface_moves_without_its_callers() -> None:
    table = {
        "header": "X-V",
        "prefixes": {"v0": "legacy.stock."},
        "rename": {"getItem": "get", "add": "nothing"},
        "deprecated": {"getItem": said(-1, 30, "stock.get"), "v0.count": said(-2)},
    }
    call = in_wsgi(settings(stock=table))
    assert call("stock.get") == "stock"
    result, headers = call.respond("stock.getItem")
    assert (result, headers["deprecation"]) == ("stock", f"@{midnight(day(-1)):.0f}")
    assert call("stock.add")[0] == -32601
    for name, asked in (("stock.count", "v0"), ("stock.v0.count", "v9"), ("legacy.stock.count", "v9")):
        result, headers = call.respond(name, X_V=asked)
        assert (result, headers["deprecation"]) == ("counted", f"@{midnight(day(-2)):.0f}")
    names = call("system.listMethods")
    assert {"stock.getItem", "stock.add"} & set(names) == {"stock.getItem"}
    assert names.count("stock.get") == 1
    assert call("system.methodHelp", "stock.getItem").startswith(f"Deprecated: since {day(-1)}")


def test_a_method_is_counted_by_the_name_that_serves_it() -> None:

    with serving(registry, {**USUAL, "metrics.bind": "127.0.0.1:0"}) as front:
        call = Asking(lambda path, headers, body: exchange(front.port, request(path, headers, body)), "jsonrpc")
        assert call("inventory.get", 7)[0] == "v1"
        assert call("inventory.nothing")[0] == -32601
        numbers = until(front.metrics, lambda numbers: numbers.of("gateway_calls_total") == 2)
        assert numbers.labels("gateway_calls_total", "method") == {"inventory.v1.get", "-"}


def test_versions_of_upstreams(tmp_path: Path, logged: Logged) -> None:
    """One version passes names on, the other one has never been reached."""
    file = tmp_path / "gateway.toml"
    with server(lambda peer, asked: peer.answer(asked, ["v1 of", asked["method"]])) as (port, _):
        file.write_text(
            f"""
            [upstreams.one]
            url = "jsonrpc+tcp://127.0.0.1:{port}"
            prefix = "goods.v1."
            methods = ["*"]
            [upstreams.two]
            url = "jsonrpc+tcp://127.0.0.1:{free_port()}"
            prefix = "goods.v2."
            [versions.goods]
            default = "v2"
            header = "X-V"
            canary = {{ to = "v1", percent = 100 }}
            """
        )
        with serving(Registry(), None, file) as front:
            call = Asking(lambda path, headers, body: exchange(front.port, request(path, headers, body)), "jsonrpc")
            assert call("goods.get") == ["v1 of", "get"]
            assert call("goods.v1.get") == ["v1 of", "get"]
            assert call("goods.get", X_V="2")[0] == -32002
            assert call("goods.v2.get")[0] == -32002
    assert logged.take("upstream two")


def test_a_version_may_come_later() -> None:
    served = Registry()
    versions = Versions({"goods": VersionTable(header="X-V")}, served)
    context = Context.fake("goods.get", headers={"X-V": "5"})
    assert isinstance(versions.find("goods.get", context), MethodNotFound)
    served.register(own, name="goods.v5.get")
    found = versions.find("goods.get", context)
    assert isinstance(found, Found)
    assert found.name == "goods.v5.get"


def test_a_page_may_send_the_header() -> None:
    with serving(registry, {**USUAL, "access.origins": "https://app.example"}) as front:
        headers = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        response = exchange(front.port, request("/api", headers, b"", "OPTIONS"))
        assert "X-RPC-Version" in response.headers["access-control-allow-headers"].split(", ")


def test_a_version_is_a_part_of_the_name() -> None:
    served = Registry()

    @served.register(name="a.b", aliases=("c",), version="2")
    def one() -> None: ...

    assert list(served) == ["a.2.b", "2.c"]
    with pytest.raises(RegistrationError, match="version must be letters"):
        method(version="a.b")(lambda: None)


WRONG = {
    "default=v 1": "expected a version, like v1, not 'v 1'",
    "header=X V": "expected the name of a header, or nothing, not 'X V'",
    'canary={"to": "v2"}': "versions.inventory.canary.percent: it is missing",
    'canary={"to": "v2", "percent": 101}': "canary: expected a number <= 100",
    'canary={"to": "v2", "percent": 1, "bye": 1}': "canary.bye: there is no such option; did you mean by?",
    'canary={"to": "v1", "percent": 1}': "v1 is the default; name another version",
    'deprecated={"v1": {"since": "2026-12-01", "sunset": "2026-12-01"}}': "a sunset after since",
    'deprecated={"v1": {"since": "tomorrow"}}': "expected",
    'prefixes={"v1": "inventory."}': "inventory. is what callers say; leave v1 out",
    "defaul=v1": "there is no option versions.inventory.defaul; did you mean default?",
}


@pytest.mark.parametrize("setting", WRONG)
def test_what_is_wrong_with_a_table_is_told(setting: str) -> None:
    usual = [] if setting.startswith("default=") else ["versions.inventory.default=v1"]
    with pytest.raises(ConfigError) as error:
        load(None, {}, [*usual, f"versions.inventory.{setting}"])
    assert WRONG[setting] in error.value.problems[0]


def test_the_tables_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text('[versions."com.acme.stock"]\ndefault = "v1"\ndeprecated = { v1 = { since = 2026-12-01 } }\n')
    table = load(file, {}, []).versions["com.acme.stock"]
    assert (table.default, table.deprecated["v1"].since) == ("v1", date(2026, 12, 1))
    file.write_text(
        "[versions]\n[versions.com.acme]\n[versions.9]\ndefault = '1'\n"
        "[versions.a]\n[versions.b]\ncanary={to='a', percent=1}"
    )
    with pytest.raises(ConfigError) as error:
        load(file, {}, [])
    assert [problem.removeprefix(f"{file}: ") for problem in error.value.problems] == [
        "versions.9: write a table [versions.NAME], with a NAME of letters, digits, _ and -, and dots in quotes",
        'versions.a.default: expected default = "v1"',
        'versions.com: write [versions."com.acme"]',
        "versions.b.canary: it needs a default, for all others",
    ]


CHECKED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing": ({"inventory": {"default": "v1", "canary": {"to": "v2", "percent": 1}}}, []),
    "far": ({"inventory": {"deprecated": {"v1": said(-1, 20), "v2": said(-1)}}}, []),
    "soon": (
        {"inventory": {"default": "v1", "deprecated": {"v1": said(-1, 10), "v2": said(-9, -1)}}},
        [
            f"sunset-soon versions.inventory.deprecated.v1: it is withdrawn on {day(10)}; gateway callers shows who"
            " still calls it",
            f"sunset-soon versions.inventory.deprecated.v2: it was withdrawn on {day(-1)}; gateway callers shows who"
            " still calls it",
        ],
    ),
    "no version": (
        {"inventory": {"default": "v1", "canary": {"to": "v7", "percent": 1}}, "stock": {"default": "1"}},
        [
            "version-without-method versions.inventory.canary.to: no method's name begins with inventory.v7.",
            "version-without-method versions.stock.default: no method's name begins with stock.1.",
        ],
    ),
    "nothing of this name": (
        {
            "inventory": {
                "default": "v1",
                "deprecated": {"v9": said(-1), "v1.get": said(-1), "only": said(-1), "nothing": said(-1)},
                "rename": {"getItem": "get", "fetchItem": "fetch"},
            },
            "up": {"rename": {"a": "b"}, "deprecated": {"v1": said(-1)}},
        },
        [
            "version-option-without-method versions.inventory.deprecated.v9: it is neither a version of inventory nor a"
            " method of it",
            "version-option-without-method versions.inventory.deprecated.nothing: it is neither a version of inventory"
            " nor a method of it",
            "version-option-without-method versions.inventory.rename.fetchItem: there is no method inventory.v1.fetch",
        ],
    ),
    "an upstream may have it": ({"up": {"default": "v1"}}, []),
    "twice": (
        {"stock": {"prefixes": {"v0": "legacy."}}, "legacy.stock": {"rename": {"a": "count"}}},
        ["version-twice versions.legacy.stock: its names are also those of versions.stock; leave one out"],
    ),
}


@pytest.mark.parametrize("name", CHECKED)
def test_what_gateway_check_finds(name: str) -> None:
    tables, expected = CHECKED[name]
    chosen = {**settings(**tables), "upstreams.up.url": "jsonrpc+tcp://127.0.0.1:1"}
    gateway = app.build(load(None, {}, [f"{option}={value}" for option, value in chosen.items()]), registry)
    assert [f"{each.check} {each.text}" for each in findings(gateway, ())] == expected


def test_a_rule_may_name_what_callers_say() -> None:
    chosen = {**USUAL, **rules({"methods": ["inventory.get", "*"], "keys": ["odoo"]})}
    gateway = app.build(load(None, {}, [f"{option}={value}" for option, value in chosen.items()]), registry)
    assert list(findings(gateway, ())) == []


def test_the_page_has_tables_that_can_be_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "versions.md").read_text("utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 4
    file = tmp_path / "gateway.toml"
    read = set[str]()
    for block in blocks:
        file.write_text(block)
        read |= set(load(file, {}, []).versions)
    assert read == {"inventory", "stock"}
    for option in VersionTable.__struct_fields__:
        assert f"| `{option}` |" in page
