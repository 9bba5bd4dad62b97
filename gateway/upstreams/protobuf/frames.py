"""The frames of protobuf's generic services, as small servers write them: a length, the index of a method, a message.

    frames = MethodFrames(most)               reading one stream
    frames.feed(data)                         [(index, message), ...] that are whole; FrameTooLongError, FramingError
    frames.frame(index, message)              the bytes to send

The length is a little-endian uint32 of what follows it, the index a little-endian uint16: the place of the method in
its service, from 0. Some write the length with its own four bytes included.
"""

import struct

from gateway.wire.framing import FrameTooLongError, FramingError

_HEAD = struct.Struct("<IH")
_LENGTH, _INDEX = 4, 2  # bytes
MOST_METHODS = 2**16


class MethodFrames:
    """Frames, with at most ``most`` bytes in a message."""

    def __init__(self, most: int, *, length_includes_itself: bool = False) -> None:
        self._most = most
        self._more = _INDEX + (_LENGTH if length_includes_itself else 0)
        self._held = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take what has come, and return the messages that are whole by now.

        Raises:
            FramingError: a length that no message has; FrameTooLongError: one that is not taken.

        """
        self._held += data
        whole: list[tuple[int, bytes]] = []
        start = 0
        while len(self._held) - start >= _HEAD.size:
            length, index = _HEAD.unpack_from(self._held, start)
            size = length - self._more
            if size < 0:
                raise FramingError
            if size > self._most:
                raise FrameTooLongError
            end = start + _HEAD.size + size
            if end > len(self._held):
                break
            whole.append((index, bytes(self._held[start + _HEAD.size : end])))
            start = end
        del self._held[:start]
        return whole

    def frame(self, index: int, message: bytes) -> bytes:
        """Make a message ready to be sent."""
        return _HEAD.pack(len(message) + self._more, index) + message
