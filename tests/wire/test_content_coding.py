"""Content codings: what is unpacked, within which bound, and which coding an answer has."""

import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from gateway.model.faults import RequestTooLarge
from gateway.wire.content_coding import CorruptBodyError, chosen, is_known, pack, unpack

pytestmark = pytest.mark.unmeasured

LIMIT = 2**20
NOISE = Random(1).randbytes(20_000)  # does not compress, and so has several pieces
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
}
CODINGS = pytest.mark.parametrize("coding", PACKERS)


@CODINGS
@pytest.mark.parametrize("body", [b"", b"a", b"a" * LIMIT, NOISE], ids=["nothing", "one", "limit", "noise"])
def test_a_body_is_unpacked(coding: str, body: bytes) -> None:
    assert unpack(PACKERS[coding](body), coding, LIMIT) == body


@CODINGS
@pytest.mark.parametrize("size", [1, 100, 4095, 4096, 4097, 8192])
def test_members_one_after_the_other_are_joined(coding: str, size: int) -> None:
    parts = [NOISE[start : start + size] for start in range(0, len(NOISE), size)]
    assert unpack(b"".join(map(PACKERS[coding], parts)), coding, LIMIT) == NOISE


def test_a_mebibyte_of_empty_members_is_nothing() -> None:
    assert unpack(gzip.compress(b"") * (LIMIT // 20), "gzip", LIMIT) == b""


def test_a_member_costs_no_more_than_a_piece_of_what_follows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zlib copies the bytes behind a member: given the whole rest each time, many members take quadratic time."""
    given: list[int] = []

    class Counting:
        def __init__(self, wbits: int) -> None:
            self._member = decompressobj(wbits)

        def decompress(self, data: bytes, most: int) -> bytes:
            given.append(len(data))
            return self._member.decompress(data, most)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._member, name)

    decompressobj = zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", Counting)
    members = 5000
    assert unpack(gzip.compress(b"") * members, "gzip", LIMIT) == b""
    assert sum(given) <= members * 4096


@pytest.mark.parametrize("coding", ["", "identity"])
def test_what_is_not_packed_stays_as_it_is(coding: str) -> None:
    assert unpack(NOISE, coding, 1) is NOISE
    assert unpack(b"", "gzip", 1) == b""


@CODINGS
def test_a_body_is_refused_with_the_first_byte_over_the_limit(coding: str) -> None:
    packed = PACKERS[coding](b"a" * LIMIT) + PACKERS[coding](b"a")
    assert len(unpack(packed, coding, LIMIT + 1)) == LIMIT + 1
    with pytest.raises(RequestTooLarge, match="at most 1048576 bytes, also after unpacking"):
        unpack(packed, coding, LIMIT)


@CODINGS
def test_a_bomb_is_never_held_whole(coding: str) -> None:
    bomb = PACKERS[coding](bytes(64 * LIMIT))
    tracemalloc.start()
    try:
        with pytest.raises(RequestTooLarge):
            unpack(bomb, coding, LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 8 * LIMIT
    finally:
        tracemalloc.stop()


@CODINGS
def test_a_body_that_is_cut_short_anywhere_is_corrupt(coding: str) -> None:
    packed = PACKERS[coding](NOISE[:100])
    for end in range(1, len(packed)):
        with pytest.raises(CorruptBodyError, match="it is cut short"):
            unpack(packed[:end], coding, LIMIT)


@CODINGS
@pytest.mark.parametrize("behind", [b"\0", b"x", b"\x1f", b"\x1f\x8b", b"x\x9c"])
def test_a_body_with_something_behind_it_is_corrupt(coding: str, behind: bytes) -> None:
    with pytest.raises(CorruptBodyError):
        unpack(PACKERS[coding](b"a") + behind, coding, LIMIT)


@CODINGS
def test_a_body_that_is_damaged_is_corrupt(coding: str) -> None:
    packed = bytearray(PACKERS[coding](NOISE))
    packed[-5] ^= 1
    with pytest.raises(CorruptBodyError, match="incorrect data check"):
        unpack(bytes(packed), coding, LIMIT)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_body_in_another_coding_is_corrupt(coding: str) -> None:
    raw = zlib.compressobj(wbits=-15)
    for body in (
        b"<methodCall/>",
        raw.compress(NOISE) + raw.flush(),
        pack(b"a", {"gzip": "deflate"}.get(coding, "gzip")),
    ):
        with pytest.raises(CorruptBodyError):
            unpack(body, coding, LIMIT)


@pytest.mark.parametrize(
    ("coding", "known"),
    [
        *((coding, True) for coding in ("", "identity", "gzip", "x-gzip", "deflate")),
        *((coding, False) for coding in ("br", "zstd", "compress", "gzip, gzip", "deflate,gzip", "GZIP")),
    ],
)
def test_which_codings_are_known(coding: str, known: bool) -> None:
    assert is_known(coding) is known


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", None),
        ("identity", None),
        ("*", None),
        ("br, zstd", None),
        ("gzip", "gzip"),
        ("GZip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate", "gzip"),
        ("deflate, gzip, br, zstd", "deflate"),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", "gzip"),
        ("gzip;q=0", None),
        ("gzip; q=0.000, deflate", "deflate"),
        ("gzip;q=0.001", "gzip"),
        ("gzip;q=1", "gzip"),
        ("gzip ; q=0.5", "gzip"),
        ("x-gzip", None),
        (",;,gzip;", "gzip"),
    ],
)
def test_an_answer_is_packed_only_as_is_asked_for(header: str, expected: str | None) -> None:
    assert chosen(header) == expected


@pytest.mark.parametrize(("coding", "unpacker"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_an_answer_is_packed_so_that_others_unpack_it(coding: str, unpacker: Callable[[bytes], bytes]) -> None:
    for body in (b"", b"a", NOISE):
        assert unpacker(pack(body, coding)) == body
