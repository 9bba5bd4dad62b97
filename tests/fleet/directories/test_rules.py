"""What holds for all kinds of directories, with a kind that tells what a test says."""

import asyncio
import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import pytest

from gateway.fleet.directories import watching
from gateway.fleet.directories.options import DirectoryOptions
from gateway.fleet.directories.watching import Away, Complain, WatchedDirectory
from gateway.fleet.listing import Instance
from tests.conftest import Logged
from tests.fleet.directories.following import Followed, following

ONE, TWO, THREE = (Instance(address=f"10.0.0.{number}:9000") for number in (1, 2, 3))


class Told:
    """A kind whose list a test sets: instances, or an exception."""

    Options: ClassVar[type[DirectoryOptions]] = DirectoryOptions

    def __init__(self, *instances: Instance) -> None:
        self.found: Iterable[Instance] | Exception = instances
        self.is_new = asyncio.Event()
        self.is_away = ""
        self.reads = 0
        self.is_open = True
        self.garbage: tuple[str, ...] = ()

    def set(self, *instances: Instance) -> None:
        self.found = instances
        self.is_new.set()

    def fail(self, error: Exception) -> None:
        self.found = error
        self.is_new.set()

    def lookup(self, service: str, complain: Complain) -> "Told":
        self.complain = complain
        return self

    async def read(self) -> Iterable[Instance]:
        self.is_new.clear()
        self.reads += 1
        for entry in self.garbage:
            self.complain(entry, "it is garbage")
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    async def changed(self) -> bool:
        try:
            async with asyncio.timeout(0.01):
                await self.is_new.wait()
        except TimeoutError:
            if self.is_away:
                raise Away(self.is_away) from None
            return False
        return True

    def problem_of(self, service: str) -> str:
        return ""

    async def close(self) -> None:
        self.is_open = False


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_AGAIN", (0.01, 0.01))


def told_by(kind: Told, **options: float | str) -> WatchedDirectory:
    return WatchedDirectory("list", DirectoryOptions(kind="told", **options), kind)  # type: ignore[arg-type]


def test_changes_are_collected_sorted_and_compared(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> tuple[Told, Followed]:
        kind = Told(TWO, ONE)
        async with following(told_by(kind), "stock") as followed:
            await followed.until(lambda: followed.lists)
            for _ in range(20):  # all within less than the time for which changes are collected
                kind.set(ONE, THREE)
                await asyncio.sleep(0.001)
            kind.set(THREE, TWO, ONE)
            await followed.until(lambda: len(followed.lists) == 2)
            kind.set(ONE, TWO, THREE, THREE)  # the same list in another order
            reads = kind.reads
            await followed.until(lambda: kind.reads > reads)
            await asyncio.sleep(0)
        return kind, followed

    kind, followed = asyncio.run(main())
    assert followed.lists == [(ONE, TWO), (ONE, TWO, THREE)]
    assert kind.reads <= 4
    assert not kind.is_open
    assert [record.getMessage() for record in caplog.records] == [
        "directory list: stock: +2 -0 = 2",
        "directory list: stock: +1 -0 = 3",
    ]


def test_of_an_instance_that_is_listed_twice_the_last_life_counts() -> None:
    lives = [Instance(address="10.0.0.1:9000", started=started, weight=int(started)) for started in (2.0, 3.0, 1.0)]
    other = Instance(address="10.0.0.1:9000", version="2")

    async def main() -> Followed:
        async with following(told_by(Told(*lives, other))) as followed:
            await followed.until(lambda: followed.lists)
        return followed

    assert asyncio.run(main()).lists == [(lives[1], other)]


def test_an_empty_list_is_believed_after_a_while(logged: Logged) -> None:
    async def main() -> Followed:
        kind = Told(ONE, TWO)
        async with following(told_by(kind, keep_empty=0.4)) as followed:
            await followed.until(lambda: followed.lists)
            kind.set()
            await followed.until(lambda: followed.status.state == "stale")
            assert followed.status.error == "it lists no instances"
            age = followed.status.read
            kind.set(ONE)
            await followed.until(lambda: len(followed.lists) == 2)
            assert followed.status.state == "up"
            kind.set()
            await followed.until(lambda: followed.status.state == "stale")
            assert followed.status.read != age
            kind.set()
            await followed.until(lambda: len(followed.lists) == 3)
            assert followed.status.state == "up"
        return followed

    assert asyncio.run(main()).lists == [(ONE, TWO), (ONE,), ()]
    assert logged.take("WARNING") == [
        "WARNING gateway.directories directory list: it lists no instances; the last 2 are used for another 0.4 s",
        "WARNING gateway.directories directory list: it lists no instances; the last 1 are used for another 0.4 s",
        "WARNING gateway.directories directory list: it has listed no instances for 0.4 s: there are none",
    ]


def test_an_empty_list_that_is_not_kept_and_one_at_the_start() -> None:
    async def main() -> Followed:
        kind = Told()
        async with following(told_by(kind, keep_empty=0)) as followed:
            await followed.until(lambda: followed.lists)
            kind.set(ONE)
            await followed.until(lambda: len(followed.lists) == 2)
            kind.set()
            await followed.until(lambda: len(followed.lists) == 3)
        return followed

    assert asyncio.run(main()).lists == [(), (ONE,), ()]


def test_a_directory_that_is_away_changes_nothing(logged: Logged, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def main() -> Followed:
        kind = Told(ONE)
        kind.found = Away("nobody there")
        async with following(told_by(kind)) as followed:
            await followed.until(lambda: followed.status.error == "nobody there")
            assert (followed.status.state, followed.status.read) == ("empty", None)
            kind.set(ONE)
            await followed.until(lambda: followed.status.state == "up")
            kind.is_away = "gone again"
            kind.fail(Away("gone again"))
            await followed.until(lambda: followed.status.state == "stale")
            read = followed.status.read
            await followed.until(lambda: kind.reads > 10)  # it is asked again, and its age grows
            assert followed.status.read == read
            kind.is_away = ""
            kind.set(ONE)
            await followed.until(lambda: followed.status.state == "up")
        return followed

    assert asyncio.run(main()).lists == [(ONE,)]
    assert logged.take("it is away") == [
        "WARNING gateway.directories directory list: it is away: nobody there; there is no list yet",
        "WARNING gateway.directories directory list: it is away: gone again; the last list of 1 is used",
    ]
    assert [record.getMessage() for record in caplog.records if "again" in record.getMessage()][-1:] == [
        "directory list: it is read again"
    ]


def test_an_empty_list_is_not_believed_while_nothing_is_told(logged: Logged) -> None:
    async def main() -> Followed:
        kind = Told(ONE)
        async with following(told_by(kind, keep_empty=0.4)) as followed:
            await followed.until(lambda: followed.lists)
            kind.set()
            await followed.until(lambda: followed.status.state == "stale")
            read = followed.status.read
            await asyncio.sleep(0.1)  # it is confirmed several times that there are none
            assert followed.status.read == read
            kind.fail(Away("gone"))
            await followed.until(lambda: followed.status.error == "gone")
            await asyncio.sleep(0.5)
        return followed

    assert asyncio.run(main()).lists == [(ONE,)]
    assert len(logged.take("directory list")) == 2


def test_what_cannot_be_read_or_written_is_logged_once(tmp_path: Path, logged: Logged) -> None:
    async def main() -> None:
        kind = Told(ONE)
        kind.garbage = ("a",)
        async with following(told_by(kind, cache=str(tmp_path / "none"))) as followed:
            await followed.until(lambda: followed.lists)
            kind.set(TWO)
            await followed.until(lambda: len(followed.lists) == 2)

    asyncio.run(main())
    assert len(logged.take("it is garbage")) == 1
    assert logged.take("cannot be written") == [
        "WARNING gateway.directories directory list: the cache cannot be written: no such file or directory"
    ]


def test_a_mistake_of_ours_is_logged_once_and_harms_nobody(logged: Logged) -> None:
    async def main() -> None:
        kind = Told(ONE)
        kind.found = RuntimeError("a bug")
        async with following(told_by(kind)) as followed:
            await followed.until(lambda: kind.reads > 3)
            kind.set(ONE)
            await followed.until(lambda: followed.addresses)

    asyncio.run(main())
    assert len(logged.take("it cannot be read\nTraceback")) == 1


def test_entries_that_cannot_be_read_are_logged_once(logged: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_MOST_COMPLAINTS", 3)

    async def main() -> None:
        kind = Told(ONE)
        kind.garbage = ("a" * 300, "b", "c", "d")
        async with following(told_by(kind)) as followed:
            await followed.until(lambda: followed.addresses)
            kind.set(TWO)
            await followed.until(lambda: kind.reads > 1)

    asyncio.run(main())
    assert [len(line) < 300 for line in logged.take("it is garbage")] == [True] * 3


def test_the_last_list_is_kept_on_disk(tmp_path: Path, logged: Logged) -> None:
    options = {"cache": str(tmp_path)}
    full = Instance(
        address="10.0.0.9:1", scheme="tri", server_name="a", weight=0, version="1", started=5.5, labels={"a": "b"}
    )

    async def first() -> None:
        async with following(told_by(Told(ONE, full), **options), "a/b") as followed:
            await followed.until(lambda: followed.lists)

    async def second() -> Followed:
        kind = Told()
        kind.found = Away("down")
        async with following(told_by(kind, **options), "a/b") as followed:
            assert followed.lists == [(ONE, full)]  # at once
            assert followed.status.state == "stale"
            assert followed.status.read is not None
            assert 0 <= time.monotonic() - followed.status.read < 20
            await followed.until(lambda: followed.status.error == "down")
            assert (followed.status.state, followed.directory.status) == ("stale", followed.status)
            kind.set(ONE, full)
            await followed.until(lambda: followed.status.state == "up")
        return followed

    asyncio.run(first())
    assert [file.name for file in tmp_path.iterdir()] == ["list a%2Fb.json"]
    assert len(asyncio.run(second()).lists) == 1
    logged.take("the last list of 2 is used")
    next(tmp_path.iterdir()).write_bytes(b'[{"address"')
    asyncio.run(first())
    assert len(logged.take("the cached list cannot be read")) == 1
    (tmp_path / "list a%2Fb.json").unlink()
    (tmp_path / "list a%2Fb.json").mkdir()
    asyncio.run(first())
    assert len(logged.take("directory")) == 2  # neither read nor written


def test_two_who_watch_one_service_share_its_list() -> None:
    async def main() -> None:
        kind = Told(ONE)
        watched = told_by(kind)
        assert watched.status is None
        async with following(watched, "stock") as followed:
            await followed.until(lambda: followed.lists)
            others: list[object] = []
            second = watched.watch("stock", others.append)
            assert (others, kind.reads) == ([(ONE,)], 1)
            await second.close()
            await second.close()
            kind.set(TWO)
            await followed.until(lambda: len(followed.lists) == 2)
            assert len(others) == 1
            await followed.watch.close()
            kind.set(THREE)
            await asyncio.sleep(0.3)
            assert len(followed.lists) == 2
            assert watched.status is None

    asyncio.run(main())


def test_of_several_lists_the_worst_is_the_state_of_the_directory(logged: Logged) -> None:
    async def main() -> None:
        kind = Told(ONE)
        watched = told_by(kind)
        async with following(watched, "a") as followed:
            await followed.until(lambda: followed.lists)
            kind.found = Away("not this one")
            watched.watch("b", lambda _: None)
            await followed.until(lambda: watched.status is not None and watched.status.error)
            assert watched.status is not None
            assert (watched.status.state, watched.status.error) == ("empty", "not this one")
            assert watched.status.read is not None

    asyncio.run(main())
    logged.take("it is away")
