"""What ``gateway check`` finds in configurations and modules that could be served, and the page that explains it."""

import json
import re
import sys
import xmlrpc.client
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from gateway import app
from gateway.cli.checks import CHECKS, findings
from gateway.config import load
from gateway.methods import Registry, method
from tests.cli.running import run

PAGE = Path(__file__).parents[2] / "docs" / "checks.md"
HASH = f"sha256:{'0' * 64}"
KEYS = f'access.keys={{"odoo": "{HASH}"}}'
EVERYWHERE = "server.bind=0.0.0.0:8000"
FOREIGN = "upstreams.up.url=jsonrpc+tcp://127.0.0.1:1"

PUBLISHED = ("publish.directory=zk", "directories.zk.kind=zookeeper", "directories.zk.servers=10.0.0.2:2181")


def rules(*given: dict[str, Any]) -> str:
    return f"access.rules={json.dumps(given)}"


SETTINGS: dict[tuple[str, ...], list[str]] = {
    (): [],
    PUBLISHED: [
        "warning[published-without-grace]: server.grace: callers hear of a stop through zk and may still come for a"
        " second; set server.grace to 1 or more"
    ],
    (*PUBLISHED, "server.grace=1"): [],
    (*PUBLISHED[1:], FOREIGN): [
        "warning[directory-unused]: directories.zk: no upstream has directory = 'zk', and the gateway is not published"
        " there"
    ],
    (*PUBLISHED[1:], "upstreams.up.url=grpc://", "upstreams.up.directory=zk", "upstreams.up.directory_service=a"): [],
    (rules({"methods": ["stock.*"], "keys": ["odoo"]}, {"methods": ["*"], "networks": ["10.0.0.0/8"]}), KEYS): [],
    ("record.methods=stock.*,stok.*", "record.folder=/proc/none"): [
        "error[recordings-not-writable]: record.folder: /proc/none cannot be made in /proc by this user: no such"
        " file or directory",
        "error[option-without-method]: record.methods: 'stok.*' matches no method; did you mean stock.get?",
    ],
    ("record.methods=stock.*", "record.folder=/dev/null/a"): [
        "error[recordings-not-writable]: record.folder: /dev/null is not a folder"
    ],
    ("record.methods=stock.*", "record.folder=/tmp", "record.redact_secrets=false"): [
        "warning[recordings-readable]: record.folder: other users can open /tmp: chmod 700 /tmp",
        "warning[secrets-recorded]: record.redact_secrets: passwords and tokens are recorded, except at the places in"
        " record.redact",
    ],
    ("record.folder=/dev/null/a", "record.redact_secrets=false"): [],
    (rules({"methods": ["stok.*"], "networks": []}, {"methods": ["*"], "networks": []}),): [
        "error[rule-without-method]: access.rules[0]: 'stok.*' matches no method; did you mean stock.get?"
    ],
    (rules({"methods": ["up.ad*", "other"], "networks": []}, {"methods": ["*"], "networks": []}), FOREIGN): [
        "error[rule-without-method]: access.rules[0]: 'other' matches no method"
    ],
    (rules({"methods": ["u*", "up.add"], "networks": []}, {"methods": ["*"], "networks": []}), FOREIGN): [],
    (rules({"methods": ["other*"], "networks": []}, {"methods": ["*"], "networks": []}), FOREIGN): [
        "error[rule-without-method]: access.rules[0]: 'other*' matches no method"
    ],
    (rules({"methods": ["*"], "networks": []}, {"methods": ["add", "up.*"], "networks": []}), FOREIGN): [],
    (
        rules({"methods": ["up.a*", "up.b"], "networks": []}, {"methods": ["*"], "networks": []}),
        FOREIGN,
        'upstreams.up.methods=["add"]',
    ): ["error[rule-without-method]: access.rules[0]: 'up.b' matches no method; did you mean up.add?"],
    (
        rules({"methods": ["up.add_one", "up.b"], "networks": []}, {"methods": ["*"], "networks": []}),
        FOREIGN,
        'upstreams.up.methods=["add*"]',
    ): ["error[rule-without-method]: access.rules[0]: 'up.b' matches no method"],
    (
        FOREIGN,
        'upstreams.up.methods=["add", "get"]',
        'upstreams.up.expose=["ad*", "ged"]',
        'upstreams.up.hide=["system.*", "x?"]',
        'upstreams.up.rename={"ad": "b", "get": "c"}',
        'upstreams.up.timeout={"*": 5, "sub*": 5}',
        "upstreams.up.idempotent=get,set",
    ): [
        "error[option-without-method]: upstreams.up.expose: 'ged' matches none of its methods; did you mean get?",
        "error[option-without-method]: upstreams.up.hide: 'x?' matches none of its methods",
        "error[option-without-method]: upstreams.up.rename: 'ad' matches none of its methods; did you mean add?",
        "error[option-without-method]: upstreams.up.timeout: 'sub*' matches none of its methods",
        "error[option-without-method]: upstreams.up.idempotent: 'set' matches none of its methods; did you mean get?",
    ],
    (FOREIGN, 'upstreams.up.methods=["eth_*"]', "upstreams.up.idempotent=get"): [],
    (FOREIGN, 'upstreams.up.methods=["get"]', 'upstreams.up.docs={"ge*": "Get."}'): [
        "error[option-without-method]: upstreams.up.docs: 'ge*' matches none of its methods; did you mean get?",
    ],
    ("mcp.expose=ad,stock.*", "mcp.hide=stock.put*", "mcp.read_only=stock.ge"): [
        "error[option-without-method]: mcp.expose: 'ad' matches no method; did you mean add?",
        "error[option-without-method]: mcp.hide: 'stock.put*' matches no method; did you mean stock.get?",
        "error[option-without-method]: mcp.read_only: 'stock.ge' matches no method; did you mean stock.get?",
    ],
    ("mcp.hide=stock.put", "mcp.read_only=stock.ge"): [],
    (FOREIGN, "mcp.expose=up.*,add", "mcp.read_only=up.get"): [],
    (FOREIGN, "upstreams.up.idempotent=get"): [],
    (rules({"methods": ["stock.get", "add"]}, {"methods": ["*"], "networks": []}),): [
        "warning[rule-without-condition]: access.rules[0]: it has no networks, keys or certificates, so everybody who"
        " is let in may call stock.get, add"
    ],
    (rules({"methods": ["*"], "networks": []}, {"methods": ["add"], "networks": []}),): [
        "warning[rule-never-reached]: access.rules[1]: rules before it decide all of its methods; put it before them"
    ],
    (rules({"methods": ["*"], "certificates": ["a"]}),): [
        "warning[certificate-never-shown]: access.rules[0].certificates: no client is asked for a certificate; set"
        " tls.client_ca"
    ],
    (
        rules({"methods": ["*"], "certificates": ["a"]}),
        *(f"tls.{name}=a" for name in ("client_ca", "certificate", "key")),
    ): [],
    (rules({"methods": ["add"], "networks": []}),): [
        "warning[method-without-rule]: access.rules: no rule names stock.get, so everybody who is let in may call them"
    ],
    ("access.hosts=rpc.example,RPC.example,127.0.0.1,[::1]",): [],
    **{
        (f"access.hosts={host}",): [
            f"error[host-never-matches]: access.hosts: {host!r} never matches; write a name without scheme, port, path"
            " and *"
        ]
        for host in ("*", "*.example", "http://rpc.example", "rpc.example:8000", "rpc.example/api", "::1")
    },
    ("access.origins=https://app.example,http://localhost:8000,http://[::1]:80801,null,moz-extension://ab",): [],
    **{
        (f"access.origins={origin}",): [
            f"error[origin-never-matches]: access.origins: {origin!r} never matches; write scheme://host as browsers"
            " send it: in lower case, with a port only if it is not the usual one, without path and *"
        ]
        for origin in (
            "*",
            "https://*.example",
            "app.example",
            "https://app.example/",
            "https://App.example",
            "https://app.example:443",
            "http://[::1]:80",
        )
    },
    ("server.bind=127.0.0.1:0", "server.tcp=127.0.0.1:0"): [],
    ("server.bind=127.0.0.1:8000", "server.tcp=127.0.0.2:8000"): [],
    ("server.bind=127.0.0.1:8000", "server.tcp=[::]:8000"): [
        "error[port-twice]: server.tcp: [::]:8000 has the port of server.bind, 127.0.0.1:8000; choose another one",
        "warning[open-to-everybody]: server.tcp: everybody who reaches [::]:8000 may call; set access.allow,"
        " access.keys or tls.client_ca",
    ],
    ("server.bind=127.0.0.1:443",): [],
    ("server.bind=127.0.0.1:443", "nginx.user=nginx", "nginx.servers=10.0.0.1:443"): [],
    ("server.bind=127.0.0.1:443", "nginx.user=nginx", "nginx.listen=127.0.0.2:443,*:443"): [
        "error[port-twice]: nginx.listen: *:443 has the port of server.bind, 127.0.0.1:443; choose another one"
    ],
    ("metrics.bind=127.0.0.1:8000",): [
        "error[port-twice]: metrics.bind: 127.0.0.1:8000 has the port of server.bind, 127.0.0.1:8000; choose another"
        " one"
    ],
    **{
        (f"server.bind={bind}", *more): [
            f"warning[open-to-everybody]: server.bind: everybody who reaches {bind} may call; set access.allow,"
            " access.keys or tls.client_ca"
        ]
        for bind, *more in (
            ("0.0.0.0:8000",),
            (":8000",),
            ("[::]:8000",),
            ("8.8.8.8:8000",),
            ("0.0.0.0:8000", "access.allow=0.0.0.0/0"),
            ("0.0.0.0:8000", KEYS, "access.anonymous=true", "access.trusted_proxies=10.0.0.1"),
        )
    },
    ("server.bind=10.0.0.1:8000",): [],
    ("server.bind=10.0.0.1:8000,unix:/run/gw.sock,fd:3,systemd",): [],
    ("server.bind=rpc.internal:8000",): [],
    (EVERYWHERE, "access.allow=10.0.0.0/8"): [],
    (EVERYWHERE, rules({"methods": ["*"], "networks": ["10.0.0.0/8"]})): [],
    (EVERYWHERE, KEYS): [
        "warning[keys-unencrypted]: server.bind: API keys are sent unencrypted; set tls.certificate, or put nginx in"
        " front"
    ],
    (EVERYWHERE, KEYS, "access.trusted_proxies=10.0.0.1"): [],
    (EVERYWHERE, KEYS, "tls.certificate=a", "tls.key=b"): [],
    ("access.trusted_proxies=10.0.0.0/8,127.0.0.1,203.0.113.0/24,fc00::/7",): [],
    **{
        (f"access.trusted_proxies={network}",): [
            f"warning[proxies-too-wide]: access.trusted_proxies: {network} has clients in it, who can then choose the"
            " address that they have here; name the addresses of the proxies"
        ]
        for network in ("0.0.0.0/0", "128.0.0.0/1", "::/0")
    },
}


@dataclass
class Item:
    name: str
    parent: "Item | None" = None


def served() -> Registry:
    registry = Registry()

    @registry.register
    def add(a: int, item: Item | None = None, *rest: dict[str, float]) -> int:
        return a

    @registry.register(name="stock.get")
    def get() -> None: ...

    return registry


def told(registry: Registry, *settings: str, modules: tuple[str, ...] = ()) -> list[str]:
    gateway = app.build(load(None, {}, settings), registry)
    return [str(finding) for finding in findings(gateway, modules)]


@pytest.mark.parametrize(("settings", "expected"), SETTINGS.items(), ids=str)
def test_what_is_found_in_a_configuration(settings: tuple[str, ...], expected: list[str]) -> None:
    assert told(served(), *settings) == expected


@pytest.mark.parametrize("hint", [xmlrpc.client.Binary, list[Path], dict[str, Path], Path | None, tuple[int, Path]])
def test_a_hint_that_no_value_fits(hint: Any) -> None:
    registry = Registry()

    @registry.register(aliases="same")
    def put(count: int, where: hint = None) -> None: ...

    name, remedy = ("Binary", "bytes") if hint is xmlrpc.client.Binary else ("Path", "str")
    assert [re.sub(r"^.*\(", "(", line) for line in told(registry)] == [
        "(test_a_hint_that_no_value_fits.<locals>.put): 'where' can only be left out: no value of a call can become an"
        f" instance of {name}; use {remedy}"
    ]


@pytest.fixture
def module() -> Iterator[ModuleType]:
    made = ModuleType("checked_module")
    sys.modules["checked_module"] = made
    yield made
    del sys.modules["checked_module"]


def test_a_registry_that_is_not_served(module: Any) -> None:
    module.empty, module.mounted, module.named = Registry(), served(), Registry()

    @module.named.register  # type: ignore[untyped-decorator]
    def one() -> None: ...

    module.again = module.named
    assert told(module.mounted, modules=("checked_module", "other")) == [
        "warning[registry-not-served]: checked_module:named is a Registry that is not served; name it in"
        " server.modules, or mount it in one that is"
    ]
    assert told(served(), modules=("checked_module:named", "checked")) == []


def test_what_a_private_module_has_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    inner: Any = ModuleType("checked_module._inner")
    monkeypatch.setitem(sys.modules, "checked_module._inner", inner)
    inner.named = served()
    monkeypatch.setitem(sys.modules, "checked_module.blocked", None)
    assert told(served(), modules=("checked_module",)) == []
    assert len(told(served(), modules=("checked_module._inner",))) == 1


def test_a_method_in_a_class_that_is_not_served(module: Any) -> None:
    class Store:
        @method
        def get(self) -> None: ...

        @staticmethod
        @method
        def put() -> None: ...

        def other(self) -> None: ...

    class Imported(Store): ...

    Imported.fetch = method(lambda self: self)  # type: ignore[attr-defined]
    Store.__module__, module.Imported = "checked_module", Imported
    module.Store, module.store, module.Path = Store, Store(), Path
    registry = served()
    registry.register(Store().get)
    (line,) = told(registry, modules=("checked_module",))
    assert line.startswith("warning[method-in-class]: ")
    assert line.endswith("@method in a class is not served; register a bound method, registry.register(Store().put)")


def test_the_page_has_every_check_with_its_level() -> None:
    text = PAGE.read_text("utf-8")
    errors, _, warnings = text.partition("## Warnings")
    listed = {
        check: level
        for level, part in (("error", errors), ("warning", warnings))
        for check in re.findall(r"^\| `([\w-]+)` \| .+ \| .+ \|$", part, re.MULTILINE)
    }
    assert listed == CHECKS


def test_errors_end_the_command_and_warnings_do_not(tmp_path: Path) -> None:
    (tmp_path / "some.py").write_text("from gateway import method\n\n\n@method\ndef one() -> int:\n    return 1\n")
    warned = run(tmp_path, "check", "some", "--set", EVERYWHERE)
    assert (warned.code, warned.out.splitlines()[-1]) == (0, "gateway: no errors, 1 warning: 1 method")
    assert warned.err.startswith("gateway: warning[open-to-everybody]: ")
    failed = run(tmp_path, "check", "some", "--set", EVERYWHERE, "--set", "access.hosts=*")
    assert (failed.code, failed.out) == (1, "")
    assert [line.partition("]")[0] for line in failed.err.splitlines()] == [
        "gateway: error[host-never-matches",
        "gateway: warning[open-to-everybody",
    ]


FUNCTIONS = {
    "access.authenticate=os:environ": "access.authenticate: os: the module has no function named environ",
    "access.authenticate=nowhere:x": "access.authenticate: nowhere: there is no such module in ",
    "access.authenticate=os:getcwd": "access.authenticate: getcwd: write it as def (head, caller)",
    "access.authenticate=builtins:min": "access.authenticate: min: write it as def (head, caller)",
    "server.middleware=os:environ": "server.middleware: os: the module has no function named environ",
    "server.middleware=os:getcwd": "server.middleware: getcwd: write middleware as async def (call, context, next)",
    "server.app=os:environ": "server.app: os: the module has no function named environ",
    "server.app=os:getcwd": "server.app: os:getcwd: it is not an application of Tornado",
}


@pytest.mark.parametrize("command", ["check", "serve"])
@pytest.mark.parametrize("setting", FUNCTIONS)
def test_functions_that_the_configuration_names(command: str, setting: str, tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text("from gateway import method\n\n\n@method\ndef add() -> int:\n    return 1\n")
    here = ("--set", "server.modules=served", "--set", "server.bind=127.0.0.1:0")
    ended = run(tmp_path, command, *here, "--set", setting)
    label = "error[configuration]: " if command == "check" else ""
    assert (ended.code, ended.out) == (1, "")
    assert f"gateway: {label}{FUNCTIONS[setting]}" in ended.err
    assert "Traceback" not in ended.err


def test_what_keeps_upstreams_from_being_made_is_named_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text("from gateway import method\n\n\n@method\ndef add() -> int:\n    return 1\n")
    keyed = ("--set", KEYS, "--set", "access.authenticate=operator:add", "--set", "server.modules=served")
    assert "error[configuration]: access.keys: add decides who is let in" in run(tmp_path, "check", *keyed).err
