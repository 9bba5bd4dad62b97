"""Puts a gateway into ZooKeeper, and keeps it there as long as it is ready.

    publisher = Publisher(client, "/dubbo", publication)
    publisher.want(ready)          whether it is to be listed
    await publisher.run()          until it is cancelled
    await publisher.withdraw()     at the end: its nodes are removed at once, and not when the session ends

The nodes end with the session, and are made again in each new one. ``drain`` leaves a node of its own beside them,
which stays: while it is there, the gateway is listed with a weight of 0 and takes no new calls. A node holds the path
and all methods as JSON; its name has the methods where they are short.
"""

import asyncio
import logging
import random
from urllib.parse import quote

import msgspec
from msgspec import Struct

from gateway.fleet.directories.zookeeper.client import Client, Lost, Refused
from gateway.fleet.directories.zookeeper.dubbo import instance_of, node_of, providers
from gateway.fleet.directories.zookeeper.jute import JuteError

log = logging.getLogger("gateway.directories")

_PATIENCE = 2.0  # seconds to wait for a connection before that is logged
_AGAIN = (0.5, 1.0)  # seconds between two attempts
_LONGEST = 1000  # characters of all methods in the name of a node
_LOOK = 0.1  # seconds between two looks at whether a gateway has taken note of being drained


class Publication(Struct, frozen=True, kw_only=True):
    """What a gateway says of itself.

    Attributes:
        service: the name that it is found by.
        address: where callers reach it: ``host:port``.
        schemes: the protocols that it is published for.
        path: where calls are POSTed to.
        weight: its share of the calls while it is not drained.
        started: when it became ready, in milliseconds since 1970. It is a part of the nodes' names.
        methods: the names of what it serves.

    """

    service: str
    address: str
    schemes: tuple[str, ...]
    path: str
    version: str = ""
    group: str = ""
    zone: str = ""
    weight: int = 100
    started: int = 0
    methods: tuple[str, ...] = ()

    def nodes(self, weight: int) -> list[str]:
        """Return the names of its nodes, with a weight."""
        methods = ",".join(self.methods)
        if len(methods) > _LONGEST or methods.count(",") != len(self.methods) - 1:  # or a name has one itself
            methods = ""
        told = {"version": self.version, "group": self.group, "zone": self.zone, "methods": methods}
        query = {
            "interface": self.service,
            **{name: value for name, value in told.items() if value},
            "weight": str(weight),
            "timestamp": str(self.started),
            "side": "provider",
            "application": "callgate",
            "dubbo": "2.0.2",
        }
        return [node_of(scheme, self.address, self.path, query) for scheme in self.schemes]

    def data(self) -> bytes:
        """Return what its nodes hold."""
        return msgspec.json.encode({"address": self.address, "path": self.path, "methods": self.methods})


class Publisher:
    """Keeps the nodes of one gateway as they should be.

    Args:
        client: its session, which nothing else may use.
        root: the node that all services are under.
        publication: what it says of itself.

    """

    def __init__(self, client: Client, root: str, publication: Publication) -> None:
        self._client, self._publication = client, publication
        self._providers = providers(root, publication.service)
        self._drained = drained_node(root, publication)
        self._change = asyncio.Event()
        self._is_wanted = False
        self._told = ""
        self._made: dict[str, bytes] = {}  # what its nodes hold, by their paths

    def want(self, listed: bool) -> None:  # noqa: FBT001 - it is what is wanted
        """Say whether it is to be listed from now on."""
        if listed != self._is_wanted:
            self._is_wanted = listed
            self._change.set()

    def serve(self, methods: tuple[str, ...]) -> None:
        """Say which methods there are from now on. It stays listed meanwhile."""
        self._publication = msgspec.structs.replace(self._publication, methods=methods)
        self._change.set()

    async def run(self) -> None:
        """Keep its nodes, in this session and in those after it."""
        self._client.start()
        while True:
            self._change.clear()
            try:
                await self._client.ready(_PATIENCE)
                await self._settle()
                await self._change.wait()
                continue  # at once: until then calls may come that nobody wants
            except (Lost, JuteError) as error:
                self._tell(logging.WARNING, f"the directory is away: {error}")
            except Refused as error:
                self._tell(logging.ERROR, f"the directory refuses it: {self._providers}: {error}")
            await asyncio.sleep(random.uniform(*_AGAIN))  # noqa: S311 - so that gateways do not come at once

    async def withdraw(self) -> None:
        """Remove its nodes, and end the session."""
        self._is_wanted = False
        try:
            async with asyncio.timeout(1.0):
                await self._settle()
        except (Lost, JuteError, Refused, TimeoutError) as error:
            log.warning("the gateway cannot be withdrawn, and is listed until its session ends: %s", error)
        await self._client.close()

    async def _settle(self) -> None:
        """Have those nodes there that should be, made by this session, and no others of this gateway."""
        publication = self._publication
        drained = await self._client.exists(self._drained, self._change.set)
        weight = 0 if drained else publication.weight
        wanted = publication.nodes(weight) if self._is_wanted else []
        for node in wanted:
            await self._have(f"{self._providers}/{node}")
        others = {*publication.nodes(0), *publication.nodes(publication.weight)}.difference(wanted)
        paths = {f"{self._providers}/{node}" for node in others} | self._made.keys()
        for path in paths.difference(f"{self._providers}/{node}" for node in wanted):
            await self._client.delete(path)
            self._made.pop(path, None)
        where = ", ".join(f"{scheme}://{publication.address}" for scheme in publication.schemes)
        if not wanted:
            self._tell(logging.INFO, "it is not listed, because it is not ready")
        elif drained:
            self._tell(logging.WARNING, f"it is drained: listed as {where} with a weight of 0")
        else:
            self._tell(logging.INFO, f"listed as {where}")

    async def _have(self, path: str) -> None:
        found = await self._client.exists(path, self._change.set)
        data = self._publication.data()
        if found is not None and found.owner == self._client.session:
            if self._made.get(path, data) != data:
                await self._client.write(path, data)
                self._made[path] = data
            return
        if found is not None:  # it is of an earlier life, and would vanish with that
            await self._client.delete(path)
        else:
            await self._client.make(self._providers)
        if await self._client.create(path, data, ephemeral=True):
            self._made[path] = data
            await self._client.exists(path, self._change.set)
        else:
            self._change.set()  # somebody else has made it meanwhile

    def _tell(self, level: int, what: str) -> None:
        if what != self._told:
            self._told = what
            log.log(level, "published service %s: %s", self._publication.service, what)


def drained_node(root: str, publication: Publication) -> str:
    """Return the path of the node that says that a gateway is drained."""
    above = providers(root, publication.service).removesuffix("providers")
    return f"{above}drained/{quote(publication.address, safe='')}"


async def drain(client: Client, root: str, publication: Publication, *, drained: bool, seconds: float) -> str:
    """Say that a gateway is to take no new calls, or that it is to take them again, and see whether it takes note.

    Returns:
        what keeps that from being so within the seconds; empty where nothing does.

    Raises:
        Lost: there is no connection.
        Refused: this login may not do that.

    """
    await client.ready(_PATIENCE)
    node = drained_node(root, publication)
    if drained:
        await client.make(node)
    else:
        await client.delete(node)
    end = asyncio.get_running_loop().time() + seconds
    while True:
        weights = await _weights(client, providers(root, publication.service), publication.address)
        if weights and all((weight == 0) == drained for weight in weights):
            return ""
        if asyncio.get_running_loop().time() >= end:
            return "it has taken no note of that yet" if weights else "it is not listed at the moment"
        await asyncio.sleep(_LOOK)


async def _weights(client: Client, path: str, address: str) -> list[int]:
    found = []
    for name in await client.children(path, _nobody) or ():
        try:
            instance = instance_of(name)
        except ValueError:
            continue
        if instance is not None and instance.address == address:
            found.append(instance.weight)
    return found


def _nobody() -> None:
    """Take no note of a change."""
