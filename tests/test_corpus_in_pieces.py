"""The small cases of the corpus, byte by byte, and split in two at every position."""

from typing import Any

import pytest

from tests.conftest import Logged
from tests.raw_http import Wire, request
from tests.serving import Server
from tests.test_corpus import SMALL, body_of, check, named

pytestmark = pytest.mark.unmeasured


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
    if case["expect"].get("class") == "timeout" or case["id"] == "jv-071":
        positions = range(1)  # each would take the two seconds of its deadline
    else:
        positions = range(len(body_of(case)))
    sent, body = case["request"], body_of(case)
    head = request(sent["path"], sent["headers"], body)[: -len(body) or None]
    with Wire(corpus_server.port) as wire:
        for position in positions:
            wire.send(head + body[:position])
            wire.send(body[position:])
            check(case, wire.read())
    logged.take("secret-internal-detail")
    logged.take("cannot be encoded as")
