"""How soon a worker is replaced, what it has written down for its supervisor, and when it is taken to hang."""

import select
import socket
import time
from collections.abc import Iterator

import pytest

from gateway.process.control import START, Generation
from gateway.process.record import WorkerRecord
from gateway.process.watchdog import Watchdog, state
from gateway.process.worker import Pace, UnreadableReportError, Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    """Make a worker of a generation that does nothing, and whose process does not exist."""
    generation = Generation(
        workers=1,
        work=lambda _: 0,
        listeners=(),
        grace=0,
        drain=0,
        watchdog=4,
        ended=lambda _: None,
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        made = Worker(0, 0, generation, ours, WorkerRecord())
        yield made
        made.record.close()


def test_what_never_serves_is_tried_more_and_more_slowly_for_ever(worker: Worker) -> None:
    pace = Pace()
    pauses = [pace.pause(worker) for _ in range(2000)]
    assert pauses[:9] == [0.0, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6]
    assert set(pauses[9:]) == {30.0}


def test_what_serves_before_it_ends_waits_for_a_second_at_most(worker: Worker) -> None:
    worker.record.running.place("add")
    worker.send(START)
    pace = Pace()
    assert [pace.pause(worker) for _ in range(6)] == [0.0, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_what_has_served_for_a_while_or_is_ended_by_a_method_is_replaced_at_once(worker: Worker) -> None:
    pace = Pace()
    place = worker.record.running.place("add")
    worker.send(START)
    worker.record.running.counts[place] = 1
    assert [pace.pause(worker) for _ in range(3)] == [0.0] * 3
    worker.record.running.counts[place] = 0
    assert [pace.pause(worker) for _ in range(2)] == [0.2, 0.4]
    worker.started_at = time.monotonic() - 10
    assert pace.pause(worker) == 0.0


def test_each_slot_waits_for_itself(worker: Worker) -> None:
    pace = Pace()
    assert [pace.pause(worker) for _ in range(3)] == [0.0, 0.2, 0.4]
    worker.slot = 1
    assert pace.pause(worker) == 0.0


def test_a_record_names_the_methods_that_run(worker: Worker) -> None:
    record = worker.record
    assert (record.methods(), record.has_served()) == ("", False)
    places = [record.running.place(f"m{number}") for number in range(300)]
    assert (record.methods(), record.has_served()) == ("", True)
    record.running.counts[places[0]] += 1
    record.running.counts[places[1]] += 2
    record.running.counts[places[299]] += 1
    assert record.methods() == "m0, m1 (2 calls), others"
    assert worker.end_of(-9) == "was killed by signal 9 while it ran m0, m1 (2 calls), others"
    for place in places[:10]:
        record.running.counts[place] = 1
    assert record.methods() == "m0, m1, m2, m3, m4, ..."


def test_a_report_without_an_end_is_not_read_for_ever(worker: Worker) -> None:
    far, near = socket.socketpair()
    with far, near:
        worker.link = near
        near.settimeout(0)
        assert worker.read(), "nothing has come, and the link is open"
        assert worker.report() is None
        far.settimeout(0)
        with pytest.raises(UnreadableReportError):  # noqa: PT012 - at some size
            for _ in range(100):
                far.send(b"x" * 50_000)
                while select.select([near], [], [], 0)[0]:
                    worker.read()
                worker.report()


def test_a_name_that_is_too_long_is_cut(worker: Worker) -> None:
    running = worker.record.running
    running.counts[running.place("\u00e4" * 100)] = 1
    running.counts[running.place("next")] = 1
    assert worker.record.methods() == "\u00e4" * 60 + ", next"


def test_a_worker_hangs_when_its_loop_has_not_run_at_four_looks() -> None:
    record = WorkerRecord()
    dog = Watchdog(record, 4)
    assert not dog.hangs(1e9), "it looks before it is started"
    dog.start(100)
    assert dog.due == 101
    assert [dog.hangs(now) for now in (100.5, 101, 102, 102.5, 103)] == [False] * 5
    record.beat()
    assert [dog.hangs(now) for now in (104, 105, 106, 107)] == [False] * 4
    assert dog.hangs(108)
    assert not dog.hangs(1e9), "it tells twice"
    record.close()


def test_where_the_supervisor_itself_was_stopped_nobody_hangs() -> None:
    record = WorkerRecord()
    dog = Watchdog(record, 4)
    dog.start(100)
    assert [dog.hangs(now) for now in (101, 5000, 5000.5, 5001)] == [False] * 4
    record.beat()
    assert not dog.hangs(5002)
    record.close()


def test_without_a_time_nobody_hangs() -> None:
    record = WorkerRecord()
    dog = Watchdog(record, 0)
    dog.start(100)
    assert dog.due == float("inf")
    record.close()


def test_the_state_of_a_process_that_is_gone_or_runs_is_nothing_special() -> None:
    assert state(2**22 + 1) == state(1) == ""
