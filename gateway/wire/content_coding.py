"""Content codings (RFC 9110, section 8.4.1): unpacking requests within a bound, packing answers for who asks.

unpack    gzip (also its old name x-gzip) and deflate in the zlib form; CorruptBodyError or RequestTooLarge
chosen    an Accept-Encoding header -> the coding to answer in, or None
pack      bytes -> bytes
packing   the same in turns
"""

import zlib
from collections.abc import Generator

from gateway.model.faults import RequestTooLarge

_GZIP, _ZLIB = 31, 15  # zlib's wbits for the two formats
_REQUEST_CODINGS = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}
_ANSWER_CODINGS = {"gzip": _GZIP, "deflate": _ZLIB}
_PIECE = 4096  # zlib copies what follows a member, so a body of empty ones would be copied once for each
_TURN = 2**17  # bytes that are packed in one turn
_LEVEL = 1  # on XML, level 6 saves another tenth of the bytes for three times the work


class CorruptBodyError(Exception):
    """A body that does not unpack."""


def is_known(coding: str) -> bool:
    """Tell whether ``unpack`` knows a coding; ``identity`` and none at all need no unpacking."""
    return coding in _REQUEST_CODINGS or coding in ("", "identity")


def unpack(body: bytes, coding: str, limit: int) -> bytes:
    """Unpack a whole body, several gzip members too (RFC 1952, 2.2), without ever holding more than ``limit`` bytes.

    Raises:
        CorruptBodyError: it is cut short, damaged, or something follows it.
        RequestTooLarge: it has more than ``limit`` bytes.

    """
    wbits = _REQUEST_CODINGS.get(coding)
    if wbits is None or not body:
        return body
    unpacked = bytearray()
    member = zlib.decompressobj(wbits)
    position = 0
    try:
        while position < len(body):
            if member.eof:
                member = zlib.decompressobj(wbits)
            piece = body[position : position + _PIECE]
            unpacked += member.decompress(piece, limit + 1 - len(unpacked))
            if len(unpacked) > limit:
                raise RequestTooLarge(f"at most {limit} bytes, also after unpacking")
            position += len(piece) - len(member.unused_data)
    except zlib.error as error:
        raise CorruptBodyError(str(error)) from None
    if not member.eof:
        raise CorruptBodyError("it is cut short")
    return bytes(unpacked)


def chosen(accept_encoding: str) -> str | None:
    """Choose the coding of an answer: the first of gzip and deflate that the header names with a weight above 0."""
    for part in accept_encoding.lower().split(","):
        coding, _, weight = part.partition(";")
        if coding.strip() in _ANSWER_CODINGS and weight.replace(" ", "").strip("0.") != "q=":
            return coding.strip()
    return None


def pack(body: bytes, coding: str) -> bytes:
    """Pack an answer in a coding that ``chosen`` has named."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _ANSWER_CODINGS[coding])
    return packer.compress(body) + packer.flush()


def packing(body: bytes, coding: str) -> Generator[None, None, bytes]:
    """Do the same, and let others have their turn after each piece; a small one is packed in one turn."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _ANSWER_CODINGS[coding])
    pieces = []
    for begin in range(0, len(body), _TURN):
        if begin:
            yield
        pieces.append(packer.compress(memoryview(body)[begin : begin + _TURN]))
    return b"".join([*pieces, packer.flush()])
