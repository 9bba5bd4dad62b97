"""Upstreams in service: their methods in a registry, their calls with one way to fail.

    UpstreamService(name, options, limits)   UpstreamConfigError: it cannot be made as it is configured
    service.add_known(registry)     the methods that the configuration or an IDL file names, before anything is reached
    service.discover(registry)      the others, as soon as the upstream can be asked: a coroutine that runs until then
    introduce(services, registry)   the same for all upstreams of a process that starts; it waits a second at most
    service.passing(name)           the method that passes on a name which fits a pattern of ``methods``
    service.absent(name)            Unavailable for a name that may turn out to be one of its methods
    service.survey(registry)        one attempt of it, for ``gateway upstreams``
    service.status                  how the upstream is

What an adapter raises becomes the caller's fault here: a Fault as it is, an exception by the adapter's own table. A
call that was certainly not sent is sent once more, and so is one that may have been, if its method is idempotent;
nothing else ever is. ``data["sent"]`` of Unavailable, BadUpstream and DeadlineExceeded tells the caller how far it
came. The reason is in the log: when the upstream goes down, and for responses that do not follow the protocol.
"""

import asyncio
import functools
import random
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from gateway.methods import RESERVED, Method, MethodOptions, Param, RegistrationError, Registry, fitting
from gateway.methods.shapes import Shape, shape_of
from gateway.model.calls import Params, current_context
from gateway.model.faults import (
    BadUpstream,
    DeadlineExceeded,
    Fault,
    GatewayFault,
    MethodNotFound,
    Overloaded,
    Unavailable,
    detached,
)
from gateway.model.limits import Limits
from gateway.upstreams import Invocation, Options, Parameter, Signature, upstream_class
from gateway.upstreams.arguments import arranged
from gateway.upstreams.faults import MOST_SHOWN, is_answer, reason
from gateway.upstreams.naming import Names, configured, fits, is_pattern, is_plain
from gateway.upstreams.status import Status, log

_DESCRIBE = 5.0  # seconds that an upstream has to tell its methods
_INTRODUCTION = 1.0  # seconds that a process waits for them when it starts
_FIRST_PAUSE = 0.2  # seconds between two attempts to ask it, twice as long each time
_LAST_PAUSE = 5.0
_MARGIN = 0.005  # seconds before the caller's deadline, so that it hears from here how far the call has come
_MOST_LEARNED = 1000  # names that have been passed on so and count for themselves; more are counted by the pattern
_TOLD_HOW_FAR = (Unavailable, BadUpstream, DeadlineExceeded)


class UpstreamService:
    """One upstream in service.

    Attributes:
        status: see Status.
        asked: set when the upstream's methods are known, or it has been asked for them once, with whatever outcome.
        running: calls that run, those that wait for a connection too.

    """

    def __init__(self, name: str, options: Options, limits: Limits) -> None:
        kind = upstream_class(options.url)
        self.name = name
        self.options = options
        self.status = Status(name, options.url)
        self.asked = asyncio.Event()
        self.running = 0
        self._retry_after = limits.retry_after
        self._takes = kind.takes
        self._failures = kind.failures
        self._upstream = kind(options, limits)
        self._names = Names(name, options)
        self._is_described = False
        self._patterns: list[tuple[str, Method]] = []
        self._learned = 0
        self._registry: Registry | None = None

    @property
    def address(self) -> str:
        """The address of the upstream, as it is shown."""
        return self.options.url

    def add_known(self, registry: Registry) -> None:
        """Add the methods that are known without asking.

        Raises:
            RegistrationError: a name is taken or unusable, or a method cannot be served.

        """
        self._registry = registry
        signatures = list(configured(self.options)) or self._upstream.known()
        if signatures is not None:
            self._is_described = True
            for signature in signatures:
                self._add(signature, registry)

    async def discover(self, registry: Registry) -> None:
        """Ask the upstream for its methods until it tells them, and add them. Nothing to do where they are known."""
        pause = _FIRST_PAUSE
        while not self._is_described:
            await self.survey(registry)
            self.asked.set()
            if self.status.state == "up":
                return
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - so that workers do not ask at once
            pause = min(2 * pause, _LAST_PAUSE)
        self.asked.set()

    async def survey(self, registry: Registry) -> None:
        """Ask the upstream once, and add what it tells unless its methods are known."""
        signatures, said = await self._ask()
        if signatures is not None and not self._is_described:
            self._add_all(signatures, registry)
        elif self.status.state == "up" and not self._is_described:
            self._is_described = True
            self.status.complain(f"it does not tell its methods: name them in the configuration, methods = [...]{said}")

    async def _ask(self) -> tuple[list[Signature] | None, str]:
        """Reach the upstream and ask for its methods; return what it says instead, too.

        A fault of its own is an answer: it is up. Where it cannot be reached, ``status`` says why.
        """
        deadline = time.monotonic() + _DESCRIBE
        try:
            async with asyncio.timeout(_DESCRIBE) as scope:
                signatures = await self._upstream.describe(deadline)
        except Fault as fault:
            if is_answer(fault):
                self.status.note_up()
                return None, f"; it answers: {' '.join(fault.message.split())[:MOST_SHOWN]}"
            self.status.note_down(fault.message)
        except Exception as error:  # noqa: BLE001 - those in no table are logged
            if self._translated(error) is None:
                log.exception("upstream %s: its adapter failed", self.name)
            self.status.note_down(f"no answer within {_DESCRIBE:g} s" if scope.expired() else reason(error))
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
        if self._is_described or self._names.theirs(name) is None:
            return None
        return Unavailable("the upstream has not been reached yet", sent="no")

    async def close(self) -> None:
        """Close the connections."""
        await self._upstream.close()

    def _add_all(self, signatures: Iterable[Signature], registry: Registry) -> None:
        self._is_described = True
        for signature in signatures:
            try:
                self._add(signature, registry)
            except RegistrationError as error:
                self.status.complain(f"left out: {error}")
        log.info("upstream %s: methods: %d", self.name, self.status.methods)

    def _add(self, signature: Signature, registry: Registry) -> None:
        if self._names.is_offered(signature.name):
            if signature.refused:
                raise RegistrationError(f"{signature.name} {signature.refused}; leave it out with hide")
            made = self._method(signature)
            registry.add(made)
            self.status.methods += 1
            if is_pattern(signature.name):
                self._patterns.append((signature.name, made))

    def _method(self, signature: Signature) -> Method:
        """Make a method like any other of what the upstream tells."""
        name = self._names.ours(signature.name)
        patterns = self.options.timeout.items()
        timeout = next((seconds for pattern, seconds in patterns if fnmatchcase(signature.name, pattern)), None)
        params = tuple(_param(parameter) for parameter in signature.params or ())
        anything = signature.params is None
        bare = signature.only if self.options.bare else None
        return Method(
            name=name,
            function=functools.partial(self._pass if is_pattern(signature.name) else self._call, signature),
            doc=signature.doc,
            run="async",
            params=params,
            positional=params,
            rest=_param(Parameter(name="params", required=False)) if anything and self._takes != "dict" else None,
            others=_param(Parameter(name="")) if anything and self._takes != "list" else None,
            hidden=frozenset(),
            result=signature.result if bare is None else bare[1],
            context=None,
            options=MethodOptions(name=name, timeout=timeout),
            place=f"upstreams.{self.name} ({self.address})",
        )

    async def _pass(self, pattern: Signature, /, *args: Any, **kwargs: Any) -> Any:
        """Call what the caller has named. As soon as the upstream has answered it, it is a method like any other."""
        signature = msgspec.structs.replace(pattern, name=self._names.theirs(current_context().called) or pattern.name)
        try:
            value = await self._call(signature, *args, **kwargs)
        except Fault as fault:
            if is_answer(fault) and not isinstance(fault, MethodNotFound):
                self._learn(signature)
            raise
        self._learn(signature)
        return value

    def _learn(self, signature: Signature) -> None:
        if self._registry is not None and self._learned < _MOST_LEARNED and not is_pattern(signature.name):
            with suppress(RegistrationError):  # a call beside this one has added it
                self._registry.add(self._method(signature))
                self._learned += 1

    async def _call(self, signature: Signature, /, *args: Any, **kwargs: Any) -> Any:
        """Call the upstream with arguments that fit."""
        params = arranged(signature, args, kwargs, self._takes)
        if self.running >= self.options.calls:
            raise Overloaded(
                f"the upstream has {self.running} calls, and may have no more", retry_after=self._retry_after
            )
        self.running += 1
        try:
            value = await self._twice(signature, params)
        finally:
            self.running -= 1
        return _unwrapped(signature, value) if self.options.bare else value

    async def _twice(self, signature: Signature, params: Params) -> Any:
        """Call once, and once more if that can do no harm."""
        context = current_context()
        idempotent = fits(signature.name, self.options.idempotent)
        for last in (False, True):
            invocation = Invocation(
                method=signature.name,
                params=params,
                deadline=context.deadline - _MARGIN,
                request_id=context.request_id,
            )
            try:
                return await self._once(invocation)
            except Unavailable as fault:
                is_safe = invocation.sent == "no" or (invocation.sent == "maybe" and idempotent)
                if last or not is_safe or "retry_after" in fault.data:
                    raise
        raise AssertionError  # the last attempt has returned or raised

    async def _once(self, invocation: Invocation) -> Any:
        """Call the upstream, and note how it is.

        Raises:
            Fault: what the caller is told.

        """
        try:
            async with asyncio.timeout(invocation.time_left) as scope:
                value = await self._upstream.call(invocation)
        except Fault as fault:
            raise self._judged(fault, fault.message, invocation) from None
        except Exception as error:
            late = self._late(invocation) if scope.expired() else None
            told = late or self._translated(error)
            if told is None:
                raise
            raise self._judged(told, late.detail if late else reason(detached(error)), invocation) from None
        self.status.note_up()
        return value

    def _late(self, invocation: Invocation) -> DeadlineExceeded:
        if invocation.waits:
            self.status.note_no_connection(self.options.connections)
            return DeadlineExceeded("no connection to the upstream became free in time")
        if invocation.sent == "no":
            return DeadlineExceeded("the request could not be sent to the upstream in time")
        return DeadlineExceeded("no response from the upstream in time")

    def _translated(self, error: Exception) -> Fault | None:
        """Look an exception up in the adapter's table."""
        found = next((kind for kind in type(error).__mro__ if kind in self._failures), None)
        return None if found is None else self._failures[found](error)

    def _judged(self, fault: Fault, why: str, invocation: Invocation) -> Fault:
        """Note what a failure says of the upstream, and let the caller know how far the call has come."""
        if isinstance(fault, Unavailable):
            self.status.note_down(why)
        elif invocation.sent == "yes":
            self.status.note_up()
        if not isinstance(fault, GatewayFault):
            return fault
        if isinstance(fault, BadUpstream) or ("http_status" in fault.data and not isinstance(fault, Unavailable)):
            self.status.error = why
            log.warning("upstream %s: %s (request %s)", self.name, why, invocation.request_id)
        if not isinstance(fault, _TOLD_HOW_FAR):
            return fault
        self.status.error = why
        return type(fault)(fault.detail, **{**fault.data, "sent": invocation.sent})


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


def _param(parameter: Parameter) -> Param:
    return Param(
        name=parameter.name,
        hint=parameter.hint,
        fits=fitting(parameter.hint),
        shape=Shape() if parameter.hint is Any else shape_of(parameter.hint),
        required=parameter.required,
        default=parameter.default,
        positional=True,
        named=True,
    )


def _unwrapped(signature: Signature, value: Any) -> Any:
    return value if signature.only is None else value.get(signature.only[0])
