"""A connection to an RPyC server: requests out, told apart by their numbers, and those of the service's answered.

    boxed = await connection.request(CALLATTR, args)    RemoteError: what the service has raised instead
    connection.forget(references)                       references that are not needed any more

A server works on the requests of a connection one after the other, so a connection has one call at a time; several
requests may belong to it. What comes is a frame (its length, whether it is compressed, a line feed at its end). The
replies to all requests of a call have at most ``most`` bytes together, also when they are unpacked.
"""

import asyncio
import itertools
import struct
import zlib
from collections.abc import Iterable
from typing import Any

from gateway.model.faults import BadUpstream
from gateway.upstreams import Invocation
from gateway.upstreams.rpyc import brine
from gateway.upstreams.rpyc.lent import CLOSE, DEL, LOCAL_REF, TUPLE, VALUE, Boxed, IdPack, Lent, NotLentError
from gateway.upstreams.transport.connection import StreamConnection

_REQUEST, _REPLY, _EXCEPTION = 1, 2, 3
_STOP_ITERATION = 1
_HEADER = struct.Struct("!LB")


class RemoteError(Exception):
    """What a service has raised: the name of its class, and its arguments."""

    def __init__(self, name: str, args: tuple[Any, ...]) -> None:
        super().__init__(name, args)
        self.name = name
        self.arguments = args


class Connection(StreamConnection):
    """A connection; ``most`` bounds the bytes of a result, and those of answers to the service that it has not read.

    Attributes:
        lent: what the service may read during the call that runs.
        root: the reference to the service, as soon as it is known.

    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.lent = Lent()
        self.root: Boxed = (VALUE, None)
        self._most = most
        self._left = most
        self._held = bytearray()
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Boxed]] = {}
        self._forgotten: set[int] = set()

    def begin(self) -> None:
        """Begin a call, whose result may have as many bytes as any."""
        self._left = self._most

    def charge(self, size: int) -> None:
        """Note that the result of the call has so many bytes more.

        Raises:
            BadUpstream: it has too many.

        """
        self._left -= size
        if self._left < 0:
            raise BadUpstream("the result has more bytes than limits.max_reply")

    async def request(self, handler: int, *args: Boxed, invocation: Invocation | None = None) -> Boxed:
        """Send a request, and wait for its reply.

        Raises:
            RemoteError, BadUpstream, OSError, EOFError: there is none.

        """
        (reply,) = await self.requests(handler, [args], invocation)
        return reply

    async def requests(
        self, handler: int, several: list[tuple[Boxed, ...]], invocation: Invocation | None = None
    ) -> list[Boxed]:
        """Send several requests at once, and wait for their replies."""
        if self._transport.is_closing():
            raise self._error or EOFError
        loop = asyncio.get_running_loop()
        frames: list[bytes] = []
        futures: list[asyncio.Future[Boxed]] = []
        for args in several:
            number = next(self._numbers)
            frames.append(_frame(_REQUEST, number, (handler, (TUPLE, args))))
            futures.append(loop.create_future())
            self._waiting[number] = futures[-1]
        if invocation is not None:
            invocation.sent = "maybe"
        self._transport.write(b"".join(frames))
        return await asyncio.gather(*futures)

    def forget(self, references: list[IdPack]) -> None:
        """Tell a service that is still there that references are not needed any more; nobody waits for its replies."""
        if not self.usable():
            return
        for reference in references:
            number = next(self._numbers)
            self._forgotten.add(number)
            self._transport.write(_frame(_REQUEST, number, (DEL, (TUPLE, ((LOCAL_REF, reference), (VALUE, 1))))))

    def usable(self) -> bool:
        """Tell whether the next call can have it: it is open, and nobody waits for a reply."""
        return super().usable() and not self._waiting

    def data_received(self, data: bytes) -> None:
        """Take frames (called by the event loop)."""
        self._acknowledge()
        self._held += data
        try:
            while (frame := self._next()) is not None:
                self._receive(frame)
        except BadUpstream as fault:
            self._fail(fault)
        except brine.BrineError as error:
            self._fail(BadUpstream(f"the response is not RPyC: {error}"))

    def _next(self) -> bytes | None:
        """Take a frame off the front of what is here."""
        if len(self._held) < _HEADER.size:
            return None
        length, compressed = _HEADER.unpack_from(self._held)
        if length > self._most or compressed > 1:
            raise BadUpstream("the response has more bytes than limits.max_reply")
        end = _HEADER.size + length
        if len(self._held) <= end:
            return None
        body, line_feed = bytes(self._held[_HEADER.size : end]), self._held[end]
        del self._held[: end + 1]
        if line_feed != ord("\n"):
            raise BadUpstream("the response is not RPyC: a frame has no end")
        return self._unpacked(body) if compressed else body

    def _unpacked(self, body: bytes) -> bytes:
        unpacker = zlib.decompressobj()
        try:
            unpacked = unpacker.decompress(body, self._most + 1)
        except zlib.error:
            raise brine.BrineError("a compressed frame is invalid") from None
        if len(unpacked) > self._most or not unpacker.eof or unpacker.unused_data:
            raise BadUpstream("the response is cut off, or has more bytes than limits.max_reply")
        return unpacked

    def _receive(self, frame: bytes) -> None:
        loaded = brine.load(frame[1:])
        if type(loaded) is not tuple or len(loaded) != 2 or type(loaded[0]) is not int:
            raise brine.BrineError("a message has no number")
        kind, (number, body) = frame[0], loaded
        if kind == _REQUEST:
            self._answer(number, body)
            return
        self.charge(len(frame))
        if kind not in (_REPLY, _EXCEPTION):
            raise brine.BrineError("a message is neither a request nor a reply")
        if number in self._forgotten:
            self._forgotten.discard(number)
        elif (waiting := self._waiting.pop(number, None)) is None:
            raise BadUpstream("the upstream replied to a request that was not sent")
        elif waiting.done():
            pass  # its caller has gone, and the connection with him
        elif kind == _REPLY:
            waiting.set_result(body)
        else:
            waiting.set_exception(_remote_error(body))

    def _answer(self, number: int, body: Any) -> None:
        if self._transport.get_write_buffer_size() > self._most:
            raise BadUpstream("the upstream does not read the answers to its requests")
        handler, args = body if type(body) is tuple and len(body) == 2 else (None, None)
        if handler == CLOSE:
            raise BadUpstream("the upstream closed the connection") if self._waiting else EOFError
        try:
            answer = _frame(_REPLY, number, self.lent.answer(handler, args))
        except StopIteration:
            answer = _frame(_EXCEPTION, number, _STOP_ITERATION)
        except Exception as error:  # noqa: BLE001 - whatever a question comes to is the answer
            name = "ValueError" if isinstance(error, NotLentError) else type(error).__name__
            answer = _frame(_EXCEPTION, number, (("builtins", name), (str(error),), (), ""))
        self._transport.write(answer)

    def _pending(self) -> Iterable[asyncio.Future[Any]]:
        return self._waiting.values()


def _frame(kind: int, number: int, body: Any) -> bytes:
    data = bytes((kind,)) + brine.dump((number, body))
    return _HEADER.pack(len(data), 0) + data + b"\n"


def _remote_error(body: Any) -> RemoteError:
    """Read an exception, which is never made one of ours."""
    if body == _STOP_ITERATION:
        return RemoteError("StopIteration", ())
    try:
        (_, name), args, _, _ = body
    except (TypeError, ValueError):
        return RemoteError("", ())
    return RemoteError(name if type(name) is str else "", args if type(args) is tuple else ())
