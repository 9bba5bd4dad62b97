"""What ``gateway check`` says of a fleet that cannot be meant as it is configured."""

from pathlib import Path

import pytest

from tests.cli.running import here

ONE = "[upstreams.up]\n"
HTTP = "url = 'jsonrpc+http:///rpc'"
LISTED = "[directories.list]\nkind = 'file'\npath = '/a.json'\n"
ZOOKEEPER = "[directories.zk]\nkind = 'zookeeper'\nservers = ['10.0.0.2:2181']\n"
NAMED = "methods = {get = ['item']}"

PROBLEMS = {
    f"{LISTED}{ONE}url = 'jsonrpc+http://a/rpc'\ndirectory = 'list'": "upstreams.up: the url has a host, and the",
    f"{ONE}{HTTP}": "upstreams.up: the url has no host; write it as scheme://host:port, or name a directory",
    f"{LISTED}{ONE}{HTTP}\ndirectory = 'lost'": "upstreams.up.directory: there is no table [directories.lost]; did you",
    f"{ONE}url = ['grpc://a:1', 'grpcs://b:1']": "upstreams.up: the urls differ in more than host and port",
    f"{ZOOKEEPER}[publish]\ndirectory = 'zk'": "warning[published-without-grace]: server.grace",
    f"{ONE}url = ['jsonrpc+tcp://a:1', 'jsonrpc+tcp://b:1']\nbalance = 'hash'\nhash_by = 'params.itme'\n{NAMED}": (
        "hash_by: none of its methods has a parameter itme; did you mean item?"
    ),
    "[versions.add]\ndefault = 'v1'\ncanary = {to = 'v2', percent = 5}\n[versions.'add.v1']\ndefault = 'x'": (
        "warning[version-twice]"
    ),
    "[versions.stock]\ndefault = 'v1'\ncanary = {to = 'v9', percent = 5}": (
        "warning[version-without-method]: versions.stock"
    ),
    f"{LISTED}": "warning[directory-unused]: directories.list",
}


@pytest.mark.parametrize(("text", "problem"), PROBLEMS.items(), ids=PROBLEMS.values())
def test_what_cannot_be_meant(text: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "served_here.py").write_text(
        "from gateway import method\n@method(name='stock.get', version='v1')\ndef get() -> int:\n    return 1\n"
    )
    (tmp_path / "gateway.toml").write_text(f"{text}\n")
    done = here("check", "served_here", "--config", "gateway.toml")
    assert problem in done.err, done
