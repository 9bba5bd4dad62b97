"""What a recording is made of: values as JSON and back, places, what is left out, and the files."""

import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.model.places import Place, place
from gateway.telemetry.recording.entry import Entry, line, read
from gateway.telemetry.recording.files import Files
from gateway.telemetry.recording.redaction import Redactor
from gateway.telemetry.recording.typed import REDACTED, typed, untyped

VALUES: list[Any] = [
    None,
    True,
    False,
    "",
    "ä\u0000\n€😀",
    0,
    -(2**53) + 1,
    2**53,
    -(2**64),
    10**400,
    1.0,
    -0.0,
    5e-324,
    1.7976931348623157e308,
    b"",
    bytes(range(256)),
    datetime(2026, 1, 2, 3, 4, 5),
    datetime(1, 1, 1, 0, 0, 0, 1, UTC),
    [],
    {},
    [[{"a": [b"x", {"": None}]}]],
    {"$int": "5"},
    {"$bytes": 1, "$": 2, "$$": 3},
    {"$redacted": True},
    {"$datetime": {"$float": "nan"}},
]
NO_LINES = [
    b"",
    b"{}",
    b"\xff",
    b"[" * 100_000,
    b'{"v":2,"at":"","id":"","protocol":"jsonrpc","method":"a","seconds":0,"outcome":"result"}',
    *(
        b'{"v":1,"at":"","id":"","protocol":"jsonrpc","method":"a","seconds":0,"outcome":"result","result":%b}' % result
        for result in (
            b'{"$int":5}',
            b'{"$int":"a"}',
            b'{"$bytes":"?"}',
            b'{"$bytes":null}',
            b'{"$datetime":"a"}',
            b'{"$datetime":1}',
            b'{"$redacted":false}',
            b'{"$x":1}',
            b'{"a":1,"$x":1}',
        )
    ),
]


def entry(value: Any) -> Entry:
    return Entry(
        v=1, at="", id="1", protocol="jsonrpc", method="a", seconds=0.5, outcome="result", params=[value], result=value
    )


@pytest.mark.parametrize("value", VALUES)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    text = line(entry(value))
    assert text.count(b"\n") == 1
    found = read(text)
    assert repr(found.params) == repr([value])
    assert repr(found.result) == repr(value)
    assert type(found.result) is type(value)


def test_what_is_not_finite_comes_back_too() -> None:
    for text in ("inf", "-inf", "nan"):
        assert repr(untyped(msgspec.json.decode(msgspec.json.encode(typed(float(text)))))) == text
    with pytest.raises(ValueError, match="a set cannot be recorded"):
        typed({1})


@pytest.mark.parametrize("text", NO_LINES)
def test_what_is_not_a_line_is_told(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(text)


PLACES: dict[str, tuple[Any, ...]] = {
    "params": ("params",),
    "params[0].password": ("params", 0, "password"),
    "result.*.token": ("result", None, "token"),
    "result[*].token": ("result", None, "token"),
    "result.**.token": ("result", ..., "token"),
    "fault.data.a b": ("fault", "data", "a b"),
    'result["a.b"]["\\u00e4"]': ("result", "a.b", "ä"),
    "result.0": ("result", "0"),
}
NO_PLACES = ("", "param", "paramsx", "params.", "params..a", "params[", "params[-1]", "params[x]", 'result["a]')


@pytest.mark.parametrize(("text", "steps"), PLACES.items())
def test_places(text: str, steps: tuple[Any, ...]) -> None:
    assert place(text) == Place("*", steps)
    assert place(f"auth.*:{text}") == Place("auth.*", steps)


@pytest.mark.parametrize("text", NO_PLACES)
def test_what_is_not_a_place(text: str) -> None:
    with pytest.raises(ValueError, match="place"):
        place(text)


def redacted(params: Any, result: Any, *places: str, names: tuple[str, ...] = (), secrets: bool = False) -> Any:
    redactor = Redactor(tuple(map(place, places)), secrets=secrets, prefix="gw_")
    said, outcome, left = redactor.redact("auth.login", names, params, {"result": result})
    return said, outcome["result"], left.told()


R = REDACTED
AT_PLACES: list[tuple[tuple[str, ...], Any, Any]] = [
    (("params[0].password",), [{"password": "abcd"}, "x"], [{"password": R}, "x"]),
    (("params.0",), ["x", "y"], [R, "y"]),
    (("params.user.password",), {"user": {"password": 1, "name": "n"}}, {"user": {"password": R, "name": "n"}}),
    (("params.user.password",), [{"password": 1}, 2], [{"password": R}, 2]),  # the first parameter is user
    (("params[0].password",), {"user": {"password": 1}}, {"user": {"password": R}}),
    (("params.*.token",), [{"token": 1}, {"token": 2}, 3], [{"token": R}, {"token": R}, 3]),
    (("params.**.token",), [{"a": [{"token": 1}]}, {"token": [2]}], [{"a": [{"token": R}]}, {"token": R}]),
    (("params.**",), [1, {"a": 2}], [R, R]),
    (("params",), [1], R),
    (("params.user.*",), [{"a": 1}, 1], [{"a": R}, 1]),
    (("auth.*:params[0]",), [1, 2], [R, 2]),
    (("stock.*:params[0]", "params[5].a", "params.b"), [1, 2], [1, 2]),
    (('params[0]["a.b"]',), [{"a.b": 1, "a": {"b": 1}}], [{"a.b": R, "a": {"b": 1}}]),
]


@pytest.mark.parametrize(("places", "params", "expected"), AT_PLACES)
def test_what_is_left_out_by_places(places: tuple[str, ...], params: Any, expected: Any) -> None:
    assert redacted(params, None, *places, names=("user", "other"))[0] == expected


SECRET_NAMES = (
    "password", "PassWord", "user_passwd", "passphrase", "api_key", "apiKey", "X-API-Key", "access_token", "token",
    "authorization", "client_secret", "credentials", "Set-Cookie", "pwd", "userPwd", "pin", "card_pin", "OTP", "cvv",
    "private_key", "accessKey", "jwt", "auth", "basicAuth",
)  # fmt: skip
OTHER_NAMES = ("user", "name", "spin", "pinned", "author", "compass", "key", "public", "ping", "opt", "empty", "")
SECRET_VALUES = (
    "Bearer abcdef123456",
    "x bearer abcdef123456",
    "Basic dXNlcjpwYXNz",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
    "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.",
    "x=a.b.eyJhbGciOiJIUzI1NiJ9.e30.abc.d",
    "-----BEGIN PRIVATE KEY-----\nMIIE",
    "-----BEGIN RSA PRIVATE KEY-----",
    "LS0tLS1CRUdJTiBQUklW",
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_abcdefghijklmnopqrst",
    "postgres://app:hunter2@db/x",
    "gw_whatever",
    b"-----BEGIN EC PRIVATE KEY-----",
)
OTHER_VALUES = (
    "bearer of news",
    "Basic membership",
    "Basic dXNl",
    "eyJ",
    "https://a:80/b@c",
    "mailto:a@b.example",
    "BEGIN",
    b"abc",
    "-----BEGIN CERTIFICATE-----",
    "-eyJ" * 16_000,
    "eyJ.a.b.c",
    "bearer" + " " * 60_000,
    "-----BEGIN " * 5_000,
    "://a:" * 12_000,
)


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_secret_by_its_name(name: str) -> None:
    for value in ("x1y2", 12345, b"x1y2", ["x1y2"], {"a": "x1y2"}):
        assert redacted({name: value}, None, secrets=True)[0] == {name: R}
    assert redacted([1, {"a": {name: "x"}}], {"b": [{name: "y"}]}, secrets=True)[:2] == (
        [1, {"a": {name: R}}],
        {"b": [{name: R}]},
    )
    assert redacted(["u", "x1y2"], None, names=("user", name), secrets=True)[0] == ["u", R]
    assert redacted([{"name": name, "value": "x1y2"}], None, secrets=True)[0] == [{"name": name, "value": R}]
    assert redacted({name: None, "b": 1}, None, secrets=True)[0] == {name: None, "b": 1}
    assert redacted({name: "x1y2"}, None)[0] == {name: "x1y2"}


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_a_name_of_something_else(name: str) -> None:
    assert redacted({name: "x1y2"}, {name: 1}, secrets=True) == ({name: "x1y2"}, {name: 1}, [])


@pytest.mark.parametrize("value", SECRET_VALUES)
def test_a_secret_by_its_value(value: Any) -> None:
    assert redacted([[value]], value, secrets=True) == ([[R]], R, ["params[0][0]", "result"])
    assert redacted([value], None)[0] == [value]
    if isinstance(value, str):
        said, result, places = redacted({"a": {value: 1}, value: 2}, {value: 1}, secrets=True)
        assert (said, result) == (R, R)
        assert places == ["params", "result"]


@pytest.mark.parametrize("value", OTHER_VALUES)
def test_a_value_that_is_no_secret(value: Any) -> None:
    assert redacted([value], value, secrets=True) == ([value], value, [])


def test_what_is_left_out_is_left_out_wherever_else_it_is() -> None:
    params = {"password": "hunter2", "url": "x?p=hunter2", "pin": 123456, "n": 123456, "b": b"a hunter2", "c": "hunter"}
    result = {"said": "wrong: hunter2", "codes": ["123456", 5], "hunter2": 1}
    said, told, places = redacted(params, result, secrets=True)
    assert said == {"password": R, "url": R, "pin": R, "n": R, "b": R, "c": "hunter"}
    assert told == R
    assert places == ["params.password", "params.pin", "params.url", "params.n", "params.b", "result"]
    assert redacted({"token": "ab"}, ["ab", "cab"], secrets=True)[1] == [R, "cab"]  # too short to be looked for
    assert redacted({"pin": 7}, [7], secrets=True)[1] == [7]
    assert redacted({"secret": b"abcdef"}, ["YWJjZGVm"], secrets=True)[1] == [R]
    assert redacted({"hunter2": {"password": "hunter2"}}, None, secrets=True) == (R, None, ["params"])


def test_of_a_record_with_very_many_secrets_nothing_is_told() -> None:
    said, told, places = redacted({"tokens": [f"secret-{number}" for number in range(201)], "a": 1}, [1], secrets=True)
    assert (said, told, places) == (R, R, ["params.tokens", "params", "result"])
    assert redacted({"tokens": ["secret"] * 201, "a": 1}, [1], secrets=True)[0] == {"tokens": R, "a": 1}


def test_files_are_for_their_owner_and_begin_anew_when_they_are_full(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    before = os.umask(0)
    try:
        files = Files(folder, 16000)
        files.write([b"x" * 499 + b"\n"] * 5)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    found = sorted(folder.iterdir())
    assert sorted(path.stat().st_size for path in found) == [500, 1000, 1000]
    assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o600}
    assert files.lines == 5
    files.close()


def test_the_oldest_files_go_first_and_none_of_others(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_bytes(b"n" * 100_000)
    (tmp_path / "20260101T000000-1-00000000.jsonl").symlink_to(tmp_path / "notes.jsonl")
    one, other = Files(tmp_path, 16000), Files(tmp_path, 16000)
    for number in range(40):
        for files in (one, other):
            files.write([b"%d " % number + b"x" * 300 + b"\n"])
        own = [path for path in tmp_path.iterdir() if path.is_file() and path.name[0] == "2" and not path.is_symlink()]
        assert sum(path.stat().st_size for path in own) <= 16000
    kept = [int(each.split()[0]) for path in own for each in path.read_bytes().splitlines()]
    assert max(kept) == 39
    assert min(kept) > 5
    assert len(kept) > 40
    assert (tmp_path / "notes.jsonl").stat().st_size == 100_000
    assert (tmp_path / "20260101T000000-1-00000000.jsonl").is_symlink()
    one.close()
    other.close()


def test_a_file_that_was_removed_is_not_written_on(tmp_path: Path) -> None:
    files = Files(tmp_path / "a", 16000)
    files.write([b"1\n"])
    for path in (tmp_path / "a").iterdir():
        path.unlink()
    (tmp_path / "a").rmdir()
    files.write([b"2\n"])
    assert [path.read_bytes() for path in (tmp_path / "a").iterdir()] == [b"2\n"]
    files.close()


def test_no_half_of_a_line_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, full = os.write, False

    def some(number: int, data: Any) -> int:
        if full and len(data) < 5:
            raise OSError(28, "No space left on device")
        return write(number, data[:3])

    monkeypatch.setattr(os, "write", some)
    files = Files(tmp_path, 16000)
    files.write([b"first line\n"])
    full = True
    with pytest.raises(OSError, match="No space"):
        files.write([b"second line\n"])
    full = False
    files.write([b"third line\n"])
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == [b"first line\n", b"third line\n"]
    assert files.lines == 2
    files.close()
