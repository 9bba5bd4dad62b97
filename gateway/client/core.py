"""The client without its sockets: what is sent, what is read, and what is tried again.

    core = Core(url, options, io)
    await core.call(view, "inventory.list", params)        the result; a Fault of the server's, or a CallError
    await core.notify(view, method, params)
    await core.batch(view, calls)                          an Outcome for each call, in their order

A View is what ``using`` may change. Everything is written once: the blocking client goes through these coroutines in
one step, because its sockets never make them wait (gateway/client/transport.py).
"""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from threading import Lock
from typing import Any, TypeVar

from gateway.client.address import address_of
from gateway.client.attempts import View, both, merged, pause_before_next
from gateway.client.errors import (
    ArgumentError,
    BadResponse,
    CallError,
    Sent,
    lost,
    no_connection,
    timed_out,
)
from gateway.client.faults import typed
from gateway.client.options import DEFAULTS, CallOptions, Options, checked, codec_of, tls_of
from gateway.client.transport import IO, Places, Stream
from gateway.client.wires import Answer, FramedWire, HTTPWire
from gateway.model.calls import Call, Params, Reply
from gateway.model.faults import (
    Fault,
    ForeignFault,
    InvalidParams,
)

T = TypeVar("T")

_KEPT = 4.0  # seconds that an idle connection is kept; many a server closes it after 5


class Outcome:
    """What became of a call of a batch: its value, or the error in the place of one.

    Attributes:
        value: the result; None where there is an error.
        error: the server's fault, or a CallError where the response to this call is missing or bad; None where there is
            a result.

    """

    def __init__(self) -> None:
        self.value: Any = None
        self.error: Fault | CallError | None = None
        self._is_known = False

    def settle(self, value: Any = None, error: Fault | CallError | None = None) -> None:
        """Note what became of it."""
        self.value, self.error, self._is_known = value, error, True

    def result(self) -> Any:
        """Return the value, or raise the error.

        Raises:
            RuntimeError: the batch has not been sent.

        """
        if not self._is_known:
            raise RuntimeError("the batch has not been sent")
        if self.error is not None:
            raise self.error
        return self.value

    def __repr__(self) -> str:
        if not self._is_known:
            return "<Outcome of a batch that has not been sent>"
        return f"<Outcome {self.value!r}>" if self.error is None else f"<Outcome {self.error!r}>"


class Core:
    """The calls to one server, and the connections to it.

    Raises:
        ValueError: the URL or an option is wrong.
        TypeError: there is no such option.

    """

    def __init__(self, url: str, given: Options, io: IO) -> None:
        checked(given, DEFAULTS)
        options = DEFAULTS | given
        self._address = address_of(url)
        self.url = self._address.url
        self.codec = codec_of(options, self._address)
        self._tls = tls_of(options, self._address)
        wire = HTTPWire if self._address.is_http else FramedWire
        self._wire: HTTPWire | FramedWire = wire(self._address, options, self.codec)
        self._io = io
        self._connections = options["connections"]
        self._connect_timeout = options["connect_timeout"]
        self._lenient = options["lenient"]
        self._ids = count(1)
        self._moving = Lock()
        self._home: object = None
        self._places: Places
        self._idle: deque[tuple[Stream, float]] = deque()
        self.view = self._view(options)

    def view_of(self, view: View, given: CallOptions) -> View:
        """Return a view with other options; headers are added to those that are there.

        Raises:
            ValueError: an option is wrong.
            TypeError: there is no such option.

        """
        known = dict.fromkeys(CallOptions.__annotations__)
        checked(given, known)
        kept = CallOptions(timeout=view.timeout, idempotent=view.idempotent, retries=view.retries, headers=view.headers)
        options = kept | given
        if "headers" in given:
            options["headers"] = both(view.headers, given["headers"])
        return self._view(options)

    def _view(self, options: CallOptions) -> View:
        headers = options["headers"]
        return View(
            timeout=options["timeout"],
            idempotent=options["idempotent"],
            retries=options["retries"],
            headers=headers,
            head=None if callable(headers) else self._wire.head(headers),
        )

    async def call(self, view: View, method: str, params: Params) -> Any:
        """Call a method and return its result."""
        call_id = next(self._ids)
        try:
            body = self.codec.encode_call(method, params, call_id)
        except InvalidParams as fault:
            raise ArgumentError(fault.detail, url=self.url) from None

        def read(answer: Answer) -> Any:
            answered, reply = self.codec.decode_answer(answer.body, answer.charset, lenient=self._lenient) or (0, None)
            if reply is not None and reply.fault is not None:
                raise self._error(reply.fault, answer)
            if answer.refused is not None:
                raise answer.refused
            if reply is None or answered not in (None, call_id):
                raise self._wrong(f"{self.url} responds to another call than this one")
            return reply.value

        return await self._attempts(view, body, read)

    async def notify(self, view: View, method: str, params: Params) -> None:
        """Send a notification; over HTTP, wait until the server has it."""
        body = self._encoded(lambda: self.codec.encode_notification(method, params))
        await self._attempts(view, body, self._read_nothing, is_answered=False)

    async def batch(self, view: View, calls: list[tuple[Call, Outcome]]) -> list[Outcome]:
        """Send calls together, and settle their outcomes.

        Raises:
            Fault: the server's, about all of it.
            CallError: there is no response to all of it.

        """
        if not calls:
            return []
        body = self._encoded(lambda: self.codec.encode_batch([call for call, _ in calls]))
        if all(call.notification for call, _ in calls):
            await self._attempts(view, body, self._read_nothing, is_answered=False)
            return []

        def read(answer: Answer) -> dict[Any, Reply]:
            replies = self.codec.decode_batch(answer.body, answer.charset, lenient=self._lenient)
            if isinstance(replies, Reply):
                assert replies.fault is not None  # noqa: S101 - a value for all of it is none
                raise self._error(replies.fault, answer)
            if answer.refused is not None:
                raise answer.refused
            return dict(replies)

        replies = await self._attempts(view, body, read)
        for place, (call, outcome) in enumerate(calls, 1):
            if not call.notification:
                self._settle(outcome, replies.get(place))
        return [outcome for call, outcome in calls if not call.notification]

    async def post(self, view: View, body: bytes) -> Answer:
        """Send bytes once, as they are, and return what has come, whatever the status of the response says.

        Raises:
            CallError: there is no response.

        """
        return await self._attempt(view, body, time.monotonic() + view.timeout, is_answered=True)

    async def close(self) -> None:
        """Close all connections that no call has."""
        self._close_idle()
        await self._io.sleep(0)  # a loop closes sockets in its next round

    def _close_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop()[0].close()

    def _settle(self, outcome: Outcome, reply: Reply | None) -> None:
        if reply is None:
            outcome.settle(error=self._wrong(f"{self.url}: the response to the batch has none to this call"))
        elif reply.fault is not None:
            outcome.settle(error=self._error(reply.fault, None))
        else:
            outcome.settle(reply.value)

    def _read_nothing(self, answer: Answer) -> None:
        """Take the response to a notification: there is nothing in it, unless something went wrong."""
        if answer.body:
            _, reply = self.codec.decode_answer(answer.body, answer.charset) or (None, Reply())
            if isinstance(reply.fault, ForeignFault):
                raise typed(reply.fault, retry_after=answer.retry_after)
        if answer.refused is not None:
            raise answer.refused

    def _encoded(self, encode: Callable[[], bytes]) -> bytes:
        try:
            return encode()
        except InvalidParams as fault:
            raise ArgumentError(fault.detail, url=self.url) from None

    def _error(self, fault: Fault, answer: Answer | None) -> Fault | CallError:
        """Return what to raise for a fault that was read; the status has the reason of a bad response."""
        if isinstance(fault, ForeignFault):
            return typed(fault, retry_after=answer.retry_after if answer is not None else None)
        if answer is not None and answer.refused is not None:
            return answer.refused
        is_page = answer is not None and answer.body.lstrip()[:5].lower() in (b"<html", b"<!doc")
        remedy = "it is an HTML page: is the path right?" if is_page else ""
        return self._wrong(f"{self.url}: {fault.detail}", remedy)

    def _wrong(self, text: str, remedy: str = "") -> BadResponse:
        return BadResponse(text, url=self.url, sent="yes", remedy=remedy)

    async def _attempts(self, view: View, body: bytes, read: Callable[[Answer], T], *, is_answered: bool = True) -> T:
        """Make a call, once or several times, as far as it is certain that no harm comes of it."""
        deadline = time.monotonic() + view.timeout
        attempt = 0
        while True:
            try:
                return read(await self._attempt(view, body, deadline, is_answered=is_answered))
            except (CallError, Fault) as error:
                pause = pause_before_next(error, view, attempt)
                if pause is None or time.monotonic() + pause >= deadline:
                    raise
            attempt += 1
            await self._io.sleep(pause)

    async def _attempt(self, view: View, body: bytes, deadline: float, *, is_answered: bool) -> Answer:
        head = view.head if view.head is not None else self._wire.head(merged(view.headers))
        places = self._places_here()
        if not places.take_now():
            try:
                await places.take(deadline)
            except TimeoutError:
                remedy = f"other calls have all {self._connections} connections: raise connections"
                raise timed_out(self.url, "no", remedy) from None
        try:
            stream = self._take_idle() or await self._connect(deadline)
            stream.written = False
            try:
                answer = await self._wire.exchange(stream, head, body, deadline, is_answered=is_answered)
            except TimeoutError:
                stream.close()
                raise timed_out(self.url, _how_far(stream)) from None
            except (OSError, EOFError) as error:
                stream.close()
                raise lost(self.url, error, _how_far(stream)) from None
            except BaseException:
                stream.close()
                raise
            if answer.keeps:
                self._idle.append((stream, time.monotonic()))
            else:
                stream.close()
            return answer
        finally:
            places.give_back()

    async def _connect(self, deadline: float) -> Stream:
        until = min(deadline, time.monotonic() + self._connect_timeout)
        try:
            return await self._io.connect(self._address, self._tls, until)
        except OSError as error:
            raise no_connection(self.url, error) from None

    def _take_idle(self) -> Stream | None:
        """Take the connection that was used last, if it is still good; a dead one is no attempt."""
        while True:
            try:
                stream, since = self._idle.pop()
            except IndexError:
                return None
            if time.monotonic() - since < _KEPT and stream.is_clean():
                return stream
            stream.close()

    def _places_here(self) -> Places:
        """Return the places of this process or loop; connections of another one are never used."""
        home = self._io.home()
        if home != self._home:
            with self._moving:
                if home != self._home:
                    self._places = self._io.places(self._connections)
                    self._close_idle()
                    self._home = home
        return self._places


def _how_far(stream: Stream) -> Sent:
    return "maybe" if stream.written else "no"
