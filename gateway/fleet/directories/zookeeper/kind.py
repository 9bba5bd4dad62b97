"""ZooKeeper as a kind of directory: reads the names of nodes, and is told of changes."""

import asyncio
import random
import re
import ssl
from typing import Annotated, ClassVar

from msgspec import Meta

from gateway.fleet.directories.options import DirectoryOptions
from gateway.fleet.directories.watching import Away, Complain
from gateway.fleet.directories.zookeeper.client import Client, Lost, Refused
from gateway.fleet.directories.zookeeper.dubbo import instance_of, providers
from gateway.fleet.directories.zookeeper.jute import JuteError
from gateway.fleet.listing import Instance
from gateway.model.secrets import Secret

_PATIENCE = 2.0  # seconds to wait for a connection before the directory counts as away
_LOOK = 1.0  # seconds after which a list that has not changed is known to be current
_TURN = 100  # names that are read before others have a turn
_LOGIN = re.compile(r"[^\s:]+:[^\r\n]+")
_SERVICE = re.compile(r"[^\s]+")


class ZooKeeperOptions(DirectoryOptions, frozen=True, kw_only=True):
    """The options of ZooKeeper."""

    servers: Annotated[
        tuple[
            Annotated[
                str,
                Meta(
                    pattern=r"^(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$",
                    description="host:port, like 10.0.0.2:2181",
                ),
            ],
            ...,
        ],
        Meta(min_length=1, description="The servers, host:port of each."),
    ]
    root: Annotated[
        str,
        Meta(
            pattern=r"^/[^\s]*[^\s/]$",
            description="a path like /dubbo; the node that all services are under, with the chroot if there is one.",
        ),
    ] = "/dubbo"
    session: Annotated[
        float,
        Meta(
            ge=1,
            le=3600,
            description="Seconds for which an instance that was killed is still listed. The servers have bounds of"
            " their own, usually 4 to 40.",
        ),
    ] = 10.0
    login: Annotated[
        str | Secret,
        Meta(
            description='name:secret for the scheme digest, or { file = "/path" } or { env = "NAME" } for where that'
            " is; none if empty."
        ),
    ] = ""
    ca: Annotated[
        str,
        Meta(description="A file of authorities, in PEM: connections are encrypted, and the server's name checked."),
    ] = ""
    certificate: Annotated[str, Meta(description="A file with a certificate of the gateway's own, in PEM.")] = ""
    key: Annotated[str, Meta(description="A file with that certificate's private key, in PEM.")] = ""


def client_of(options: ZooKeeperOptions) -> Client:
    """Make a client, which is not connected yet.

    Raises:
        ValueError: a secret cannot be read, or is not a login; or TLS is not configured as a whole.
        OSError: a file of TLS cannot be read.

    """
    try:
        login = options.login if isinstance(options.login, str) else options.login.read()
    except ValueError as error:
        raise ValueError(f"login: {error}") from None
    if options.login and not _LOGIN.fullmatch(login):
        raise ValueError("login: expected name:secret")
    places = [server.rpartition(":") for server in options.servers]
    servers = [(host.strip("[]"), int(port)) for host, _, port in places]
    return Client(servers, options.session, login, _tls(options))


def _tls(options: ZooKeeperOptions) -> ssl.SSLContext | None:
    if (options.certificate or options.key) and not (options.ca and options.certificate and options.key):
        raise ValueError("ca, certificate and key belong together")
    if not options.ca:
        return None
    try:
        context = ssl.create_default_context(cafile=options.ca)
        if options.certificate:
            context.load_cert_chain(options.certificate, options.key)
    except OSError as error:  # also of ssl
        raise ValueError(f"ca, certificate, key: {str(error.strerror or error).lower()}") from None
    return context


class ZooKeeperKind:
    """Reads all services in one session."""

    Options: ClassVar[type[DirectoryOptions]] = ZooKeeperOptions

    def __init__(self, options: ZooKeeperOptions) -> None:
        self._root = options.root
        self._client = client_of(options)

    def lookup(self, service: str, complain: Complain) -> "_NodesLookup":
        """Prepare to read the nodes of a service."""
        self._client.start()
        return _NodesLookup(self._client, providers(self._root, service), complain)

    def problem_of(self, service: str) -> str:
        """Say what is wrong with the name of a service."""
        return "" if _SERVICE.fullmatch(service) else "expected a name without blanks, like com.acme.Stock"

    async def close(self) -> None:
        """End the session."""
        await self._client.close()


class _NodesLookup:
    def __init__(self, client: Client, path: str, complain: Complain) -> None:
        self._client, self._path, self._complain = client, path, complain
        self._change = asyncio.Event()
        self._known: dict[str, Instance | None] = {}  # by the names of nodes: few of many are new

    async def read(self) -> list[Instance]:
        self._change.clear()
        try:
            await self._client.ready(_PATIENCE)
            names = await self._client.children(self._path, self._change.set)
            if names is None and await self._client.exists(self._path, self._change.set) is not None:
                names = await self._client.children(self._path, self._change.set)
        except (Lost, JuteError) as error:
            raise Away(str(error)) from None
        except Refused as error:
            raise Away(f"{self._path}: {error}") from None
        known: dict[str, Instance | None] = {}
        for number, name in enumerate(names or ()):
            if number % _TURN == 0:
                await asyncio.sleep(0)  # a thousand new names take tens of milliseconds
            known[name] = self._known[name] if name in self._known else self._read(name)
        self._known = known
        return [found for found in self._known.values() if found is not None]

    def _read(self, name: str) -> Instance | None:
        try:
            return instance_of(name)
        except ValueError as error:
            self._complain(name, str(error))
            return None

    async def changed(self) -> bool:
        try:
            async with asyncio.timeout(_LOOK * random.uniform(0.9, 1.1)):  # noqa: S311 - not all at once
                await self._change.wait()
        except TimeoutError:
            if not self._client.is_connected:
                raise Away(self._client.error) from None
            return False
        return True
