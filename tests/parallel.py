"""Run the tests in several processes, which are forks of one that has collected them.

    pytest -p tests.parallel --processes 4

Collecting thousands of tests takes as long as running hundreds of them, and pytest-xdist does it again in each process.
Here the processes have the tests from the start. Each takes the next file, in the order of collection, when it has
finished one: a file's tests stay together, with the fixtures that they share.
"""

import os
import signal
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, NoReturn

import coverage
import pytest
from msgspec import Struct

_FILE = 2  # bytes of a file's number in the queue, a pipe, of which each read takes one number


class Worker(Struct, eq=False):
    """A process that runs tests: what it has sent is read from its connection, until that ends."""

    process: int
    connection: "Connection[Any, Any]"
    running: str = ""  # the id of the test that has begun
    finished: bool = False


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the number of processes."""
    parser.addoption("--processes", type=int, default=0, help="run the tests in so many processes, file by file")


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the tests in processes, if a number of them is given."""
    number = session.config.getoption("processes")
    if not number or session.testsfailed or session.config.option.collectonly:
        return None
    files: dict[Path, list[pytest.Item]] = {}
    for item in session.items:
        files.setdefault(item.path, []).append(item)
    queue, filled = os.pipe()
    os.write(filled, b"".join(each.to_bytes(_FILE) for each in range(len(files))))
    os.close(filled)
    base = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    workers: list[Worker] = []
    for each in range(number):
        theirs, ours = Pipe(duplex=False)
        process = os.fork()
        if not process:
            for other in workers:
                other.connection.close()
            theirs.close()
            _work(session, [*files.values()], queue, ours, base / f"worker{each}")
        ours.close()
        workers.append(Worker(process, theirs))
    os.close(queue)
    try:
        _listen(session, workers)
    finally:
        for worker in workers:
            if not worker.finished:
                os.kill(worker.process, signal.SIGINT)
            os.waitpid(worker.process, 0)
    return True


def _listen(session: pytest.Session, workers: list[Worker]) -> None:
    """Hand on what workers report, until all have ended, or a test has failed and the rest is not wanted."""
    left = {worker.connection: worker for worker in workers}
    while left:
        for worker in [left[each] for each in wait([*left])]:  # type: ignore[index]
            try:
                what, data = worker.connection.recv()
            except EOFError:
                del left[worker.connection]
                if not worker.finished:
                    raise pytest.UsageError(f"a process ended in {worker.running or 'no test'}") from None
            else:
                _hand_on(session.config, worker, what, data)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)


def _hand_on(config: pytest.Config, worker: Worker, what: str, data: Any) -> None:
    match what:
        case "start":
            worker.running = data[0]
            config.hook.pytest_runtest_logstart(nodeid=data[0], location=data[1])
        case "report":
            report = config.hook.pytest_report_from_serializable(config=config, data=data)
            config.hook.pytest_runtest_logreport(report=report)
        case "finish":
            config.hook.pytest_runtest_logfinish(nodeid=data[0], location=data[1])
        case "error":
            raise pytest.UsageError(data)
        case "end":
            worker.finished = True


class Reporter:
    """Takes the place of the terminal in a worker."""

    def __init__(self, config: pytest.Config, connection: "Connection[Any, Any]") -> None:
        self.config = config
        self.connection = connection

    def pytest_runtest_logstart(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self.connection.send(("start", (nodeid, location)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        self.connection.send(("report", data))

    def pytest_runtest_logfinish(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self.connection.send(("finish", (nodeid, location)))


def _work(
    session: pytest.Session, files: list[list[pytest.Item]], queue: int, connection: "Connection[Any, Any]", base: Path
) -> NoReturn:
    config = session.config
    measuring = coverage.Coverage.current()
    try:
        capturing = config.pluginmanager.getplugin("capturemanager")
        capturing.stop_global_capturing()  # its files are the parent's
        capturing.start_global_capturing()
        config._tmp_path_factory._basetemp = base  # type: ignore[attr-defined]
        base.mkdir()
        config.pluginmanager.unregister(name="terminalreporter")
        config.pluginmanager.register(Reporter(config, connection))
        items = _taken(files, queue)
        item = next(items, None)
        while item is not None:
            following = next(items, None)
            config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            item = following
        if measuring is not None:
            measuring.stop()
            measuring.save()
        connection.send(("end", None))
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal the parent has got it, too, and sends it again
        session._setupstate.teardown_exact(None)  # it ends the servers that tests have started
    except BaseException:  # noqa: BLE001 - whatever it is, what comes after the fork is the parent's
        connection.send(("error", traceback.format_exc()))
    finally:
        os._exit(0)


def _taken(files: list[list[pytest.Item]], queue: int) -> Iterator[pytest.Item]:
    while number := os.read(queue, _FILE):
        yield from files[int.from_bytes(number)]
