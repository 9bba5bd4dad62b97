"""Upstreams in service: their methods in a registry.

    UpstreamService(name, options, limits, ...)   UpstreamConfigError: it cannot be made as it is configured
    service.add_known(registry)     the methods that the configuration or an IDL file names, before anything is reached
    service.discover(registry)      the others, as soon as the upstream can be asked: a coroutine that runs until then
    introduce(services, registry)   the same for all upstreams of a process that starts; it waits a second at most
    service.passing(name)           the method that passes on a name which fits a pattern of ``methods``
    service.absent(name)            Unavailable for a name that may turn out to be one of its methods
    service.survey(registry)        one attempt of it, for ``gateway upstreams``; again when it has come back
    service.status                  how the upstream is; calling.py has its calls

Of upstreams that have a method of the same name, the one that is first in the file has it, whichever is reached first;
methods of the gateway's own stay. A name that a pattern has passed on yields to a method that an upstream tells.
"""

import asyncio
import functools
import random
import time
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing, suppress
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypeAlias

import msgspec

from gateway.fleet.listing import Directory
from gateway.methods import RESERVED, Begin, Method, MethodOptions, Param, RegistrationError, Registry, fitting
from gateway.methods.published import Told, published
from gateway.methods.shapes import Shape, shape_of
from gateway.model.calls import current_context
from gateway.model.durations import Durations
from gateway.model.faults import Fault, MethodNotFound, Unavailable
from gateway.model.limits import Limits
from gateway.upstreams import Beginner, Options, Parameter, Signature, Streamer, Upstream, upstream_class
from gateway.upstreams.again import Again
from gateway.upstreams.calling import UpstreamCalls
from gateway.upstreams.counting import Counts
from gateway.upstreams.faults import MOST_SHOWN, is_answer, reason
from gateway.upstreams.instances import Instances
from gateway.upstreams.naming import Names, configured, is_pattern, is_plain, may_run_twice, unmatched
from gateway.upstreams.status import Status, log

_DESCRIBE = 5.0  # seconds that an upstream has to tell its methods
_INTRODUCTION = 1.0  # seconds that a process waits for them when it starts
_FIRST_PAUSE = 0.2  # seconds between two attempts to ask it, twice as long each time
_LAST_PAUSE = 5.0
_LONGEST_NAME = 500  # characters of a method's name; it is in each log line of a call
_MOST_LEARNED = 1000  # names that have been passed on so and count for themselves; more are counted by the pattern


class _Claim(NamedTuple):
    """Who has a name, and how it ranks: a lower rank takes the name over."""

    rank: tuple[bool, int]  # whether a pattern has passed it on; the place of the upstream in the file
    upstream: str
    status: Status


Claims: TypeAlias = dict[str, _Claim]
"""The names that upstreams of one gateway have."""


class UpstreamService:
    """One upstream in service.

    ``claims`` is shared by the upstreams of a gateway, and ``order`` is the place of this one in the file. ``fake`` is
    used in the place of the adapter for the URL. Calls at an instance that is listed no longer have ``drain`` seconds.

    Attributes:
        status: see Status.
        instances: its instances; None where there is one, whose state is the upstream's own.
        asked: set when the upstream's methods are known, or it has been asked for them once, with whatever outcome.
        is_described: whether its methods are known.
        unmatched: entries of its options that match no method, as far as its methods are known.
        shadowed: what is said of its known methods that an upstream before it in the file has.

    """

    def __init__(  # noqa: PLR0913 - only a gateway gives all of them
        self,
        name: str,
        options: Options,
        limits: Limits,
        claims: Claims | None = None,
        order: int = 0,
        *,
        fake: Upstream | None = None,
        directory: Directory | None = None,
        drain: float = 10.0,
    ) -> None:
        self.name = name
        self.options = options
        self.status = Status(name, options.shown)
        self.asked = asyncio.Event()
        self.is_described = False
        self.unmatched: list[str] = []
        self.shadowed: list[str] = []
        self._upstream = upstream_class(options.form)(options, limits) if fake is None else fake
        self.instances: Instances | None = None
        counts = Counts()
        if options.is_spread and fake is None:
            self.instances = Instances(name, self._upstream, options, self.status, counts, directory, drain=drain)
        self._takes = self._upstream.takes
        self._calls = UpstreamCalls(name, self._upstream, options, limits, self.status, counts, self.instances)
        self._claims = {} if claims is None else claims
        self._order = order
        self._names = Names(name, options)
        self._patterns: list[tuple[str, Method]] = []
        self._learned = 0
        self._documents: dict[int, Told] = {}
        self._registry: Registry | None = None
        self._told_methods: dict[str, Signature] = {}  # what the upstream itself has told
        self._again = Again(self._ask_again)

    @property
    def address(self) -> str:
        """The address of the upstream, as it is shown."""
        return self.options.shown

    @property
    def place(self) -> str:
        """Where its methods come from, as ``Method.place`` has it."""
        return f"upstreams.{self.name} ({self.address})"

    @property
    def running(self) -> int:
        """How many calls run, those that wait for a connection too."""
        return self._calls.running

    def measured(self) -> dict[tuple[str, ...], float | Durations]:
        """Measure how it is now, and take what has been counted since the last time, as the metrics have it."""
        return self._calls.measured()

    def add_known(self, registry: Registry) -> None:
        """Add the methods that are known without asking.

        Raises:
            RegistrationError: a name is taken by the gateway's own methods or unusable, or a method cannot be served.

        """
        self._registry = registry
        signatures = list(configured(self.options)) or self._upstream.known()
        if signatures is not None:
            self.is_described = True
            for signature in signatures:
                first = self._claims.get(self._names.ours(signature.name))
                if first is None or first.upstream == self.name or not self._names.is_offered(signature.name):
                    self._add(signature, registry)
                else:
                    self.shadowed.append(
                        f"{self._names.ours(signature.name)!r} is a method of upstreams.{first.upstream}, which comes"
                        " first in the file; rename one of them"
                    )
            self.unmatched = unmatched(self.options, signatures)

    async def discover(self, registry: Registry) -> None:
        """Ask the upstream for its methods until it tells them, and add them. Nothing is asked where they are known."""
        pause = _FIRST_PAUSE
        for problem in self.shadowed:
            self.status.complain(problem)
        await self.follow()
        while not self.is_described:
            await self.survey(registry)
            self.asked.set()
            if self.status.state == "up":
                return
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - so that workers do not ask at once
            pause = min(2 * pause, _LAST_PAUSE)
        self.asked.set()

    async def follow(self) -> None:
        """Watch its directory, if it has one, and wait until it is known which instances there are."""
        if self.instances is not None:
            await self.instances.follow()

    async def survey(self, registry: Registry) -> None:
        """Ask the upstream once, and add what it tells unless its methods are known."""
        signatures, said = await self._ask()
        if signatures is not None and not self.is_described:
            self._registry = registry
            self._add_all(signatures, registry)
            self._told_methods = {each.name: each for each in signatures}
            self.status.came_back = self._again.soon
        elif self.status.state == "up" and not self.is_described:
            self.is_described = True
            self.status.complain(f"it does not tell its methods: name them in the configuration, methods = [...]{said}")

    async def _ask(self) -> tuple[list[Signature] | None, str]:
        """Reach the upstream and ask for its methods; return its fault as a text, too.

        A fault of its own is a response: it is up. Where it cannot be reached, ``status.error`` has the reason.
        """
        deadline = time.monotonic() + _DESCRIBE
        try:
            async with asyncio.timeout(_DESCRIBE) as scope:
                signatures = await (self.instances or self._upstream).describe(deadline)
        except Fault as fault:
            if is_answer(fault):
                self.status.note_up()
                return None, f"; it responds: {' '.join(fault.message.split())[:MOST_SHOWN]}"
            self.status.note_down(fault.message)
        except Exception as error:  # noqa: BLE001 - those in no table are logged
            if self._calls.translated(error) is None:
                log.exception("upstream %s: its adapter failed", self.name)
            self.status.note_down(f"no response within {_DESCRIBE:g} s" if scope.expired() else reason(error))
        else:
            self.status.note_up()
            return signatures, ""
        return None, ""

    def passing(self, name: str) -> Method | None:
        """Return the method of the first pattern that fits a name."""
        theirs = self._names.theirs(name) if self._patterns and is_plain(name) else None
        if theirs is None or name.startswith(RESERVED) or not self._names.is_offered(theirs):
            return None
        return next((found for pattern, found in self._patterns if fnmatchcase(theirs, pattern)), None)

    def absent(self, name: str) -> Unavailable | None:
        """Return the fault for a name that nobody knows yet."""
        if self.is_described or self._names.theirs(name) is None:
            return None
        return Unavailable("the upstream has not been reached yet", sent="no")

    async def close(self) -> None:
        """Close the connections."""
        self._again.close()
        await (self.instances or self._upstream).close()

    async def _ask_again(self) -> None:
        """Ask for the methods once more, and take those that are new or have changed; how it is, its calls show."""
        deadline = time.monotonic() + _DESCRIBE
        try:
            async with asyncio.timeout(_DESCRIBE):
                signatures = await (self.instances or self._upstream).describe(deadline)
        except Exception as error:  # noqa: BLE001 - those that it had are served on
            log.debug("upstream %s: it does not tell its methods again: %s", self.name, reason(error))
            return
        others = [each for each in signatures or () if self._told_methods.get(each.name) != each]
        if others and self._registry is not None:
            self._told_methods |= {each.name: each for each in others}
            for signature in others:
                self._change(signature, self._registry)
            log.info("upstream %s: methods that are new or have changed: %d", self.name, len(others))

    def _change(self, signature: Signature, registry: Registry) -> None:
        """Put a method into the place of what the upstream had under its name, or add it."""
        try:
            found = self._claims.get(self._names.ours(signature.name))
            if found is not None and found.upstream == self.name and not found.rank[0]:
                registry.replace(self._method(signature))
            else:
                self._add(signature, registry)
        except RegistrationError as error:
            self.status.complain(f"left out: {error}")

    def _add_all(self, signatures: list[Signature], registry: Registry) -> None:
        self.is_described = True
        for signature in signatures:
            try:
                self._add(signature, registry)
            except RegistrationError as error:
                self.status.complain(f"left out: {error}")
        self.unmatched = unmatched(self.options, signatures)
        for problem in self.unmatched:
            self.status.complain(problem)
        log.info("upstream %s: methods: %d", self.name, self.status.methods)

    def _add(self, signature: Signature, registry: Registry) -> None:
        if self._names.is_offered(signature.name):
            if len(signature.name) > _LONGEST_NAME:
                raise RegistrationError(f"{signature.name[:50]}...: the name has more than {_LONGEST_NAME} characters")
            if signature.refused:
                raise RegistrationError(f"{signature.name} {signature.refused}; leave it out with hide")
            made = self._method(signature)
            self._claim(made, registry)
            self.status.methods += 1
            if is_pattern(signature.name):
                self._patterns.append((signature.name, made))

    def _claim(self, made: Method, registry: Registry, *, is_learned: bool = False) -> None:
        """Add a method, or put it in the place of one of an upstream that is further down in the file.

        Raises:
            RegistrationError: the name is unusable, or something else has it that goes before.

        """
        claim, found = _Claim((is_learned, self._order), self.name, self.status), self._claims.get(made.name)
        if found is None or found.rank <= claim.rank:
            registry.add(made)
        else:
            registry.replace(made)
            if not found.rank[0]:
                found.status.methods -= 1
                self.status.complain(
                    f"{made.name!r} was a method of upstreams.{found.upstream} until now; rename one of them"
                )
        self._claims[made.name] = claim

    def _method(self, signature: Signature) -> Method:
        """Make a method like any other of what the upstream tells."""
        name = self._names.ours(signature.name)
        patterns = self.options.timeout.items()
        timeout = next((seconds for pattern, seconds in patterns if fnmatchcase(signature.name, pattern)), None)
        params = tuple(_param(each, int_texts=self.options.int64 == "text") for each in signature.params or ())
        anything = signature.params is None
        bare = signature.only if self.options.bare else None
        text = self.options.docs.get(signature.name)
        told = signature.openrpc if text is None else _described(signature.openrpc, text)
        return Method(
            name=name,
            function=functools.partial(self._pass if is_pattern(signature.name) else self._call, signature),
            doc=signature.doc if text is None else text,
            run="async",
            params=params,
            positional=params,
            rest=_ANYTHING if anything and self._takes != "dict" else None,
            others=_ANYTHING if anything and self._takes != "list" else None,
            hidden=frozenset(),
            result=signature.result if bare is None else bare[1],
            context=None,
            options=MethodOptions(name=name, timeout=timeout),
            place=self.place,
            published=published(told, signature.signatures, self._told(signature)),
            begin=self._begin(signature),
            idempotent=may_run_twice(signature, self.options),
            **self._streaming(signature),
        )

    def _streaming(self, signature: Signature) -> dict[str, Any]:
        """Return what makes a method stream."""
        upstream = self._upstream
        if not isinstance(upstream, Streamer) or not (signature.streams or upstream.unannounced):
            return {}
        stream = self._pass_stream if is_pattern(signature.name) else self._calls.stream
        made: dict[str, Any] = {"streams": True, "perhaps": not signature.streams}
        if signature.message is not None:
            made["message"] = _param(
                Parameter(name="message", hint=signature.message), int_texts=self.options.int64 == "text"
            )
        return made | {"stream": functools.partial(stream, signature)}

    def _begin(self, signature: Signature) -> Begin | None:
        """Return what begins the calls of a method; what a pattern passes on is looked at by the coroutine."""
        is_able = isinstance(self._upstream, Beginner) and not is_pattern(signature.name)
        return functools.partial(self._calls.begin, signature) if is_able else None

    def _told(self, signature: Signature) -> Told:
        """Return the components of the signature's document, which all methods of a document share."""
        told = self._documents.get(id(signature.components))
        if told is None:
            told = self._documents[id(signature.components)] = Told(self.name, signature.components)
        return told

    async def _pass(self, pattern: Signature, /, *args: Any, **kwargs: Any) -> Any:
        """Call what the caller has named. Once the upstream has responded to it, it is a method like any other."""
        signature = self._called(pattern)
        try:
            value = await self._call(signature, *args, **kwargs)
        except Fault as fault:
            if is_answer(fault) and not isinstance(fault, MethodNotFound):
                self._learn(signature)
            raise
        self._learn(signature)
        return value

    async def _pass_stream(self, pattern: Signature, /, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        """Do the same for a call whose values come one by one."""
        signature = self._called(pattern)
        async with aclosing(self._calls.stream(signature, *args, **kwargs)) as values:
            async for value in values:
                self._learn(signature)
                yield value

    def _called(self, pattern: Signature) -> Signature:
        return msgspec.structs.replace(pattern, name=self._names.theirs(current_context().called) or pattern.name)

    def _learn(self, signature: Signature) -> None:
        if self._registry is not None and self._learned < _MOST_LEARNED and not is_pattern(signature.name):
            with suppress(RegistrationError):  # a call beside this one has added it
                self._claim(self._method(signature), self._registry, is_learned=True)
                self._learned += 1

    async def _call(self, signature: Signature, /, *args: Any, **kwargs: Any) -> Any:
        return await self._calls.call(signature, args, kwargs)


async def introduce(services: Collection[UpstreamService], registry: Registry) -> list[asyncio.Task[None]]:
    """Begin to ask all upstreams for their methods; return the tasks that do it.

    So that callers of a process that takes over from another one find the same methods, it waits until all have been
    asked once, but not for an upstream that is silent.
    """
    tasks = [asyncio.create_task(each.discover(registry)) for each in services]
    with suppress(TimeoutError):
        async with asyncio.timeout(_INTRODUCTION):
            await asyncio.gather(*(each.asked.wait() for each in services))
    return tasks


def _described(openrpc: Mapping[str, Any] | None, text: str) -> Mapping[str, Any] | None:
    """Put a text of the configuration in the place of what an OpenRPC method object says."""
    if openrpc is None:
        return None
    return {name: value for name, value in openrpc.items() if name != "summary"} | {"description": text}


def _param(parameter: Parameter, *, int_texts: bool = False) -> Param:
    return Param(
        name=parameter.name,
        hint=parameter.hint,
        fits=fitting(parameter.hint),
        shape=Shape() if parameter.hint is Any else shape_of(parameter.hint),
        int_texts=int_texts,
        required=parameter.required,
        default=parameter.default,
        positional=True,
        named=True,
    )


_ANYTHING = _param(Parameter(name="params", required=False))
