"""The configuration: where each value comes from, and what is said of each one that is wrong."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config import OPTIONS, Config, ConfigError, load
from gateway.config.server import ServerSection
from gateway.core.access import make_key
from gateway.model.secrets import Secret

DEFAULTS = {
    f"{section}.{name}": value
    for section, options in msgspec.to_builtins(Config()).items()
    if section != "file"
    for name, value in options.items()
}
ZOOKEEPER = "[directories.zk]\nkind = 'zookeeper'\nservers = ['10.0.0.2:2181']"
HASH = "sha256:" + "0123456789abcdef" * 4
OTHERS = {
    "websocket.enabled": True,
    "websocket.path": "/socket",
    "websocket.subscribe": "eth_subscribe",
    "websocket.unsubscribe": "eth_unsubscribe",
    "websocket.notification": "eth_subscription",
    "websocket.ended": "eth_ended",
    "websocket.send": "eth_send",
    "websocket.close": "eth_close",
    "websocket.slow_readers": "drop",
    "publish.directory": "zk",
    "publish.address": "10.0.0.1:8000",
    "publish.service": "com.acme.gateway",
    "publish.version": "1",
    "publish.group": "blue",
    "publish.zone": "b",
    "publish.schemes": ["xmlrpc"],
    "record.methods": ["add"],
    "record.share": 0.5,
    "record.folder": "recordings",
    "record.redact": ["params[0].password"],
    "jsonrpc.int64": "text",
    "mcp.expose": ["add"],
    "mcp.hide": ["add"],
    "mcp.read_only": ["add"],
    "mcp.instructions": "add first.",
    "mcp.path": "/agents",
    "xmlrpc.none": "empty",
    "server.bind": ["unix:/run/gateway.sock"],
    "server.unix_mode": "600",
    "server.middleware": ["module:function"],
    "server.app": "module:application",
    "access.authenticate": "module:function",
    "server.paths": ["/other"],
    "server.modules": ["other"],
    "server.pid_file": "gateway.pid",
    "server.callers": "callers",
    "access.trusted_proxies": ["127.0.0.1"],
    "access.allow": ["10.0.0.0/8"],
    "access.hosts": ["rpc.example"],
    "access.origins": ["https://app.example"],
    "access.keys": {"odoo": HASH},
    "access.anonymous": True,
    "access.rules": [{"methods": ["add"]}],
    "tls.certificate": "other.pem",
    "tls.key": "other.pem",
    "tls.client_ca": "other.pem",
    "nginx.listen": ["127.0.0.1:1"],
    "nginx.server_name": "rpc.example",
    "nginx.certificate": "other.pem",
    "nginx.key": "other.pem",
    "nginx.tls_protocols": ["TLSv1.3"],
    "nginx.servers": ["10.0.0.11:8000"],
    "nginx.proxies": ["10.1.0.0/24"],
    "nginx.buffer_bodies": True,
    "nginx.user": "nginx",
    "nginx.access_log": "access.log",
    "nginx.error_log": "error.log",
    "nginx.folder": "folder",
    "server.tcp": ":1",
    "server.tcp_framing": "netstring",
    "log.level": "error",
    "log.format": "json",
    "metrics.bind": "127.0.0.1:1",
    "console.bind": "127.0.0.1:1",
    "console.public": True,
    "traces.enabled": True,
}
HOST_PORT = "host:port, like 127.0.0.1:8000, with a port from 0, which takes a free one, to 65535"
HOSTS = {
    "127.0.0.1:8000": True,
    "127.0.0.1:0": True,
    "127.0.0.1:65535": True,
    "localhost:80": True,
    ":8000": True,
    "[::1]:8000": True,
    "127.0.0.1:65536": False,
    "127.0.0.1:99999": False,
    "127.0.0.1:080000": False,
    "127.0.0.1:-1": False,
    "127.0.0.1:": False,
    "127.0.0.1": False,
    "8000": False,
    "::1:8000": False,
    "http://127.0.0.1:8000": False,
    "a b:80": False,
    "": False,
}
IN_FILE = {
    "[limits]\ntimout = 5": "there is no option limits.timout; did you mean limits.timeout?",
    "[server]\ntimeout = 5": "there is no option server.timeout; did you mean limits.timeout?",
    "[log]\ncolour = true": "there is no option log.colour",
    "[limit]\ntimeout = 5": "there is no section [limit]; did you mean [limits]?",
    "[upstream]\nurl = 'x'": "there is no section [upstream]; did you mean [upstreams]?",
    "timeout = 5": "timeout is not in a section; did you mean limits.timeout?",
    "limits = 5": "limits is a section: write [limits] above its options",
    "[[limits]]\ntimeout = 5": "limits is a section: write [limits] above its options",
    "[limits]\nmax_depth = 4000": "limits.max_depth: expected an integer <= 200, not 4000",
    "[limits]\ntimeout = 0": "limits.timeout: expected a number > 0, not 0",
    "[limits]\ntimeout = nan": "limits.timeout: expected a number > 0, not nan",
    "[limits]\ntimeout = inf": "limits.timeout: expected a number <= 86400, not inf",
    "[limits]\nthreads = 'many'": "limits.threads: expected an integer, not 'many'",
    "[limits]\nthreads = true": "limits.threads: expected an integer, not true",
    "[limits]\nthreads = 1.5": "limits.threads: expected an integer, not 1.5",
    "[limits]\ntimeout = 2026-01-01": "limits.timeout: expected a number, not datetime.date(2026, 1, 1)",
    "[xmlrpc]\ni8 = 1": "xmlrpc.i8: expected true or false, not 1",
    "[log]\nlevel = 'loud'": "log.level: expected debug or info or warning or error, not 'loud'",
    "[log]\nformat = 3": "log.format: expected a string, not 3",
    "[server]\npaths = []": "server.paths: expected a list with at least one entry, not []",
    "[server]\npaths = ['/api', 'rpc']": ("server.paths[1]: expected a path that begins with a slash, not 'rpc'"),
    "[access]\nallow = ['10.0.0.1/8']": (
        "access.allow[0]: expected a network like 10.0.0.0/8 or 2001:db8::/32, or an address, not '10.0.0.1/8'"
    ),
    "[access.keys]\nodoo = 'secret'": "access.keys.odoo: expected the hash that gateway key prints",
    "[[access.rules]]\nmethods = []": "access.rules[0].methods: expected a list with at least one entry, not []",
    "[[access.rules]]\nmethods = ['a']\nnetwork = []": (
        "access.rules[0].network: there is no such option; did you mean networks?"
    ),
    "[record]\nshare = 1.5": "record.share: expected a number <= 1, not 1.5",
    "[record]\nmax_folder = 1": "record.max_folder: expected an integer >= 1048576, not 1",
    "[record]\nmethods = ['']": "record.methods[0]: expected a string of length >= 1, not ''",
    "[nginx]\nlisten = []": "nginx.listen: expected a list with at least one entry, not []",
    "[nginx]\nlisten = ['443']": (
        "nginx.listen[0]: expected host:port, like 0.0.0.0:443 or [::]:443, with a port from 1 to 65535, not '443'"
    ),
    "[nginx]\nservers = ['10.0.0.1:0']": (
        "nginx.servers[0]: expected host:port, like 10.0.0.11:8000, with a port from 1 to 65535, or unix:/path,"
        " not '10.0.0.1:0'"
    ),
    "[nginx]\nkey = 'a\"; b'": "nginx.key: expected a path without \", $ and \\, not 'a\"; b'",
    "[nginx]\nserver_name = 'a;b'": "nginx.server_name: expected a host name, not 'a;b'",
    "[nginx]\ntls_protocols = ['TLSv1']": "nginx.tls_protocols[0]: expected TLSv1.2 or TLSv1.3, not 'TLSv1'",
    "[server]\nworkers = 0": "server.workers: expected an integer >= 1, not 0",
    "[server]\nbind = 8000": "server.bind: expected a list, not 8000",
    "[server]\nworkers = 'many'": "server.workers: expected auto, or an integer, not 'many'",
    "[server]\nbnd = ':1'": "there is no option server.bnd; did you mean server.bind?",
    "[server]\nkey = 'a'": "there is no option server.key; did you mean tls.key?",
    "[tls]\ncert = 'a'": "there is no option tls.cert; did you mean tls.certificate?",
    "[metrics]\nport = 1": "there is no option metrics.port",
    "bind = ':1'": "bind is not in a section; did you mean server.bind?",
    "[access]\nkeys = ['a']": "access.keys: expected a table",
    "[access.keys]\n'a b' = 'x'": "access.keys.a b: expected a name of letters, digits and ._-",
    "[access]\nrules = { methods = ['a'] }": "access.rules: expected a list, not {'methods': ['a']}",
    "[[access.rules]]\nmethods = 'a'": "access.rules[0].methods: expected a list, not 'a'",
    "[[access.rules]]\nmethods = ['a']\nnetworks = ['10.0.0.0/8', 'x']": (
        "access.rules[0].networks[1]: expected a network like 10.0.0.0/8 or 2001:db8::/32, or an address, not 'x'"
    ),
    "[publish]\naddress = ':80'": ("publish.address: expected host:port, like 10.0.1.5:8000, not ':80'"),
    "[publish]\nservice = 'a/b'": "publish.service: expected a name without blanks and /, not 'a/b'",
    "[directories.a]\nkind = 'fil'": (
        "directories.a.kind: there is no kind 'fil'; the kinds are file, dns, zookeeper; did you mean file?"
    ),
    "[directories.a]\nknd = 'file'": (
        'directories.a.kind: expected kind = "file", "dns" or "zookeeper"; did you mean it by knd?'
    ),
    "[directories.a]": 'directories.a.kind: expected kind = "file", "dns" or "zookeeper"',
    "[directories]\nkind = 'file'": (
        "directories.kind: write a table [directories.NAME], with a NAME of letters, digits, _ and -"
    ),
    "[directories.a]\nkind = 'file'": "directories.a.path is missing: the file: a json array of instances",
    "[directories.a]\nkind = 'file'\npath = 'a'\nkeep_empty = -1": (
        "directories.a.keep_empty: expected a number >= 0, not -1"
    ),
    "[directories.a]\nkind = 'zookeeper'\nservers = ['a']": (
        "directories.a.servers[0]: expected host:port, like 10.0.0.2:2181, not 'a'"
    ),
    "[directories.a]\nkind = 'dns'\nnameservers = ['ns.example']": (
        "directories.a.nameservers[0]: expected an address like 10.0.0.2, 10.0.0.2:5353 or [::1]:5353, not 'ns.example'"
    ),
    "[directories.a]\nkind = 'file'\npath = 'a'\npaht = 'b'": (
        "there is no option directories.a.paht; did you mean path?"
    ),
    "[upstreams.a]\nulr = 'grpc://a:1'": (
        'upstreams.a.url: expected url = "scheme://host:port"; did you mean it by ulr?'
    ),
}
NOT_PUBLISHED = {
    "[publish]\ndirectory = 'zk'": "publish.directory: there is no directory 'zk'",
    "[publish]\ndirectory = 'zk'\n[directories.zk]\nkind = 'file'\npath = 'a'": (
        "publish.directory: a file is only read; expected a directory of the kind zookeeper"
    ),
    f"[server]\nbind = '0.0.0.0:80'\n[publish]\ndirectory = 'zk'\n{ZOOKEEPER}": (
        "publish.address is needed: others cannot reach server.bind, 0.0.0.0:80"
    ),
    f"[server]\nbind = ['unix:/a', ':1']\n[publish]\ndirectory = 'zk'\n{ZOOKEEPER}": (
        "publish.address is needed: others cannot reach server.bind, unix:/a"
    ),
}
NOT_TOML = {
    b"[limits]\ntimeout =\n": "line 2",
    b"[limits]\ntimeout = 5\ntimeout = 6\n": "line 3",
    b"[log]\nlevel = '\xff'\n": "byte 0xff",
}
IN_TEXT = {
    ("limits.timeout", "abc"): "expected a number, not 'abc'",
    ("limits.timeout", ""): "expected a number, not ''",
    ("limits.timeout", "-1"): "expected a number > 0, not '-1'",
    ("limits.threads", "1_000"): "expected an integer, not '1_000'",
    ("xmlrpc.i8", "maybe"): "expected true or false, not 'maybe'",
    ("log.format", "JSON"): "expected text or json, not 'JSON'",
    ("log.level", "\udcff"): "expected text in UTF-8, not '\\udcff'",
    ("server.paths", ""): "expected a list with at least one entry, not ''",
    ("server.paths", "/a b"): "expected a path that begins with a slash, not '/a b'",
}
AS_TEXT = {
    ("limits.timeout", "1e1"): 10.0,
    ("limits.threads", "7"): 7,
    ("xmlrpc.i8", "false"): False,
    ("xmlrpc.i8", "0"): False,
    ("server.paths", "/a, /b,"): ("/a", "/b"),
    ("server.modules", "one,two:registry"): ("one", "two:registry"),
}
UNKNOWN_VARIABLES = {
    "GATEWAY_LIMITS_THREDS": "there is no option limits.threds; did you mean limits.threads?",
    "GATEWAY_TIMEOUT": "there is no option timeout; did you mean limits.timeout?",
    "GATEWAY_LIMIT_MAX_BODY": "there is no option limit.max_body; did you mean limits.max_body?",
    "GATEWAY_": "there is no option ",
    "GATEWAY_DIRECTORIES_A_KIND": "there is no option directories.a_kind; an option of a directory is"
    " directories.NAME.option, which is set in the file or by --set",
    "GATEWAY_UPSTREAMS_A_URL": "there is no option upstreams.a_url; an option of an upstream is upstreams.NAME.option,"
    " which is set in the file or by --set",
}
NO_SETTINGS = ("limits.timeout", "=3", "", " = ")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of its own, for conf/gateway.toml is looked for in the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(text: str | bytes, path: str = "gateway.toml") -> Path:
    file = Path(path)
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def variable(option: str) -> str:
    return f"GATEWAY_{option.replace('.', '_').upper()}"


def option_of(config: Config, option: str) -> Any:
    section, name = option.split(".")
    return getattr(getattr(config, section), name)


def problems(file: Path | None, environment: dict[str, str], settings: Iterable[str]) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(file, environment, settings)
    return raised.value.problems


@pytest.mark.parametrize("option", OPTIONS)
def test_every_default_lies_in_its_own_range_and_is_described(option: str) -> None:
    assert msgspec.convert(DEFAULTS[option], OPTIONS[option]) == DEFAULTS[option]
    assert any(meta.description for meta in OPTIONS[option].__metadata__)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_set_from_all_three_places(option: str) -> None:
    value = OTHERS.get(option) or (DEFAULTS[option] + 1 if DEFAULTS[option] is not True else False)
    text = json.dumps(value) if "{" in str(value) else value[0] if isinstance(value, list) else str(value).lower()
    section, name = option.split(".")
    in_toml = text if isinstance(value, (int, float)) else re.sub(r"('\w+'): ", r"\1 = ", repr(value))
    beside: Iterable[str] = {"tls.certificate=a.pem", "tls.key=a.pem"} - {f"{option}=a.pem"} if section == "tls" else ()
    if option == "publish.directory":
        beside = ("directories.zk.kind=zookeeper", "directories.zk.servers=10.0.0.2:2181")
    if option == "record.methods":
        beside = ("record.folder=recordings",)
    configs = [
        load(written(f"[{section}]\n{name} = {in_toml}"), {}, [*beside]),
        load(None, {variable(option): text}, [*beside]),
        load(None, {}, [*beside, f"{option}={text}"]),
    ]
    assert msgspec.structs.replace(configs[0], file=None) == configs[1] == configs[2] != Config()


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.startswith("limits.")])
def test_every_limit_has_bounds_and_both_are_kept(option: str) -> None:
    (meta,) = OPTIONS[option].__metadata__
    low = meta.gt if meta.ge is None else meta.ge - 1
    for value in [low] + ([] if meta.le is None else [meta.le + 1]):
        (problem,) = problems(None, {}, [f"{option}={value}"])
        assert problem.startswith(f"command line: {option}: expected ")
    for value in ([] if meta.ge is None else [meta.ge]) + ([] if meta.le is None else [meta.le]):
        assert option_of(load(None, {}, [f"{option}={value}"]), option) == value


def test_the_environment_wins_over_the_file_and_the_command_line_over_both() -> None:
    file = written("[limits]\ntimeout = 1\nthreads = 1\ncalls = 1")
    environment = {"GATEWAY_LIMITS_THREADS": "2", "GATEWAY_LIMITS_CALLS": "2", "HOME": "/"}
    limits = load(file, environment, ["limits.calls=3"]).limits
    assert (limits.timeout, limits.threads, limits.calls) == (1.0, 2, 3)


def test_the_last_of_two_settings_counts() -> None:
    assert load(None, {}, ["limits.calls=3", "limits.calls=4"]).limits.calls == 4


@pytest.mark.parametrize(("text", "problem"), IN_FILE.items())
def test_what_is_wrong_in_a_file(text: str, problem: str) -> None:
    assert problems(written(text), {}, ()) == [f"gateway.toml: {problem}"]


NOT_RECORDED = {
    "methods = ['*']": "record.folder is needed with record.methods",
    "max_folder = 1_048_576\nmax_record = 65_537": (
        "record.max_folder: expected room for 16 records of record.max_record (65537)"
    ),
    "redact = ['params[0]', 'param.a']": (
        "record.redact[1]: expected a place like params[0].password or result.*.token, not 'param.a'"
    ),
    "redact = ['result.a[b]']": (
        "record.redact[0]: 'result.a[b]' is not a place: '[b]' is not .name, [0], .*, .** or [\"name\"]"
    ),
}


@pytest.mark.parametrize(("text", "problem"), NOT_RECORDED.items())
def test_what_keeps_calls_from_being_recorded(text: str, problem: str) -> None:
    assert problems(written(f"[record]\n{text}"), {}, ()) == [problem]


@pytest.mark.parametrize(("text", "problem"), NOT_PUBLISHED.items())
def test_what_keeps_a_gateway_from_being_published(text: str, problem: str) -> None:
    assert problems(written(text), {}, ()) == [problem]


@pytest.mark.parametrize(("text", "place"), NOT_TOML.items())
def test_a_file_that_is_not_toml(text: bytes, place: str) -> None:
    (problem,) = problems(written(text), {}, ())
    assert problem.startswith("gateway.toml: invalid TOML: ")
    assert place in problem


@pytest.mark.parametrize(("setting", "problem"), IN_TEXT.items())
def test_what_is_wrong_in_a_variable_or_a_setting(setting: tuple[str, str], problem: str) -> None:
    option, value = setting
    name = variable(option)
    assert problems(None, {name: value}, ()) == [f"environment variable {name}: {option}: {problem}"]
    assert problems(None, {}, [f"{option}={value}"]) == [f"command line: {option}: {problem}"]


@pytest.mark.parametrize(("setting", "value"), AS_TEXT.items())
def test_how_values_are_spelled_as_text(setting: tuple[str, str], value: Any) -> None:
    option, text = setting
    assert option_of(load(None, {variable(option): text}, ()), option) == value
    assert option_of(load(None, {}, [f" {option} = {text}"]), option) == value


def test_a_text_or_a_table_in_its_place() -> None:
    settings = ["directories.zk.kind=zookeeper", "directories.zk.servers=10.0.0.2:2181"]
    for text, login in (("a:b", "a:b"), ('{"env": "A"}', Secret(env="A"))):
        directories: Any = load(None, {}, [*settings, f"directories.zk.login={text}"]).directories
        assert directories["zk"].login == login
    (problem,) = problems(None, {}, [*settings, 'directories.zk.login={"evn": "A"}'])
    assert problem.startswith("command line: directories.zk.login")


@pytest.mark.parametrize(("name", "problem"), UNKNOWN_VARIABLES.items())
def test_an_unknown_variable_is_told_with_the_nearest_option(name: str, problem: str) -> None:
    assert problems(None, {name: "1"}, ()) == [f"environment variable {name}: {problem}"]


@pytest.mark.parametrize(
    "name",
    ["INTERFACE", "SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP", "PORT_80_TCP_ADDR"],
)
def test_variables_that_cgi_and_kubernetes_set_are_passed_over(name: str) -> None:
    assert load(None, {f"GATEWAY_{name}": "tcp://10.0.0.1:80", "GATEWAYS": "1"}, ()) == Config()


@pytest.mark.parametrize("setting", NO_SETTINGS)
def test_a_setting_without_a_name_or_a_value(setting: str) -> None:
    problem = f"command line: {setting!r} is not a setting: write it as section.option=value"
    assert problems(None, {}, [setting]) == [problem]


@pytest.mark.parametrize(("bind", "good"), HOSTS.items())
def test_which_addresses_can_be_bound(bind: str, good: bool) -> None:
    settings = [f"server.bind={bind}"]
    if good:
        assert load(None, {}, settings).server.bind == (bind,)
    else:
        expected = HOST_PORT if bind else "a list with at least one entry"
        problem = f"command line: server.bind: expected {expected}, not {bind!r}"
        assert problems(None, {}, settings) == [problem]


def test_a_program_may_write_one_address_by_itself() -> None:
    bind: Any = "127.0.0.1:0"
    assert ServerSection(bind=bind).bind == ("127.0.0.1:0",)


def test_everything_wrong_is_told_at_once_and_the_rest_is_kept() -> None:
    file = written("[limits]\ntimout = 5\nthreads = 0\ncalls = 7\n[serv]\n", "conf/gateway.toml")
    environment = {"GATEWAY_LOG_LEVEL": "loud", "GATEWAY_LOG_FORMAT": "json"}
    with pytest.raises(ConfigError) as raised:
        load(None, environment, ["limits.waiting=-1", "limits.retry_after=2", "nonsense"])
    told = str(raised.value).splitlines()
    assert told == raised.value.problems
    assert sorted(told) == [
        "command line: 'nonsense' is not a setting: write it as section.option=value",
        "command line: limits.waiting: expected an integer >= 0, not '-1'",
        f"{file}: limits.threads: expected an integer >= 1, not 0",
        f"{file}: there is no option limits.timout; did you mean limits.timeout?",
        f"{file}: there is no section [serv]; did you mean [server]?",
        "environment variable GATEWAY_LOG_LEVEL: log.level: expected debug or info or warning or error, not 'loud'",
    ]
    config = raised.value.config
    assert (config.limits.calls, config.log.format, config.limits.retry_after) == (7, "json", 2)


def test_the_file_is_the_named_one_or_that_of_the_environment_or_the_usual_one() -> None:
    for calls, path in enumerate(("named.toml", "environment.toml", "conf/gateway.toml"), 1):
        written(f"[limits]\ncalls = {calls}", path)
    environment = {"GATEWAY_CONFIG": "environment.toml"}
    assert load(Path("named.toml"), environment, ()).limits.calls == 1
    assert load(None, environment, ()).limits.calls == 2
    assert load(None, {"GATEWAY_CONFIG": ""}, ()).limits.calls == 3
    Path("conf/gateway.toml").unlink()
    assert load(None, {}, ()) == Config()


def test_a_folder_that_is_a_file_holds_no_usual_one() -> None:
    written("", "conf")
    assert load(None, {}, ()) == Config()


def test_a_byte_order_mark_is_no_part_of_a_file() -> None:
    assert load(written(b"\xef\xbb\xbf[limits]\ncalls = 5"), {}, ()).limits.calls == 5


@pytest.mark.parametrize(("path", "reason"), [("missing.toml", "no such file or directory"), (".", "is a directory")])
def test_a_file_that_is_named_must_be_readable(path: str, reason: str) -> None:
    assert problems(Path(path), {}, ()) == [f"{path}: it cannot be read: {reason}"]
    in_environment = problems(None, {"GATEWAY_CONFIG": path}, ())
    assert in_environment == [f"{path} (named by GATEWAY_CONFIG): it cannot be read: {reason}"]


def test_a_usual_file_that_cannot_be_read_is_not_passed_over() -> None:
    Path("conf/gateway.toml").mkdir(parents=True)
    assert problems(None, {}, ()) == ["conf/gateway.toml: it cannot be read: is a directory"]


def test_a_key_in_the_place_of_its_hash_or_its_name_is_not_shown() -> None:
    key, stored = make_key()
    named = f'access.keys={{"odoo": "{stored}"}}'
    (problem,) = problems(written(f"[access.keys]\n{key} = 'odoo'"), {}, ())
    assert problem == "gateway.toml: access.keys: expected the hash that gateway key prints"
    for settings in (
        [f'access.keys={{"odoo": "{key}"}}'],
        [f"access.keys={key}"],
        [named, f'access.rules=[{{"methods": ["*"], "keys": ["{key}"]}}]'],
        [f'access.keys={{"{key}": "{stored}"}}'],
    ):
        (problem,) = problems(None, {}, settings)
        assert "access." in problem
        assert "expected" in problem
        assert key not in problem


def test_the_path_of_websocket_is_its_own() -> None:
    with pytest.raises(ConfigError, match="choose a path that is not in server"):
        load(None, {}, ["websocket.enabled=true", "websocket.path=/api"])
    load(None, {}, ["websocket.path=/api"])
