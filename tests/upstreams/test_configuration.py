"""The tables of upstreams in gateway.toml, and what the command line tells of them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from msgspec import Struct

from gateway.config import ConfigError, load
from gateway.upstreams import SCHEMES, upstream_class
from gateway.upstreams.jsonrpc.tcp import TCPOptions
from tests.serving import free_port
from tests.upstreams.kinds import KINDS
from tests.upstreams.running import Program, broken

TCP = "url = 'jsonrpc+tcp://localhost:1'"
HTTP = "url = 'xmlrpc+http://localhost/RPC2'"
WRONG = {
    "[upstreams.a]": 'upstreams.a.url: expected url = "scheme://host:port"',
    "[upstreams.a]\nprefix = 'x'": 'upstreams.a.url: expected url = "scheme://host:port"',
    "[upstreams.a]\nurl = 5": 'upstreams.a.url: expected url = "scheme://host:port"',
    "[upstreams]\nurl = 5": "upstreams.url: write a table [upstreams.NAME], with a NAME of letters, digits, _ and -",
    "[upstreams.'a.b']\nurl = 5": (
        "upstreams.a.b: write a table [upstreams.NAME], with a NAME of letters, digits, _ and -"
    ),
    "[[upstreams]]\nurl = 5": "upstreams: write a table [upstreams.NAME], with a NAME of letters, digits, _ and -",
    "[upstreams.a]\nurl = 'localhost:1'": (
        "upstreams.a.url: 'localhost:1' has no scheme; write it as scheme://host:port, with one of "
    ),
    "[upstreams.a]\nurl = 'jsonrpc+tcq://localhost:1'": (
        "upstreams.a.url: there is no adapter for jsonrpc+tcq://; did you mean jsonrpc+tcp://?"
    ),
    "[upstreams.a]\nurl = 'ftp://localhost:1'": "upstreams.a.url: there is no adapter for ftp://",
    f"[upstreams.a]\n{TCP}\nframin = 'x'": "there is no option upstreams.a.framin; did you mean framing?",
    f"[upstreams.a]\n{HTTP}\nframing = 'newline'": "there is no option upstreams.a.framing",
    f"[upstreams.a]\n{TCP}\nframing = 'lines'": "upstreams.a.framing: expected newline or json or netstring, not",
    f"[upstreams.a]\n{TCP}\ncalls = 0": "upstreams.a.calls: expected an integer >= 1, not 0",
    f"[upstreams.a]\n{TCP}\ntimeout = {{ add = 0 }}": "upstreams.a.timeout.add: expected a number > 0, not 0",
    f"[upstreams.a]\n{TCP}\ntimeout = 5": "upstreams.a.timeout: expected a table, not 5",
    f"[upstreams.a]\n{TCP}\nrename = {{ a = 'b c' }}": (
        "upstreams.a.rename.a: expected a name without blanks and < > &, not 'b c'"
    ),
    f"[upstreams.a]\n{TCP}\nmethods = 5": "upstreams.a.methods: expected a table or a list, not 5",
    "[upstreams.a]\nurl = 'jsonrpc+tcp://localhost'": (
        "upstreams.a: the url must be jsonrpc+tcp://host:port, with nothing after it"
    ),
    "[upstreams.a]\nurl = 'jsonrpc+tcp://localhost:1/x'": (
        "upstreams.a: the url must be jsonrpc+tcp://host:port, with nothing after it"
    ),
    "[upstreams.a]\nurl = 'jsonrpc+tcp://localhost:0'": "upstreams.a: the url has no port from 1 to 65535",
    "[upstreams.a]\nurl = 'xmlrpc+http://localhost:99999/'": "upstreams.a: the url has no port from 1 to 65535",
    "[upstreams.a]\nurl = 'xmlrpc+http:///RPC2'": "upstreams.a: the url has no host; write it as scheme://host:port",
    "[upstreams.a]\nurl = 'xmlrpc+http://me:secret@localhost/'": (
        "upstreams.a: the url is shown and logged: credentials are options of their own"
    ),
    f'[upstreams.a]\n{HTTP}\nheaders = {{ X = "a\\r\\nb" }}': (
        "upstreams.a.headers.X: expected a header's value, on one line"
    ),
}


PAGE = (Path(__file__).parents[2] / "docs" / "bridges.md").read_text("utf-8")


class Run(Struct, frozen=True):
    """What a finished command leaves behind."""

    code: int
    out: str
    err: str


def gateway(folder: Path, toml: str, *arguments: str, **variables: str) -> Run:
    (folder / "conf").mkdir(exist_ok=True)
    (folder / "conf" / "gateway.toml").write_text(f"[server]\nmodules = []\n{toml}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")} | variables
    command = [sys.executable, "-m", "gateway", *arguments]
    ended = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    return Run(ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.parametrize(("toml", "problem"), WRONG.items())
def test_what_is_wrong_is_told_by_file_upstream_and_option(toml: str, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(toml)
    with pytest.raises(ConfigError) as raised:
        load(file, {}, ())
    (told,) = raised.value.problems
    assert told.startswith(f"{file}: {problem}")


def test_everything_wrong_is_told_at_once_and_the_right_ones_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f"[limits]\ncalls = 0\n[upstreams.a]\n{TCP}\ncalls = 0\nframin = 1\n[upstreams.b]\n{TCP}\n")
    with pytest.raises(ConfigError) as raised:
        load(file, {}, ())
    assert len(raised.value.problems) == 3
    assert list(raised.value.config.upstreams) == ["b"]


def test_the_command_line_sets_options_of_upstreams_too(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f"[upstreams.a]\n{TCP}\ncalls = 5\n")
    settings = ["upstreams.a.calls=7", "upstreams.a.expose=x, y*", "upstreams.b.url=jsonrpc+tcp://[::1]:2"]
    upstreams = load(file, {}, settings).upstreams
    assert isinstance(upstreams["a"], TCPOptions)
    assert (upstreams["a"].calls, upstreams["a"].expose) == (7, ("x", "y*"))
    assert upstreams["b"].url == "jsonrpc+tcp://[::1]:2"


@pytest.mark.parametrize("written", ['["a", "b*"]', "a,b*", '[ "a", "b*" ]'])
def test_a_list_on_the_command_line_is_written_with_commas_or_as_json(written: str, tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text(f"[upstreams.a]\n{TCP}")
    config = load(tmp_path / "gateway.toml", {}, [f"upstreams.a.idempotent={written}", "access.allow=[]"])
    assert config.upstreams["a"].idempotent == ("a", "b*")
    assert config.access.allow == ()


@pytest.mark.processes
def test_check_reaches_nobody_and_tells_what_can_be_told_without(tmp_path: Path) -> None:
    well = gateway(tmp_path, f"[upstreams.a]\n{TCP}\nmethods = ['add']\n[upstreams.b]\n{HTTP}", "check")
    assert (well.code, well.err) == (0, "")
    assert well.out.endswith("\ngateway: no errors: 1 method and 2 upstreams\n")
    twice = f"[upstreams.b]\n{TCP}\nmethods = ['add', 'sum']\nrename = {{ sum = 'add' }}"
    tls = f"[upstreams.c]\n{HTTP}\nca = 'ca.pem'\n[upstreams.d]\nurl = 'jsonrpc+https://localhost'\nca = 'ca.pem'"
    wrong = gateway(tmp_path, f"{twice}\n{tls}", "check")
    assert wrong.code == 1
    assert wrong.err.splitlines() == [
        "gateway: error[upstreams]: upstreams.b: 'b.add' is registered twice: by upstreams.b (jsonrpc+tcp://localhost:1)"
        " and by upstreams.b (jsonrpc+tcp://localhost:1); rename one of them",
        "gateway: error[upstreams]: upstreams.c: ca, cert and key are for a url with xmlrpc+https",
        "gateway: error[upstreams]: upstreams.d: the certificates in ca.pem cannot be read: no such file or directory",
    ]
    assert gateway(tmp_path, twice, "serve").err == wrong.err.splitlines()[0].replace("error[upstreams]: ", "") + "\n"


def test_a_missing_extra_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "httptools.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'httptools'\", name='httptools')"
    )
    told = gateway(tmp_path, f"[upstreams.a]\n{HTTP}", "check", PYTHONPATH=str(tmp_path))
    assert told.code == 1
    assert told.err == (
        "gateway: error[configuration]: conf/gateway.toml: upstreams.a.url: xmlrpc+http:// needs the package httptools:"
        " pip install '.[http]' in the gateway's clone\n"
    )


def test_what_is_not_configured_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "httptools.py").write_text("raise ModuleNotFoundError")
    assert gateway(tmp_path, f"[upstreams.a]\n{TCP}", "check", PYTHONPATH=str(tmp_path)).code == 0


@pytest.mark.processes
def test_upstreams_shows_each_as_it_is(tmp_path: Path) -> None:
    xml, _, tcp, _ = KINDS[:4]
    nobody = free_port()
    with Program(xml) as up, Program(tcp) as silent, broken(b"what?\n") as odd:
        told = gateway(
            tmp_path,
            f"[upstreams.up]\nurl = '{xml.url.format(port=up.port)}'\nhide = ['s*', 'getObj']\n"
            f"[upstreams.silent]\nurl = '{tcp.url.format(port=silent.port)}'\n"
            f"[upstreams.named]\nurl = '{tcp.url.format(port=silent.port)}'\nmethods = ['echo', 'search']\n"
            f"[upstreams.odd]\nurl = '{tcp.url.format(port=odd)}'\n"
            f"[upstreams.down]\nurl = '{tcp.url.format(port=nobody)}'\n",
            "upstreams",
        )
    assert (told.code, told.err) == (1, "")
    rows = [line.split(None, 4) for line in told.out.splitlines()]
    assert rows[0] == ["NAME", "ADDRESS", "STATE", "METHODS", "LAST ERROR"]
    assert [(row[0], row[2], row[3], *row[4:]) for row in rows[1:]] == [
        ("up", "up", "6"),
        ("silent", "up", "0", "it does not tell its methods: name them in the configuration, methods = [...]"),
        ("named", "up", "2"),
        ("odd", "down", "0", "Bad upstream: the response is not JSON-RPC: not JSON: invalid character (byte 0)"),
        ("down", "down", "0", "connection refused"),
    ]
    with Program(tcp) as program:
        toml = f"[upstreams.named]\nurl = '{tcp.url.format(port=program.port)}'\nmethods = ['echo']\n"
        assert gateway(tmp_path, toml, "upstreams").code == 0


def test_methods_lists_what_the_configuration_names(tmp_path: Path) -> None:
    told = gateway(tmp_path, f"[upstreams.a]\n{TCP}\nmethods = {{ search = ['number', 'name?'] }}", "methods")
    assert told == Run(0, "a.search  (number, name=...)  async  upstreams.a (jsonrpc+tcp://localhost:1)\n", "")


def test_a_tcp_port_that_is_taken_is_told_by_its_own_option(tmp_path: Path) -> None:
    with broken(b"") as port:
        taken = f"127.0.0.1:{port}"
        told = gateway(tmp_path, f"[upstreams.a]\n{TCP}", "serve", "--bind", "127.0.0.1:0", "--tcp", taken)
    assert told.code == 1
    assert told.err.splitlines()[-1] == (
        f"gateway: cannot listen on {taken}: address already in use; choose another address with --tcp HOST:PORT"
    )


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
def test_what_the_page_shows_is_right(block: str, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(block)
    assert load(file, {}, ()).upstreams


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_page_tells_of_every_scheme_and_every_option(scheme: str) -> None:
    assert f"`{scheme}://`" in PAGE
    for field in msgspec.structs.fields(upstream_class(f"{scheme}://localhost:1").Options):
        assert f"`{field.name}`" in PAGE, field.name
        assert any(meta.description for meta in field.type.__metadata__), field.name
