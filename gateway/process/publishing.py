"""Publishes a gateway: in a child of the supervisor, or in a process of its own beside uWSGI.

publication_of(config, address, started)    what the gateway says of itself
work(config, publication, link)             in the child: until the supervisor says so, or is gone; it may say, too,
                                            which methods there are now
serve(config, publication, ask)             in the foreground: ``ask`` tells each second whether the gateway is ready
"""

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import cast
from urllib.parse import urlsplit

import msgspec

from gateway.config import Config, ConfigError
from gateway.fleet.directories.zookeeper.client import Client
from gateway.fleet.directories.zookeeper.kind import ZooKeeperOptions, client_of
from gateway.fleet.directories.zookeeper.publishing import Publication, Publisher
from gateway.methods import Method
from gateway.telemetry import log

_log = logging.getLogger("gateway")
_ASK = 1.0  # seconds between two questions whether the gateway is ready
MOST_NAMED = 65_536  # bytes of the names of methods that are told
_PATIENCE = 2.0  # seconds for the response
_READY = (b"HTTP/1.1 200", b"HTTP/1.0 200")


def publication_of(config: Config, address: str, started: float, methods: tuple[str, ...] = ()) -> Publication:
    """Return what a gateway says of itself, given where it listens and since when, in seconds since 1970."""
    publish = config.publish
    return Publication(
        service=publish.service,
        address=publish.address or address,
        schemes=publish.schemes,
        path=config.server.paths[0],
        version=publish.version,
        group=publish.group,
        zone=publish.zone,
        weight=publish.weight,
        started=int(started * 1000),
        methods=methods,
    )


def named(config: Config, methods: Iterable[tuple[str, Method]]) -> tuple[str, ...]:
    """Return the names of methods that everybody may see, as far as they are told.

    What a rule of [access] is about is seen by some alone, and not by whoever reads a directory.
    """
    found: list[str] = []
    room = MOST_NAMED
    for name, _ in methods:
        if any(rule.concerns(name) for rule in config.access.rules):
            continue
        room -= len(name.encode("utf-8", "replace")) + 3
        if room < 0:
            break
        found.append(name)
    return tuple(sorted(found))


def session_of(config: Config) -> tuple[Client, str]:
    """Make a session with the directory that the gateway is published in; with the root of its services.

    Raises:
        ConfigError: its login or its certificates cannot be read.

    """
    options = cast("ZooKeeperOptions", config.directories[config.publish.directory])
    try:
        return client_of(options), options.root
    except (OSError, ValueError) as error:
        raise ConfigError([f"directories.{config.publish.directory}: {error}"], config) from None


def work(config: Config, publication: Publication, link: socket.socket) -> int:
    """Publish the gateway until the supervisor's end of a link is closed or sends something; returns an exit code."""
    log.configure(config.log.level, config.log.format)
    try:
        client, root = session_of(config)
    except ConfigError as error:
        _log.error("the gateway cannot be published: %s", error)
        return 1

    async def main() -> None:
        ending = asyncio.Event()
        loop = asyncio.get_running_loop()
        publisher = Publisher(client, root, publication)
        link.setblocking(False)  # noqa: FBT003 - the standard library's
        orders = asyncio.create_task(_obey(link, ending, publisher))
        loop.add_signal_handler(signal.SIGTERM, ending.set)
        publisher.want(True)  # noqa: FBT003 - it is ready
        await _until(ending, publisher)
        orders.cancel()

    asyncio.run(main())
    return 0


async def _obey(link: socket.socket, ending: asyncio.Event, publisher: Publisher) -> None:
    """Take the supervisor's orders, a line each: a list of methods, or to end."""
    reader, writer = await asyncio.open_connection(sock=link, limit=2 * MOST_NAMED)
    try:
        while order := await reader.readline():
            publisher.serve(msgspec.json.decode(order, type=tuple[str, ...]))
    except (OSError, ValueError, msgspec.MsgspecError):
        _log.debug("the supervisor says that it is over")
    finally:
        ending.set()
        writer.transport.abort()


def serve(config: Config, publication: Publication, ask: Callable[[], Awaitable[bool]]) -> None:
    """Publish a gateway while it is ready, until SIGINT or SIGTERM.

    Raises:
        ConfigError: the directory's login or certificates cannot be read.

    """
    client, root = session_of(config)

    async def main() -> None:
        ending = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ending.set)
        publisher = Publisher(client, root, publication)
        asking = asyncio.create_task(_follow(publisher, ask))
        await _until(ending, publisher)
        asking.cancel()

    asyncio.run(main())


async def _until(ending: asyncio.Event, publisher: Publisher) -> None:
    running = asyncio.create_task(publisher.run())
    await ending.wait()
    running.cancel()
    await asyncio.wait([running])
    await publisher.withdraw()


async def _follow(publisher: Publisher, ask: Callable[[], Awaitable[bool]]) -> None:
    while True:
        publisher.want(await ask())
        await asyncio.sleep(_ASK)


async def is_ready(url: str) -> bool:
    """Ask a gateway on this machine whether it is ready.

    Args:
        url: http://host:port/readyz, https://..., or unix:/path for a socket. No certificate is checked: nothing secret
            is sent, and the name in it is that of another address.

    """
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await _connected(url)
            try:
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return (await reader.readline()).startswith(_READY)
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError, ValueError):
        return False


async def _connected(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if url.startswith("unix:"):
        return await asyncio.open_unix_connection(url.removeprefix("unix:"))
    parts = urlsplit(url)
    context = None
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return await asyncio.open_connection(parts.hostname, parts.port, ssl=context)
