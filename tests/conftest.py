"""What every test keeps to: no unexpected line in the log, and real sockets; and which tests are measured."""

import gc
import importlib
import logging
import os
import pkgutil
import signal
from collections.abc import Iterator
from contextlib import suppress

import coverage
import pytest

import gateway
from tests import corpus_methods
from tests.serving import Server, serving

_MEASURES = "COVERAGE_PROCESS_CONFIG"  # by which the programs that tests start are measured
_MEASURED = os.environ.get(_MEASURES)
_STOPPED: list[coverage.Coverage] = []
CORPUS_SETTINGS = {"limits.timeout": 2, "limits.max_depth": 64, "limits.max_batch": 100}


def pytest_configure() -> None:
    """Take SIGINT again, for the programs that tests start: what a shell starts in the background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that are not measured behind all others: when the first of them comes, measuring ends.

    Of these the slow ones come first, or one of them would be left at the end, with nothing beside it. A file is
    measured or not as a whole: it runs in one process, in which measuring does not begin again.

    Raises:
        pytest.UsageError: the mark is at a test and not at its file.

    """
    for item in items:
        if any(mark.name == "unmeasured" for mark in item.own_markers):
            raise pytest.UsageError(f"{item.nodeid}: write pytestmark = pytest.mark.unmeasured for the whole file")
    items.sort(key=lambda item: (_is_unmeasured(item), item.get_closest_marker("slow") is None))


def pytest_collection() -> None:
    """Collect thousands of tests without what makes it slow: the garbage collector, and measuring.

    What is measured of collecting are the modules of the gateway, so all are imported before.
    """
    gc.disable()
    for module in pkgutil.walk_packages(gateway.__path__, "gateway."):
        if module.name not in {"gateway.__main__", "gateway.wsgi"}:  # they start something
            with suppress(ImportError):
                importlib.import_module(module.name)
    while (measuring := coverage.Coverage.current()) is not None:
        measuring.stop()
        _STOPPED.append(measuring)


def pytest_collection_finish() -> None:
    """Measure from here on, and have the garbage collector leave alone what stays until the end, as the tests do."""
    while _STOPPED:
        _STOPPED.pop().start()
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Measure coverage where it finds what it does not find elsewhere: it takes longer than many a test.

    Starting the gateway takes twice as long where it is measured, and tests start it hundreds of times. So only the
    processes of tests that are marked for it are.
    """
    while _is_unmeasured(item) and (measuring := coverage.Coverage.current()) is not None:
        measuring.stop()  # another one is below it where this process is one of several that pytest has started
    if _MEASURED is not None and item.get_closest_marker("processes") is not None:
        os.environ[_MEASURES] = _MEASURED
    else:
        os.environ.pop(_MEASURES, None)


def _is_unmeasured(item: pytest.Item) -> bool:
    return item.get_closest_marker("unmeasured") is not None


class Logged(logging.Handler):
    """The lines of warning and above that a test has caused and not yet taken."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "asyncio" and "PollerCompletionQueue._handle_events" in record.getMessage():
            return  # grpc has one descriptor for all loops, of which only tests have several (grpc issue 25364)
        self.lines.append(logging.Formatter("%(levelname)s %(name)s %(message)s").format(record))

    def take(self, part: str) -> list[str]:
        """Take out the lines that have a part, because the test expects them."""
        taken = [line for line in self.lines if part in line]
        self.lines = [line for line in self.lines if part not in line]
        return taken


@pytest.fixture(autouse=True)
def logged() -> Iterator[Logged]:
    """Fail a test that leaves a warning or an error in the log, and leave the log's configuration as it was."""
    handler, root = Logged(), logging.getLogger()
    handlers, level = root.handlers.copy(), root.level
    root.addHandler(handler)
    yield handler
    root.handlers[:] = handlers
    root.setLevel(level)
    assert handler.lines == [], "unexpected lines in the log"


@pytest.fixture(scope="session")
def corpus_server() -> Iterator[Server]:
    """Serve the corpus' methods as its README says."""
    with serving(corpus_methods.registry, CORPUS_SETTINGS) as server:
        yield server


@pytest.fixture
def only_new() -> None:
    """Let the garbage collector see only what the test makes: there is much else where all tests run in one process."""
    gc.collect()
    gc.freeze()
