"""DNS as a directory: the addresses of a name (A and AAAA), or SRV records. It needs dnspython.

    stock.prod.svc.cluster.local:9000      each address of the name, with this port
    _rpc._tcp.stock.prod.example           SRV: names, ports, priorities and weights

It is asked again when the answer's time to live is over. A name that does not exist, or has no such records, has no
instances; a server that fails or is silent is away.
"""

import asyncio
import random
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import dns.asyncresolver
import dns.exception
import dns.message
import dns.nameserver
import dns.rdatatype
import dns.resolver
from msgspec import Meta

from gateway.fleet.directories.addresses import checked, joined
from gateway.fleet.directories.options import DirectoryOptions
from gateway.fleet.directories.watching import Away, Complain
from gateway.fleet.listing import Instance

_LIFETIME = 2.0  # seconds that an answer may take, over all servers
_SOONEST, _LATEST = 1.0, 30.0  # seconds between two questions, whatever the time to live is
_TARGETS = 10  # names of SRV records that are looked up at once
_SERVICE = re.compile(r"_[^\s:]+|[^\s:_][^\s:]*:[1-9][0-9]{0,4}")
_FAMILIES = {"any": ("A", "AAAA"), "ipv4": ("A",), "ipv6": ("AAAA",)}


class DNSOptions(DirectoryOptions, frozen=True, kw_only=True):
    """The options of DNS."""

    nameservers: Annotated[
        tuple[
            Annotated[
                str,
                Meta(
                    pattern=r"^(?:[0-9.]+|[0-9.]+:[0-9]{1,5}|[0-9a-fA-F:.]+|\[[0-9a-fA-F:.]+\]:[0-9]{1,5})$",
                    description="an address like 10.0.0.2, 10.0.0.2:5353 or [::1]:5353",
                ),
            ],
            ...,
        ],
        Meta(description="The addresses of the servers that are asked; those of the system if empty."),
    ] = ()
    family: Annotated[Literal["any", "ipv4", "ipv6"], Meta(description="Which addresses of a name are instances.")] = (
        "any"
    )


class DNSKind:
    """Asks the servers of the system, or those that are configured."""

    Options: ClassVar[type[DirectoryOptions]] = DNSOptions

    def __init__(self, options: DNSOptions) -> None:
        try:
            self._resolver = dns.asyncresolver.Resolver(configure=not options.nameservers)
        except dns.exception.DNSException as error:
            raise ValueError(f"the servers of the system are not known ({error}); set nameservers") from None
        self._resolver.use_edns(0, 0, 1232)
        if options.nameservers:
            self._resolver.nameservers = [_server(text) for text in options.nameservers]
        self._families = _FAMILIES[options.family]

    def lookup(self, service: str, complain: Complain) -> "_DNSLookup":
        """Prepare to ask for a name: ``name:port``, or one of SRV records without a port."""
        return _DNSLookup(self._resolver, self._families, service, complain)

    def problem_of(self, service: str) -> str:
        """Say what is wrong with the name of a service."""
        if _SERVICE.fullmatch(service):
            return ""
        return "expected name:port, or the name of SRV records, which begins with _"

    async def close(self) -> None:
        """No connection is open between two questions."""


def _server(text: str) -> dns.nameserver.Nameserver:
    if text.count(":") > 1 and not text.startswith("["):
        return dns.nameserver.Do53Nameserver(text)
    host, colon, port = text.partition("]:") if text.startswith("[") else text.partition(":")
    return dns.nameserver.Do53Nameserver(host.lstrip("["), int(port) if colon else 53)


class _DNSLookup:
    def __init__(
        self, resolver: dns.asyncresolver.Resolver, families: Iterable[str], service: str, complain: Complain
    ) -> None:
        self._resolver, self._families, self._complain = resolver, tuple(families), complain
        self._name, colon, port = service.rpartition(":")
        self._port = int(port) if colon and port.isdecimal() else None
        if self._port is None:
            self._name = service
        self._live = _LATEST

    async def read(self) -> list[Instance]:
        self._live = _LATEST
        if self._port is None:
            return await self._services()
        addresses = await self._addresses(self._name)
        name = self._name.rstrip(".")
        return [Instance(address=joined(each, self._port), server_name=name) for each in addresses]

    async def changed(self) -> bool:
        live = max(self._live, _SOONEST)
        await asyncio.sleep(live * random.uniform(0.9, 1.1))  # noqa: S311 - so that workers do not ask at once
        return True

    async def _services(self) -> list[Instance]:
        """Ask for SRV records, and for the addresses of those names that the answer does not bring along."""
        answer = await self._ask(self._name, "SRV")
        if answer is None or answer.rrset is None:
            return []
        records: list[Any] = list(answer.rrset)
        names = {str(record.target) for record in records} - {"."}  # which says that there is no such service
        brought = _brought(answer.response, self._families)
        known = {name: brought[name] for name in names if name in brought}
        free = asyncio.Semaphore(_TARGETS)

        async def find(name: str) -> None:
            async with free:
                known[name] = await self._addresses(name)

        await asyncio.gather(*(find(name) for name in sorted(names - known.keys())))
        found: list[Instance] = []
        for record in records:
            target = str(record.target)
            if not known.get(target) and target != ".":
                self._complain(target, "it has no address")
            found += [
                Instance(
                    address=checked(joined(address, record.port)),
                    server_name=target.rstrip("."),
                    weight=max(1, record.weight),
                    priority=record.priority,
                )
                for address in known.get(target, ())
            ]
        return found

    async def _addresses(self, name: str) -> list[str]:
        answers = await asyncio.gather(*(self._ask(name, family) for family in self._families))
        found = [answer.rrset for answer in answers if answer is not None and answer.rrset is not None]
        return [record.address for records in found for record in records]

    async def _ask(self, name: str, kind: str) -> dns.resolver.Answer | None:
        """Ask one question; None where there is no such name."""
        try:
            answer = await self._resolver.resolve(
                name, kind, raise_on_no_answer=False, lifetime=_LIFETIME, search=not name.endswith(".")
            )
        except dns.resolver.NXDOMAIN as error:
            self._live = min([self._live, *(_time_to_live(each) for each in _responses(error))])
            return None
        except dns.resolver.NoNameservers as error:
            raise Away(f"{name}: no server answers: {_reason(error)}") from None
        except dns.exception.Timeout:
            raise Away(f"{name}: no server has answered within {_LIFETIME:g} s") from None
        except (dns.exception.DNSException, OSError) as error:
            raise Away(f"{name}: {error}") from None
        self._live = min(self._live, _time_to_live(answer.response))
        return answer


def _responses(error: dns.resolver.NXDOMAIN) -> Iterable[dns.message.QueryMessage]:
    responses: Mapping[Any, dns.message.QueryMessage] = error.responses()  # type: ignore[no-untyped-call]
    return responses.values()


def _time_to_live(response: dns.message.Message) -> float:
    """Return how long an answer holds, in seconds; of one without records what the zone says of those."""
    try:
        return float(dns.message.QueryMessage.resolve_chaining(response).minimum_ttl)  # type: ignore[arg-type]
    except dns.exception.DNSException:
        return _SOONEST


def _reason(error: dns.resolver.NoNameservers) -> str:
    """Say what the servers have answered, without the question."""
    found = [str(answer) for *_, answer, _ in error.kwargs.get("errors", ())]
    return ", ".join(sorted(set(found))) or "there is none"


def _brought(response: dns.message.Message, families: Iterable[str]) -> dict[str, list[str]]:
    """Return the addresses of names that an answer brings along with what was asked for."""
    kinds = {dns.rdatatype.from_text(family) for family in families}
    found: dict[str, list[str]] = {}
    for records in response.additional:
        if records.rdtype in kinds:
            found.setdefault(str(records.name), []).extend(record.address for record in records)
    return found
