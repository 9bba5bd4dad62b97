"""What callers hold: Client, AsyncClient, and the names and batches that both have."""

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack

from gateway.client.address import address_of
from gateway.client.attempts import View
from gateway.client.blocking import Blocking
from gateway.client.core import Core, Outcome
from gateway.client.loop import Looping
from gateway.client.options import CallOptions, Options
from gateway.client.subscriptions import SocketCore, Subscription
from gateway.client.transport import run
from gateway.model.calls import Call, Params

T = TypeVar("T")


class Name(Generic[T]):
    """The name of a method, or the beginning of one: ``client.inventory`` and ``client.inventory.list``; call it."""

    def __init__(self, call: Callable[..., T], name: str) -> None:
        self._call = call
        self._name = name

    def __getattr__(self, name: str) -> "Name[T]":
        return Name(self._call, f"{self._name}.{_public(name)}")

    def __call__(self, *args: Any, **named: Any) -> T:
        """Call the method, with arguments by position or by name."""
        return self._call(self._name, *args, **named)

    def __repr__(self) -> str:
        return f"<method {self._name}>"


class Batch(Generic[T]):
    """Several calls that are sent together: a JSON-RPC batch, or a system.multicall.

    A call returns its Outcome, which has the result after ``send``. Calls may run in any order, and each has a result
    or a fault of its own.
    """

    def __init__(self, send: Callable[[list[tuple[Call, Outcome]]], T]) -> None:
        self._send = send
        self._calls: list[tuple[Call, Outcome]] = []
        self._is_sent = False

    def call(self, method: str, /, *args: Any, **named: Any) -> Outcome:
        """Add a call."""
        return self._add(Call(method=method, params=_params(args, named)))

    def notify(self, method: str, /, *args: Any, **named: Any) -> None:
        """Add a notification, which is not answered; XML-RPC has none."""
        self._add(Call(method=method, params=_params(args, named), notification=True))

    def send(self) -> T:
        """Send the calls, and return their outcomes in order, without those of notifications.

        Raises:
            Fault: the server's, about the whole batch.
            CallError: there is no response to the whole batch.
            RuntimeError: it has been sent already.

        """
        if self._is_sent:
            raise RuntimeError("the batch has been sent already")
        self._is_sent = True
        return self._send(self._calls)

    def _add(self, call: Call) -> Outcome:
        if self._is_sent:
            raise RuntimeError("the batch has been sent already")
        outcome = Outcome()
        self._calls.append((call, outcome))
        return outcome

    def __getattr__(self, name: str) -> Name[Outcome]:
        return Name(self.call, _public(name))

    def __len__(self) -> int:
        """Count the calls."""
        return len(self._calls)


class _Caller:
    """What both clients have: a core, and how its calls are made."""

    def __init__(self, core: Core, view: View) -> None:
        self._core = core
        self._view = view

    @property
    def url(self) -> str:
        """The server's URL, without a name and a key."""
        return self._core.url

    @property
    def protocol(self) -> str:
        """The protocol that is spoken, like ``"jsonrpc"``."""
        return self._core.codec.name

    def using(self, **options: Unpack[CallOptions]) -> Self:
        """Return a client with other options for its calls, on the same connections.

        Raises:
            ValueError: an option is wrong.
            TypeError: there is no such option.

        """
        other = type(self).__new__(type(self))
        _Caller.__init__(other, self._core, self._core.view_of(self._view, options))
        return other

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.url}>"


class Client(_Caller):
    """Calls the methods of a server; threads may share it.

        with Client("http://127.0.0.1:8000/api") as client:
            client.inventory.list("fruit", limit=10)
            client.call("inventory.list", "fruit", limit=10)  # the same

    ``url`` is explained in gateway/client/address.py, and ``options`` are those of gateway.client.options.Options.

    Raises:
        ValueError: the URL or an option is wrong.
        TypeError: there is no such option.

    """

    def __init__(self, url: str, **options: Unpack[Options]) -> None:
        if address_of(url).is_websocket:
            raise ValueError(f"{address_of(url).url}: WebSocket is for AsyncClient")
        core = Core(url, options, Blocking())
        super().__init__(core, core.view)

    def call(self, method: str, /, *args: Any, **named: Any) -> Any:
        """Call a method by its exact name, with arguments by position or by name, and return its result.

        Raises:
            Fault: the server's; see gateway/model/faults.py for its types.
            CallError: there is no response; see gateway/client/errors.py.

        """
        return run(self._core.call(self._view, method, _params(args, named)))

    def notify(self, method: str, /, *args: Any, **named: Any) -> None:
        """Call a method that does not answer; XML-RPC has no such calls.

        Raises:
            CallError: it has not been taken.
            Fault: it has been refused.

        """
        run(self._core.notify(self._view, method, _params(args, named)))

    def batch(self) -> Batch[list[Outcome]]:
        """Begin a batch; ``send`` sends it."""
        return Batch(lambda calls: run(self._core.batch(self._view, calls)))

    def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        run(self._core.close())

    def __getattr__(self, name: str) -> Name[Any]:
        return Name(self.call, _public(name))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(_Caller):
    """The same for asyncio: what Client returns is awaited here.

        async with AsyncClient("http://127.0.0.1:8000/api") as client:
            await client.inventory.list("fruit", limit=10)

    A call that is cancelled closes its connection, so that the server can notice; not over WebSocket (ws://, wss://),
    where all calls have one connection.
    """

    def __init__(self, url: str, **options: Unpack[Options]) -> None:
        core = SocketCore(url, options, Looping()) if address_of(url).is_websocket else Core(url, options, Looping())
        super().__init__(core, core.view)

    async def call(self, method: str, /, *args: Any, **named: Any) -> Any:
        """Call a method by its exact name; see Client.call."""
        return await self._core.call(self._view, method, _params(args, named))

    async def notify(self, method: str, /, *args: Any, **named: Any) -> None:
        """Call a method that does not answer; see Client.notify."""
        await self._core.notify(self._view, method, _params(args, named))

    def batch(self) -> Batch[Coroutine[Any, Any, list[Outcome]]]:
        """Begin a batch; its ``send`` is awaited."""
        return Batch(lambda calls: self._core.batch(self._view, calls))

    def subscribe(self, method: str, /, *args: Any, **named: Any) -> Subscription:
        """Subscribe to a method that streams, over WebSocket.

            async with client.subscribe("ticks", "apple") as ticks:
                async for tick in ticks: ...

        A connection that is lost is opened again, and the method subscribed to again; ``ticks.gap`` says what was lost
        before a value.

        Raises:
            ValueError: the URL is not one of WebSocket.

        """
        if not isinstance(self._core, SocketCore):
            raise ValueError(  # noqa: TRY004 - it is the URL that is wrong
                f"{self.url}: subscriptions need a URL that begins with ws:// or wss://"
            )
        return self._core.subscribe(self._view, method, _params(args, named))

    async def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        await self._core.close()

    def __getattr__(self, name: str) -> Name[Coroutine[Any, Any, Any]]:
        return Name(self.call, _public(name))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


def _params(args: tuple[Any, ...], named: dict[str, Any]) -> Params:
    if args and named:
        raise TypeError("arguments are all by position, or all by name")
    return named or list(args)


def _public(name: str) -> str:
    """Refuse names that Python itself asks objects for; a method of such a name is called by ``call``."""
    if name.startswith("_"):
        raise AttributeError(name)
    return name
