"""The corpus through each framework on a real server: DIFFERENT says what those make of cases themselves, and why.

All cases are played in one go, on few connections.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests import corpus_methods
from tests.conftest import CORPUS_SETTINGS, Logged
from tests.deploy.test_uwsgi import edge_cases
from tests.hosts.mounting import MOUNTS, Mounted, endpoint_of, served
from tests.raw_http import Response, Wire, request
from tests.test_corpus import PLAIN, RAW, body_of, check, raw_bytes

pytestmark = pytest.mark.unmeasured

Differences = dict[str, tuple[int | None, str]]  # a case -> the status, None without a response; why

UNFINISHED: Differences = {
    "h-162": (None, "what follows the last chunk may be a trailer, whose end is waited for"),
    "h-192": (None, "how large a chunk will be is not told, so what has come of it is not too large yet"),
}
VERSION: Differences = {"h-173": (200, "any version is taken")}
CLOSED: Differences = {
    "h-187": (400, "what follows a request is looked at before its response is written, and is no request"),
    "h-198": (400, "what follows a request is looked at before its response is written, and is no request"),
}
LINES: Differences = {
    "h-157": (None, "the end of the line with a chunk's size is waited for"),
    "h-159": (None, "the end of the line with a chunk's size is waited for"),
}
CODINGS: Differences = {
    "h-148": (501, "a Transfer-Encoding that is not known is refused with 501"),
    "h-149": (501, "a Transfer-Encoding that is not known is refused with 501"),
    "h-151": (501, "a Transfer-Encoding that is not known is refused with 501"),
}
UNPACKED: Differences = {
    "h-059": (200, "aiohttp unpacks the body, and takes one that is cut short for whole"),
    "h-060": (200, "aiohttp unpacks the body, and takes one that is cut short for whole"),
}
READ: Differences = {"h-193": (100, "100 Continue is sent before the application is called")}
WAITRESS: Differences = {
    "h-133": (200, "waitress takes the chunks, and hands over neither of the two headers"),
    "h-145": (200, "waitress hands over no Transfer-Encoding"),
    "h-146": (200, "waitress hands over no Transfer-Encoding"),
    "h-156": (None, "waitress waits for the rest of the chunk"),
    "h-174": (405, "waitress takes any version"),
    "h-186": (None, "after bare line feeds, waitress waits for the head to end"),
    "h-202": (200, "waitress makes one slash of two"),
}
UVICORN = UNFINISHED | VERSION | CLOSED
DIFFERENT: dict[str, Differences] = {
    "uvicorn": UVICORN,
    "hypercorn": UNFINISHED
    | VERSION
    | LINES
    | CODINGS
    | READ
    | {
        "xv-187": (400, "an empty line before the request is taken for the request line"),
        "h-145": (501, "two Transfer-Encodings are refused with 501"),
        "h-146": (501, "a Transfer-Encoding that is not known is refused with 501"),
        "h-208": (200, "the method is put in capitals"),
    },
    "tornado": {},
    "tornado, router": {},
    "aiohttp": UVICORN | UNPACKED,
    "aiohttp, packed": UVICORN,
    "django": UNFINISHED | VERSION | LINES | CODINGS | READ | WAITRESS,
    "django, async": UVICORN | READ,
}


@pytest.fixture(scope="module", params=DIFFERENT)
def mounted(request: pytest.FixtureRequest) -> Iterator[tuple[str, Mounted]]:
    with served(MOUNTS[request.param](endpoint_of(corpus_methods.registry, CORPUS_SETTINGS))) as running:
        yield request.param, running


def test_the_corpus(mounted: tuple[str, Mounted], logged: Logged) -> None:
    name, running = mounted
    different = DIFFERENT[name]
    silent = [case for case in RAW if different.get(case["id"], (0, ""))[0] in (None, 100)]
    slow = [case for case in PLAIN if case["expect"].get("class") == "timeout" or case["id"] == "jv-071"]
    with ThreadPoolExecutor(len(silent + slow)) as pool:
        unanswered = pool.map(lambda case: problem_of(case, running.port, 1), silent)
        late = pool.map(lambda case: problem_of(case, running.port, 20), slow)
        problems = {case["id"]: problem_of(case, running.port, 20) for case in RAW if case not in silent}
        problems |= in_turn([case for case in PLAIN if case not in slow], running.port)
        for cases, found in ((silent, unanswered), (slow, late)):
            problems |= {case["id"]: problem for case, problem in zip(cases, found, strict=True)}
    told = {case: problem for case, problem in problems.items() if problem is not None}
    assert {case: status for case, (status, _) in told.items()} == {
        case: status for case, (status, _) in different.items()
    }, told
    logged.lines.clear()  # what methods and servers have to say of such requests


@pytest.mark.parametrize("name", DIFFERENT)
def test_the_cases_of_proxies_and_networks(name: str) -> None:
    """127.0.0.9 stands for all peers that are neither trusted nor allowed."""
    settings = {**CORPUS_SETTINGS, "access.trusted_proxies": "127.0.0.1", "access.allow": "10.0.0.0/8"}
    cases = edge_cases("allowlist")
    assert cases
    with served(MOUNTS[name](endpoint_of(corpus_methods.registry, settings))) as running:
        for case in cases:
            source = "127.0.0.1" if case["peer"] == "127.0.0.1" else "127.0.0.9"
            assert problem_of(case, running.port, 20, source) is None, case["id"]


def problem_of(
    case: dict[str, Any], port: int, timeout: float, source: str = "127.0.0.1"
) -> tuple[int | None, str] | None:
    """Play a case on a connection of its own; return the status and what is wrong with it, None where nothing is."""
    sent = case.get("request", {})
    data = raw_bytes(case) or request(sent["path"], sent["headers"], body_of(case), sent["method"])
    with Wire(port, timeout, source=source) as wire:
        return judged(case, wire, data)


def in_turn(cases: list[dict[str, Any]], port: int) -> dict[str, tuple[int | None, str] | None]:
    """Play cases on one connection for as long as it lasts."""
    problems: dict[str, tuple[int | None, str] | None] = {}
    left = iter(cases)
    case = next(left, None)
    while case is not None:
        with Wire(port, 20) as wire:
            kept = True
            while case is not None and kept:
                sent = case["request"]
                data = request(sent["path"], sent["headers"], body_of(case), sent["method"])
                problems[case["id"]] = judged(case, wire, data)
                kept = case["expect"]["http"] == 200 and problems[case["id"]] is None
                case = next(left, None)
    return problems


def judged(case: dict[str, Any], wire: Wire, data: bytes) -> tuple[int | None, str] | None:
    response: Response | None = None
    try:
        wire.send(data)
        response = wire.read(head=data.startswith(b"HEAD"))
        if response is not None and response.status == 100 and "forbid_interim" not in case:
            response = wire.read()
        check(case, response)
    except (AssertionError, OSError, UnicodeDecodeError, KeyError) as error:
        return None if response is None else response.status, repr(error)[:300]
    return None
