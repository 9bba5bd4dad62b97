"""A file as a directory: written, replaced, broken, gone."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway import Registry
from gateway.fleet.directories import addresses, file, watching
from gateway.fleet.listing import Instance
from tests.conftest import Logged
from tests.fleet.directories.following import following, made
from tests.scraping import until
from tests.serving import serving


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "_LOOK", 0.02)
    monkeypatch.setattr(watching, "_AGAIN", (0.02, 0.03))
    monkeypatch.setattr(watching, "_COLLECT", (0.0, 0.0))


def write(path: Path, *rows: Any) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(rows))
    beside.replace(path)


def test_a_file_that_is_changed_broken_and_right_again(tmp_path: Path, logged: Logged) -> None:
    path = tmp_path / "stock.json"

    async def main() -> None:
        async with following(made("file", path=str(path))) as followed:
            await followed.until(lambda: "no such file" in followed.status.error)
            write(path, {"url": "jsonrpc+tcp://10.0.0.7:31415", "weight": 50, "version": "1.4", "zone": "a"})
            await followed.until(lambda: followed.addresses == ["10.0.0.7:31415"])
            path.write_text('[{"url": "jsonrpc+tcp://10.0.0.7:31')  # written in place, and not yet to its end
            await followed.until(lambda: "not a JSON array" in followed.status.error)
            assert followed.addresses == ["10.0.0.7:31415"]
            write(path, {"address": "[::1]:1"}, {"address": "unix:/run/a.sock", "priority": 1})
            await followed.until(lambda: followed.addresses == ["[::1]:1", "unix:/run/a.sock"])
            path.write_text('{"a": 1}')
            await followed.until(lambda: "not a JSON array" in followed.status.error)
            write(path)
            await followed.until(lambda: followed.status.error == "it lists no instances")
            path.unlink()
            await followed.until(lambda: "no such file" in followed.status.error)
            assert followed.lists == [
                (Instance(address="10.0.0.7:31415", scheme="jsonrpc+tcp", weight=50, version="1.4", zone="a"),),
                (Instance(address="[::1]:1"), Instance(address="unix:/run/a.sock", priority=1)),
            ]

    asyncio.run(main())
    assert len(logged.take("it is away")) == 4
    logged.take("it lists no instances")


def test_rows_that_cannot_be_read_are_left_out(tmp_path: Path, logged: Logged) -> None:
    path = tmp_path / "stock.json"
    bad: list[Any] = [7, {}, {"url": "10.0.0.7"}, {"address": "a:1", "weight": -1}, {"address": "a:70000"}]
    bad += [{"address": "a"}, {"url": "grpc://user:secret@a:1"}, {"address": "a:1", "version": 1.4}]
    bad = [row if row == 7 else {**row, "service": "stock"} for row in bad]
    write(
        path, *bad, {"url": "grpc://b:2/path?x", "service": "stock", "more": 1}, {"address": "c:3", "service": "other"}
    )

    async def main(service: str) -> list[str] | None:
        async with following(made("file", path=str(path)), service) as followed:
            await followed.until(lambda: followed.lists)
            return followed.addresses

    assert asyncio.run(main("stock")) == ["b:2"]
    lines = logged.take("directory list: stock: '")
    assert len(lines) == len(bad)
    assert "secret" not in "".join(lines)
    assert asyncio.run(main("")) == ["b:2", "c:3"]
    logged.take("directory list: '")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "_LARGEST", 10)
    write(tmp_path / "a.json", {"address": "c:3"})

    async def main() -> None:
        async with following(made("file", path=str(tmp_path / "a.json"))) as followed:
            await followed.until(lambda: "larger than 10 bytes" in followed.status.error)

    asyncio.run(main())
    logged.take("it is away")


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("jsonrpc+HTTP://a:1/b?c", ("jsonrpc+http", "a:1")),
        ("grpc://[::1]:65535", ("grpc", "[::1]:65535")),
        ("http://unix:/run/a", ("http", "unix:/run/a")),
        ("a:1", None),
        ("://a:1", None),
        ("grpc://a", None),
        ("grpc://a:0", None),
        ("grpc://a b:1", None),
        ("grpc://:1", None),
        ("http://unix:a", None),
    ],
)
def test_addresses_in_urls(url: str, found: tuple[str, str] | None) -> None:
    if found is None:
        with pytest.raises(ValueError, match="its"):
            addresses.split(url)
    else:
        assert addresses.split(url) == found


def test_addresses_are_put_together() -> None:
    assert (addresses.joined("::1", 5), addresses.joined("a", 5)) == ("[::1]:5", "a:5")


def test_the_age_of_lists_is_in_the_metrics(tmp_path: Path, logged: Logged) -> None:
    path = tmp_path / "stock.json"
    write(path, {"address": "127.0.0.1:1"})
    (tmp_path / "gateway.toml").write_text(
        f"[directories.list]\nkind = 'file'\npath = '{path}'\n[directories.unused]\nkind = 'file'\npath = '{path}'\n"
        "[upstreams.up]\nurl = 'jsonrpc+tcp://'\ndirectory = 'list'\nmethods = ['get']\n"
    )
    with serving(Registry(), None, tmp_path / "gateway.toml") as server:
        numbers = until(server.metrics, lambda seen: seen.of("gateway_directory_up", directory="list") == 1)
        assert 0 <= numbers.of("gateway_directory_age_seconds", directory="list") < 20
        assert numbers.labels("gateway_directory_up", "directory") == {"list"}
        path.unlink()
        until(server.metrics, lambda seen: seen.of("gateway_directory_up", directory="list") == 0)
    assert len(logged.take("it is away")) == 1
