"""Header fields of HTTP/2 as bytes (RFC 7541), without a table that both ends have to keep.

    literal("te", "trailers")           a field of a request
    blocks.read(block)                  the fields of a response; ProtocolError

What we send are literals that nobody on the way may index, for some are secrets. The responses of one server are
alike but for their bodies: most header blocks have been seen before, and are looked up in a bounded memory.
"""

from collections.abc import Mapping
from typing import TypeAlias, TypeVar

from hpack import HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

K = TypeVar("K")

Fields: TypeAlias = Mapping[str, str]
"""Values by their names; of several with one name, the last."""

MOST_FIELDS = 16384  # bytes of a response's fields, unpacked; grpc itself takes no more
_MOST_KEPT = 256  # header blocks, and texts
_LONGEST_KEPT = 256  # bytes of one
_OVERHEAD = 32  # bytes of a field beside its own (RFC 7541, section 4.1)
_STATIC = [(name.decode(), value.decode()) for name, value in HeaderTable.STATIC_TABLE]
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
    """What reads the header blocks of all connections to a server.

    Whole blocks are looked up first. Of one that is not known only the texts that are not known are decoded: a block
    differs from the last one in a date or an id.
    """

    def __init__(self) -> None:
        self._kept: dict[bytes, Fields] = {}
        self._texts: dict[bytes, str] = {}  # by their Huffman code

    def read(self, block: bytes) -> Fields:
        """Return the fields.

        Raises:
            ProtocolError: it is not a header block, or needs a table.
            LongFieldsError: it is too long.

        """
        fields = self._kept.get(block)
        if fields is None:
            try:
                fields = self._fields(block)
            except IndexError:
                raise ProtocolError("a header block is cut off") from None
            if len(block) <= _LONGEST_KEPT:
                _keep(self._kept, block, fields)
        return fields

    def _fields(self, block: bytes) -> Fields:
        """Read a block (RFC 7541, section 6)."""
        fields: dict[str, str] = {}
        at, end, size = 0, len(block), 0
        while at < end:
            first = block[at]
            if first >= 0x80:
                index, at = _number(block, at, 0x7F)
                name, value = _static(index)
            elif first & 0xE0 == 0x20:
                index, at = _number(block, at, 0x1F)
                if index or fields:
                    raise ProtocolError("a header block changes the size of a table that is not there")
                continue
            else:
                index, at = _number(block, at, 0x3F if first & 0x40 else 0x0F)
                if index:
                    name = _static(index)[0]
                else:
                    name, at = self._text(block, at)
                value, at = self._text(block, at)
            fields[name] = value
            size += len(name) + len(value) + _OVERHEAD
            if size > MOST_FIELDS:
                raise LongFieldsError
        return fields

    def _text(self, block: bytes, at: int) -> tuple[str, int]:
        """Read a text (RFC 7541, section 5.2); return it, and where it ends."""
        is_coded = block[at] >= 0x80
        size, at = _number(block, at, 0x7F)
        data = block[at : at + size]
        if len(data) < size:
            raise ProtocolError("a header block is cut off")
        if not is_coded:
            return data.decode(errors="replace"), at + size
        text = self._texts.get(data)
        if text is None:
            try:
                text = bytes(decode_huffman(data)).decode(errors="replace")
            except HPACKError:
                raise ProtocolError("a header block has a text that cannot be read") from None
            if size <= _LONGEST_KEPT:
                _keep(self._texts, data, text)
        return text, at + size


def _keep(kept: dict[bytes, K], key: bytes, value: K) -> None:
    if len(kept) >= _MOST_KEPT:
        kept.clear()
    kept[key] = value


def _number(block: bytes, at: int, most: int) -> tuple[int, int]:
    """Read a number, which begins in the bits of ``most`` (RFC 7541, section 5.1); return it, and where it ends."""
    number = block[at] & most
    at += 1
    if number < most:
        return number, at
    for shift in (0, 7, 14):
        byte = block[at]
        at += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ProtocolError("a header block has a number that is too large")


def _static(index: int) -> tuple[str, str]:
    if not 0 < index <= len(_STATIC):
        raise ProtocolError("a header block refers to a table that is not there")
    return _STATIC[index - 1]
