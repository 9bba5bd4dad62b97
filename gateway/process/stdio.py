"""MCP over standard input and output, for agents that start a program and write to it: a message on each line.

    relay(lines, write, post)      POSTs each message, and writes what is answered
    served(gateway, key)           gives a post to a gateway in this process, without sockets
    bridged(core)                  makes a post to one that is reached over HTTP

Several requests may be answered at once, and in any order. ``notifications/cancelled`` ends the request that it names.
The headers that the protocol has over HTTP are made of the message.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, BinaryIO, TypeAlias

import msgspec

from gateway.app import Gateway
from gateway.client.core import Core
from gateway.client.errors import CallError
from gateway.endpoints.mcp.messages import mirrored
from gateway.hosts.mounted import Headers
from gateway.model.http import HTTPRequest, HTTPResponse
from gateway.upstreams.frame import introduce

Post: TypeAlias = Callable[[bytes, Mapping[str, str]], Awaitable[tuple[int, bytes]]]
"""Sends a message with further headers, and returns the status and the body of the response; or raises CallError."""

_MESSAGES = frozenset({200, 400, 404})  # the statuses of responses whose bodies are messages
_REFUSED = -32000  # the gateway's own codes have other meanings in MCP
_MOST = 2**24  # bytes of a line
_WAITING = 100  # lines that are read before those before them have begun
_MOST_SAID = 500  # characters of a refusal


async def relay(lines: AsyncIterator[bytes], write: Callable[[bytes], None], post: Post) -> None:
    """Answer messages until there are no more, and all have been answered."""
    running: dict[Any, asyncio.Task[None]] = {}
    tasks = set[asyncio.Task[None]]()
    async for line in lines:
        message = _read(line)
        cancelled = running.pop(_cancelled(message), None)
        if cancelled is not None:
            cancelled.cancel()
        task = asyncio.create_task(_answer(line, message, write, post))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        number = _id(message)
        if number is not None:
            running[number] = task
            task.add_done_callback(lambda _, number=number: running.pop(number, None))  # type: ignore[misc]
    await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(line: bytes, message: Any, write: Callable[[bytes], None], post: Post) -> None:
    number = _id(message)
    try:
        status, body = await post(line, mirrored(message))
    except CallError as error:
        status, body = 0, str(error).encode()
    if status in _MESSAGES and body.lstrip().startswith(b"{"):
        write(body.replace(b"\n", b" ") + b"\n")  # in JSON there are none inside of texts
    elif body and number is not None:
        said = " ".join(body.decode("utf-8", "replace").split())[:_MOST_SAID]
        text = said if status == 0 else f"the gateway responds with HTTP {status}: {said}"
        said_so = {"jsonrpc": "2.0", "id": number, "error": {"code": _REFUSED, "message": text}}
        write(msgspec.json.encode(said_so) + b"\n")


def _read(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None  # whoever it is for says what is wrong with it


def _id(message: Any) -> str | int | None:
    """Return the id of a request; None for anything else."""
    number = message.get("id") if type(message) is dict and "method" in message else None
    return number if type(number) in (str, int) else None


def _cancelled(message: Any) -> Any:
    """Return the id of the request that a message cancels."""
    if type(message) is not dict or message.get("method") != "notifications/cancelled":
        return None
    params = message.get("params")
    number = params.get("requestId") if type(params) is dict else None
    return number if type(number) in (str, int) else None


async def lines_of(file: BinaryIO) -> AsyncIterator[bytes]:
    """Read lines in a thread, for the file may be of any kind. One that is too long is handed over cut short."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[bytes](_WAITING)

    def hand_over(line: bytes) -> None:
        asyncio.run_coroutine_threadsafe(queue.put(line), loop).result()

    def read() -> None:
        while line := file.readline(_MOST):
            is_cut = not line.endswith(b"\n")
            while is_cut and (rest := file.readline(_MOST)):
                is_cut = not rest.endswith(b"\n")
            if line.strip():
                hand_over(line)
        hand_over(b"")

    threading.Thread(target=read, name="gateway-stdin", daemon=True).start()
    while line := await queue.get():
        yield line


@asynccontextmanager
async def served(gateway: Gateway, key: str | None) -> AsyncIterator[Post]:
    """Open a gateway in this process, for a caller from 127.0.0.1, and close it.

    Args:
        gateway: which offers agents something.
        key: the API key to call with; None without one.

    Raises:
        LifespanError: what the methods need cannot be opened.

    """
    config = gateway.config
    fixed = [("Host", next(iter(config.access.hosts), "localhost")), ("Content-Type", "application/json")]
    fixed += [("Authorization", f"Bearer {key}")] if key is not None else []

    async def post(body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        told = Headers([*fixed, ("Content-Length", str(len(body))), *headers.items()])
        head = HTTPRequest(method="POST", target=config.mcp.path, headers=told, peer="127.0.0.1", connection=post)
        admitted = gateway.admit(head)
        if isinstance(admitted, HTTPResponse):
            return admitted.status, admitted.body
        is_large = len(body) > config.limits.max_body
        response = admitted.too_large() if is_large else await admitted.answer(body)
        return response.status, response.body

    async with gateway.lifespans:
        discoveries = await introduce(gateway.upstreams, gateway.registry)
        try:
            yield post
        finally:
            for discovery in discoveries:
                discovery.cancel()
            gateway.pool.abandon()
            await asyncio.gather(*(upstream.close() for upstream in gateway.upstreams))


def bridged(core: Core) -> Post:
    """Make a post to a gateway that is reached over HTTP; each message is sent once."""

    async def post(body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        answer = await core.post(core.view_of(core.view, {"headers": dict(headers)}), body)
        return 200 if answer.refused is None else answer.refused.status, answer.body

    return post
