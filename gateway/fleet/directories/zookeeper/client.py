"""A session with ZooKeeper.

    client = Client(servers, session, login, tls)
    client.start()                                     on the running loop; from then on it connects, again and again
    await client.ready(2.0)                            Lost: it is not connected
    names = await client.children(path, told)          None where there is no such node; told() at the next change
    await client.create(path, data, ephemeral=True)

A request fails with Lost when the connection breaks. Whoever has asked to be told of a change is told then, too, so
that everything is read again after a break. A session outlives its connections: only the server says that it is over,
by giving another one (``client.session`` is then another number).

The last transaction that was seen is not told to the servers. One with older data would refuse this client then: for as
long as it takes to catch up, and for ever where all of them have lost their data. A list that goes back for a moment is
harmless here, because its change is told when the server has caught up.
"""

import asyncio
import errno
import os
import random
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from gateway.fleet.directories.zookeeper import jute
from gateway.fleet.directories.zookeeper.jute import JuteError, Reader, Stat

_LARGEST = 16_777_216  # bytes of a message; 2,000 names of Dubbo are one million
_FIRST_PAUSE, _LAST_PAUSE = 0.05, 2.0  # seconds between two rounds of attempts
_CREATE, _DELETE, _EXISTS, _WRITE, _CHILDREN, _AUTH, _PING, _CLOSE = 1, 2, 3, 5, 8, 100, 11, -11
_EVENT, _PINGED, _AUTHENTICATED = -1, -2, -4  # in the place of a request's number
_NO_NODE, _NODE_EXISTS = -101, -110
_REASONS = {
    -102: "this login may not do that",
    -103: "the node has changed",
    -108: "the node cannot have children",
    -111: "the node has children",
    -112: "the session is over",
    -114: "the access list is not valid",
    -115: "the login is refused",
    -118: "the session has moved to another server",
}
_ALL = 31  # permissions
_OPEN = ((_ALL, "world", "anyone"),)
_OWN = ((_ALL, "auth", ""),)


class Lost(Exception):
    """There is no connection, or it has broken before the response: whether a request was carried out is not known."""


class Refused(Exception):
    """The server does not do what it was asked for; the message says why."""


class Client:
    """A session.

    Args:
        servers: ``host:port`` of each, in any order.
        session: seconds without a sign of life after which the servers are to end it; they have bounds of their own.
        login: ``name:secret`` for the scheme digest; empty for none.
        tls: how connections are encrypted; None for not at all.

    Attributes:
        session: the number of the session; 0 before the first one.
        is_connected: whether requests can be sent.
        error: why the last attempt to connect has failed, or the connection has broken; empty while all is well.

    """

    def __init__(
        self, servers: Sequence[tuple[str, int]], session: float, login: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        self.session = 0
        self.is_connected = False
        self.error = "it is not connected yet"
        self._servers = list(servers)
        self._wanted = session
        self._login = login
        self._tls = tls
        self._seconds = session  # what the server has agreed to
        self._password = bytes(16)
        self._requests = 0
        self._pending: dict[int, asyncio.Future[Reader]] = {}
        self._told: dict[str, set[Callable[[], object]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._heard = 0.0
        self._is_silent = False
        self._connected = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect, if that has not begun."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def ready(self, seconds: float) -> None:
        """Wait until there is a connection.

        Raises:
            Lost: there is none within this time.

        """
        self.start()
        try:
            async with asyncio.timeout(seconds):  # in Python 3.11, wait_for may lose a cancellation
                await self._connected.wait()
        except TimeoutError:
            raise Lost(self.error) from None

    async def close(self) -> None:
        """End the session, which removes what it has put there; a server that does not answer ends it by itself."""
        if self.is_connected:
            with suppress(Lost, Refused, TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._request(_CLOSE, b"")
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def children(self, path: str, told: Callable[[], object]) -> list[str] | None:
        """Return the names of a node's children; None where there is no such node. ``told`` is called at a change."""
        found = await self._read(_CHILDREN, path, told)
        return None if found is None else found.texts()

    async def exists(self, path: str, told: Callable[[], object]) -> Stat | None:
        """Tell what is known of a node; None where there is none. ``told`` is called when that changes."""
        found = await self._read(_EXISTS, path, told)
        return None if found is None else found.stat()

    async def create(self, path: str, data: bytes = b"", *, ephemeral: bool = False) -> bool:
        """Make a node, which may end with this session; False where there is one of this name.

        With a login nobody else may see or change it. Its parents must be there.
        """
        access = jute.access(_OWN if self._login else _OPEN)
        body = jute.text(path) + jute.buffer(data) + access + jute.integer(1 if ephemeral else 0)
        return await self._request(_CREATE, body, _NODE_EXISTS) is not None

    async def make(self, path: str) -> None:
        """Make a node and its parents, where they are missing."""
        parts = path.strip("/").split("/")
        for end in range(1, len(parts) + 1):
            await self.create("/" + "/".join(parts[:end]))

    async def write(self, path: str, data: bytes) -> bool:
        """Write what a node holds; False where there is none."""
        body = jute.text(path) + jute.buffer(data) + jute.integer(-1)
        return await self._request(_WRITE, body, _NO_NODE) is not None

    async def delete(self, path: str) -> bool:
        """Remove a node; False where there is none."""
        return await self._request(_DELETE, jute.text(path) + jute.integer(-1), _NO_NODE) is not None

    async def _read(self, kind: int, path: str, told: Callable[[], object]) -> Reader | None:
        self._told.setdefault(path, set()).add(told)  # the event may be here before the response is taken
        return await self._request(kind, jute.text(path) + jute.flag(True), _NO_NODE)  # noqa: FBT003

    async def _request(self, kind: int, body: bytes, expected: int = 0) -> Reader | None:
        """Send a request, and return its response; None for the one error that is expected.

        Raises:
            Lost: the connection has broken.
            Refused: there is another error.

        """
        if not self.is_connected or self._writer is None:
            raise Lost(self.error)
        self._requests = (self._requests + 1) % 0x7FFFFFFF
        number = self._requests
        response = self._pending[number] = asyncio.get_running_loop().create_future()
        _send(self._writer, jute.integer(number) + jute.integer(kind) + body)
        try:
            message: Reader = await response
        finally:
            self._pending.pop(number, None)
        code = message.integer()
        if code and code == expected:
            return None
        if code:
            raise Refused(_REASONS.get(code, f"error {code}"))
        return message

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            for host, port in random.sample(self._servers, len(self._servers)):
                heard = self._heard
                try:
                    await self._serve(host, port)
                except (OSError, EOFError, TimeoutError, JuteError, UnicodeError) as error:
                    self.error = f"{host}:{port}: {'it is silent' if self._is_silent else _reason(error)}"
                finally:
                    self._break()
                if self._heard != heard:  # it was connected
                    pause = _FIRST_PAUSE
                    break
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - so that clients do not come at once
            pause = min(2 * pause, _LAST_PAUSE, self._seconds / 5)

    async def _serve(self, host: str, port: int) -> None:
        """Connect to a server, and take what it sends until the connection breaks."""
        patience = max(1.0, self._wanted / 3)
        async with asyncio.timeout(patience):
            server_name = host if self._tls is not None else None
            reader, self._writer = await asyncio.open_connection(host, port, ssl=self._tls, server_hostname=server_name)
            await self._shake_hands(reader, self._writer)
        self._heard = time.monotonic()
        self.is_connected, self._is_silent, self.error = True, False, ""
        self._connected.set()
        pinging = asyncio.get_running_loop().create_task(self._ping(self._writer))
        try:
            while True:
                self._take(await _receive(reader))
                self._heard = time.monotonic()
        finally:
            pinging.cancel()

    async def _shake_hands(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        milliseconds = jute.integer(int(self._wanted * 1000))
        head = jute.integer(0) + jute.long(0) + milliseconds  # the version, and no transaction that was seen
        _send(writer, head + jute.long(self.session) + jute.buffer(self._password) + jute.flag(False))  # noqa: FBT003
        if self._login:
            body = jute.integer(0) + jute.text("digest") + jute.text(self._login)
            _send(writer, jute.integer(_AUTHENTICATED) + jute.integer(_AUTH) + body)
        message = Reader(await _receive(reader))
        message.integer()
        agreed, session, password = message.integer(), message.long(), message.buffer()
        if agreed <= 0:
            self.session, self._password = 0, bytes(16)
            raise JuteError("the session is over")
        self.session, self._password, self._seconds = session, password, agreed / 1000

    def _take(self, received: bytes) -> None:
        message = Reader(received)
        number = message.integer()
        message.long()  # the transaction
        if number == _EVENT:
            message.integer()  # no error
            message.integer()  # which change it is: whoever is told reads again in any case
            message.integer()
            self._tell(self._told.pop(message.text(), ()))
        elif number == _AUTHENTICATED:
            code = message.integer()
            if code:
                raise JuteError(_REASONS.get(code, f"error {code}"))
        elif number != _PINGED:
            response = self._pending.pop(number, None)
            if response is not None and not response.done():
                response.set_result(message)

    def _tell(self, told: Iterable[Callable[[], object]]) -> None:
        for each in told:
            each()

    async def _ping(self, writer: asyncio.StreamWriter) -> None:
        """Show that this client lives, and see whether the server does."""
        while True:
            await asyncio.sleep(self._seconds / 3)
            if time.monotonic() - self._heard > self._seconds * 2 / 3:
                self._is_silent = True
                writer.transport.abort()
                return
            _send(writer, jute.integer(_PINGED) + jute.integer(_PING))

    def _break(self) -> None:
        """Tell all who wait that the connection is gone."""
        self.is_connected = False
        self._connected.clear()
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None
        pending, self._pending = self._pending, {}
        for response in pending.values():
            if not response.done():
                response.set_exception(Lost(self.error or "the connection has broken"))
        told, self._told = self._told, {}
        self._tell({each for of_path in told.values() for each in of_path})


def _send(writer: asyncio.StreamWriter, message: bytes) -> None:
    writer.write(jute.buffer(message))


async def _receive(reader: asyncio.StreamReader) -> bytes:
    size = Reader(await reader.readexactly(4)).integer()
    if not 0 <= size <= _LARGEST:
        raise JuteError(f"a message of {size} bytes")
    return await reader.readexactly(size)


def _reason(error: Exception) -> str:
    if isinstance(error, (EOFError, ConnectionResetError)):
        return "it has closed the connection"
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, OSError) and error.errno in errno.errorcode and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno or 0).lower()  # asyncio has a text of its own
    return str(error) or type(error).__name__
