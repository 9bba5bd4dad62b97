"""From a host name to a connected socket: names looked up in threads of their own, addresses tried side by side.

    infos = await resolve(host, port)       OSError: the name does not resolve
    connected = await connect(infos)        OSError: none of them can be reached

The loop's own look-up cannot be cancelled: a process would wait for it when it ends, 10 s where no DNS server responds.
"""

import asyncio
import socket
import threading
from asyncio.staggered import staggered_race
from contextlib import suppress
from functools import partial
from itertools import chain, zip_longest
from typing import Any, TypeAlias

Info: TypeAlias = tuple[int, int, int, str, Any]  # as socket.getaddrinfo has it

# A connection on which nobody answers for two minutes is broken, although nothing was sent on it (tcp(7)).
_PROBES = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
_PROBES += [
    (socket.IPPROTO_TCP, number, value)
    for name, value in {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}.items()
    if (number := getattr(socket, name, None)) is not None  # Linux has all of them
]
_STAGGER = 0.1  # seconds that an address has before the next one is tried beside it (RFC 8305, section 5)
_running: dict[tuple[asyncio.AbstractEventLoop, str, int], asyncio.Future[list[Info]]] = {}


async def resolve(host: str, port: int) -> list[Info]:
    """Return the addresses of a host, those of its families by turns. Look-ups of one name at a time share a thread.

    Raises:
        OSError: the name does not resolve.

    """
    with suppress(OSError, UnicodeError):
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    key = asyncio.get_running_loop(), host, port
    found = _running.get(key)
    if found is None:
        found = _running[key] = key[0].create_future()
        found.add_done_callback(partial(_forget, key))
        threading.Thread(target=_look_up, args=key, name=f"resolve {host}", daemon=True).start()
    return await asyncio.shield(found)


async def connect(infos: list[Info]) -> socket.socket:
    """Connect to the first address that answers.

    Raises:
        OSError: none of them does; the error is that of the first one.

    """
    if len(infos) == 1:
        return await _connect(infos[0])
    connected: socket.socket | None
    connected, _, errors = await staggered_race([partial(_connect, info) for info in infos], _STAGGER)
    if connected is None:
        raise next(error for error in errors if error is not None)
    return connected


def _look_up(loop: asyncio.AbstractEventLoop, host: str, port: int) -> None:
    found: list[Info] | OSError
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        families = [[info for info in infos if info[0] == family] for family in dict.fromkeys(i[0] for i in infos)]
        found = [info for info in chain.from_iterable(zip_longest(*families)) if info is not None]
    except (OSError, UnicodeError) as error:
        found = error if isinstance(error, OSError) else OSError(f"{host} is not a host name")
    try:
        loop.call_soon_threadsafe(_settle, _running[loop, host, port], found)
    except RuntimeError:  # the loop has been closed
        del _running[loop, host, port]


def _settle(future: asyncio.Future[list[Info]], found: list[Info] | OSError) -> None:
    if future.done():
        return
    if isinstance(found, OSError):
        future.set_exception(found)
    else:
        future.set_result(found)


def _forget(key: tuple[asyncio.AbstractEventLoop, str, int], future: asyncio.Future[list[Info]]) -> None:
    """Let the next call look the name up again, and retrieve the error: its caller may have gone."""
    _running.pop(key, None)
    if not future.cancelled():
        future.exception()


async def _connect(info: Info) -> socket.socket:
    family, kind, protocol, _, address = info
    made = socket.socket(family, kind, protocol)
    try:
        made.setblocking(False)  # noqa: FBT003 - its name
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for level, option, value in _PROBES:
            made.setsockopt(level, option, value)
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made
