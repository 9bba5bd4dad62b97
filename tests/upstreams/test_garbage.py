"""Servers that send nonsense, or send without an end, the same for every kind of upstream: each is a fault."""

from pathlib import Path

import pytest

from tests.conftest import Logged
from tests.upstreams.kinds import KINDS, TYPED, Kind
from tests.upstreams.running import broken, serve_upstream

pytestmark = pytest.mark.unmeasured

BAD = -32004
SMALL = {"limits.max_reply": 65536}
every_kind = pytest.mark.parametrize("kind", [*KINDS, *TYPED], ids=lambda kind: kind.name)


@every_kind
def test_garbage(kind: Kind, tmp_path: Path, logged: Logged) -> None:
    for number, answer in enumerate(kind.garbage):
        folder = tmp_path / str(number)
        folder.mkdir()
        more = kind.named if "methods" not in kind.options else ""
        with (
            broken(answer, greeting=kind.greeting, cue=kind.cue) as port,
            serve_upstream(kind, port, folder, more) as up,
        ):
            for _ in range(2):
                code, sent = up.fault("add", 1, 2)
                assert (code, sent is None) == (BAD, False), answer
    assert logged.take("upstream up: ")
    logged.take("is down")


@every_kind
def test_too_much(kind: Kind, tmp_path: Path, logged: Logged) -> None:
    more = kind.named if "methods" not in kind.options else ""
    with (
        broken(*kind.endless, greeting=kind.greeting, cue=kind.cue) as port,
        serve_upstream(kind, port, tmp_path, more, SMALL) as up,
    ):
        for _ in range(3):
            assert up.fault("add", 1, 2) == (BAD, "maybe")
    assert len(logged.take("upstream up: ")) == 3
