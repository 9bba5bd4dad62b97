"""The small cases of the corpus, byte by byte, and split in two at every position; raw ones with their heads.

A case is not split behind bytes that a case before it begins with, too: what the server has read by then is the same.
"""

from contextlib import suppress
from typing import Any

import pytest

from tests.conftest import Logged
from tests.raw_http import Wire, request
from tests.serving import Server
from tests.test_corpus import RAW, SMALL, body_of, check, named, raw_bytes

SPLIT: set[tuple[Any, ...]] = set()  # headers, and what is sent first
pytestmark = [pytest.mark.unmeasured, pytest.mark.slow]


@pytest.mark.parametrize("case", SMALL, ids=named)
def test_case_byte_by_byte(case: dict[str, Any], corpus_server: Server, logged: Logged) -> None:
    sent, body = case["request"], body_of(case)
    head = request(sent["path"], sent["headers"], body)[: -len(body) or None]
    with Wire(corpus_server.port) as wire:
        wire.send(head)
        wire.send_slowly(body[i : i + 1] for i in range(len(body)))
        check(case, wire.read())
    logged.take("secret-internal-detail")
    logged.take("cannot be encoded as")


@pytest.mark.parametrize("case", SMALL, ids=named)
def test_case_split_at_every_position(case: dict[str, Any], corpus_server: Server, logged: Logged) -> None:
    sent, body = case["request"], body_of(case)
    if case["expect"].get("class") == "timeout" or case["id"] == "jv-071":
        positions = [0]  # each would take the two seconds of its deadline
    else:
        positions = [end for end in range(len(body)) if (*map(tuple, sent["headers"]), body[:end]) not in SPLIT] or [0]
        SPLIT.update((*map(tuple, sent["headers"]), body[:end]) for end in positions)
    head = request(sent["path"], sent["headers"], body)[: -len(body) or None]
    with Wire(corpus_server.port) as wire:
        for position in positions:
            wire.send(head + body[:position])
            wire.send(body[position:])
            check(case, wire.read())
    logged.take("secret-internal-detail")
    logged.take("cannot be encoded as")


@pytest.mark.parametrize("case", [case for case in RAW if len(raw_bytes(case) or b"") < 250], ids=named)
@pytest.mark.parametrize("step", [1, 7])
def test_raw_case_in_pieces(step: int, case: dict[str, Any], corpus_server: Server) -> None:
    data = raw_bytes(case) or b""
    with Wire(corpus_server.port) as wire:
        with suppress(ConnectionError):  # it is refused before all of it is sent
            wire.send_slowly(data[start : start + step] for start in range(0, len(data), step))
        response = wire.read()
        if case.get("expect_interim"):
            response = wire.read()
        check(case, response)
        if case["expect"].get("close"):
            assert wire.is_closed()
