"""Header fields of HTTP/2 as bytes (RFC 7541), without a table that both ends have to keep.

    literal("te", "trailers")           a field of a request
    blocks.read(block)                  the fields of a response; ProtocolError

What we send are literals that nobody on the way may index, for some are secrets. The responses of one server are
alike but for their bodies: most header blocks have been seen before, and are looked up in a bounded memory.
"""

from collections.abc import Mapping
from typing import TypeAlias

from hpack import Decoder, HPACKError, OversizedHeaderListError

Fields: TypeAlias = Mapping[str, str]
"""Values by their names; of several with one name, the last."""

MOST_FIELDS = 65536  # bytes of a response's fields, unpacked
_MOST_KEPT = 256  # header blocks
_LONGEST_KEPT = 256  # bytes of one
_NEVER = b"\x10"  # for what is never to be put into a table, by nobody on the way


class ProtocolError(Exception):
    """What the server sends is not HTTP/2, or not gRPC."""


class LongFieldsError(Exception):
    """A response has more bytes of fields than are read."""


def literal(name: bytes, value: bytes) -> bytes:
    """Write a field that is not put into a table."""
    return _NEVER + _text(name) + _text(value)


def indexed_name(index: int, value: bytes) -> bytes:
    """Write a field whose name is in the static table, below 15."""
    return bytes((index,)) + _text(value)


def _text(data: bytes) -> bytes:
    size = len(data)
    if size < 127:
        return bytes((size,)) + data
    size -= 127
    prefix = bytearray(b"\x7f")
    while size >= 128:
        prefix.append(size & 127 | 128)
        size >>= 7
    prefix.append(size)
    return bytes(prefix) + data


class HeaderBlocks:
    """What reads the header blocks of all connections to a server."""

    def __init__(self) -> None:
        self._kept: dict[bytes, Fields] = {}
        self._decoder = Decoder(MOST_FIELDS)
        self._decoder.max_allowed_table_size = self._decoder.header_table_size = 0

    def read(self, block: bytes) -> Fields:
        """Return the fields.

        Raises:
            ProtocolError: it is not a header block, or needs a table.
            LongFieldsError: it is too long.

        """
        fields = self._kept.get(block)
        if fields is not None:
            return fields
        try:
            decoded = self._decoder.decode(block, raw=True)
        except OversizedHeaderListError:
            raise LongFieldsError from None
        except HPACKError:
            raise ProtocolError("a header block cannot be read") from None
        fields = {
            bytes(name).decode(errors="replace"): bytes(value).decode(errors="replace") for name, value in decoded
        }
        if len(block) <= _LONGEST_KEPT:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[block] = fields
        return fields


def _decoded(text: bytes | str) -> str:
    return text if isinstance(text, str) else bytes(text).decode(errors="replace")
