"""Hooks: what is around calls is asked in order, in each protocol; what it does wrong is told like a method's fault."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xmlrpc.client import Fault as ClientFault
from xmlrpc.client import ServerProxy

import msgspec
import pytest

import gateway
from gateway import (
    AccessDenied,
    Call,
    Caller,
    Config,
    ConfigError,
    Context,
    Fault,
    HTTPRequest,
    LoadError,
    RegistrationError,
    Registry,
    Reply,
    Server,
    StartupError,
    method,
)
from gateway.config import load
from gateway.config.monitoring import MetricsSection
from gateway.model.hooks import Next
from tests.conftest import Logged
from tests.process.fleets import call, fleet, write_handlers
from tests.raw_http import Wire, exchange, request
from tests.serving import eventually

CONFIG = Config(metrics=MetricsSection(bind=""))


def configured(*settings: str) -> Config:
    return load(None, {}, ["metrics.bind=", *settings])


@contextlib.contextmanager
def client(registry: Registry, config: Config = CONFIG) -> Iterator[ServerProxy]:
    with gateway.running(registry, config=config) as server, ServerProxy(server.url, allow_none=True) as proxy:
        yield proxy


def noting(notes: list[str], name: str) -> Callable[[Call, Context, Next], Any]:
    async def note(call: Call, context: Context, next: Next) -> Reply:  # noqa: A002 - as users write it
        notes.append(f"{name}>")
        reply = await next(call, context)
        notes.append(f"<{name}")
        return reply

    return note


def plain(registry: Registry) -> None:
    """Register a method of each kind."""

    @registry.register
    async def on_loop() -> str:
        return "loop"

    @registry.register
    def in_thread() -> str:
        return "thread"

    @registry.register(run="inline")
    def inline() -> str:
        return "inline"


# ---- middleware ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["on_loop", "in_thread", "inline"])
def test_middleware_is_around_each_kind_of_method_in_order(name: str) -> None:
    registry, notes = Registry(), list[str]()
    plain(registry)
    registry.middleware(noting(notes, "first"))
    registry.middleware(noting(notes, "second"))
    with client(registry) as proxy:
        getattr(proxy, name)()
        assert notes == ["first>", "second>", "<second", "<first"]
        getattr(proxy, name)()
        assert len(notes) == 8


def test_middleware_is_around_each_call_of_a_batch_and_of_a_kept_connection() -> None:
    registry, notes = Registry(), list[str]()
    plain(registry)
    registry.middleware(noting(notes, "m"))
    one = b'{"jsonrpc":"2.0","method":"inline","id":1}'
    with gateway.running(registry, config=CONFIG) as server, Wire(server.port) as wire:
        for body in (one, b"[%b,%b]" % (one, one), one):
            wire.send(request("/api", {"Content-Type": "application/json"}, body))
            assert wire.read() is not None
    assert notes == ["m>", "<m"] * 4


def test_middleware_of_a_namespace_and_of_a_mounted_registry_is_around_its_own_methods() -> None:
    notes = list[str]()
    registry, mounted = Registry(), Registry()
    space = registry.namespace("space")
    for each in (registry, space, mounted):
        plain(each)
    registry.middleware(noting(notes, "all"))
    space.middleware(noting(notes, "space"))
    mounted.middleware(noting(notes, "mounted"))
    registry.mount(mounted, "inner.")
    with client(registry, configured(f"server.middleware={__name__}:nothing")) as proxy:
        for name in ("inline", "space.inline", "inner.inline"):
            proxy.__getattr__(name)()
            notes.append("|")
        proxy.system.listMethods()
    told = " ".join(note for note in notes if note.endswith((">", "|")))
    assert told == "all> | all> space> | all> mounted> |"


async def nothing(call: Call, context: Context, next: Next) -> Reply:  # noqa: A002 - as users write it
    seen.append(call.method)
    return await next(call, context)


seen: list[str] = []


def test_middleware_of_the_configuration_is_around_everything() -> None:
    registry = Registry()
    plain(registry)
    seen.clear()
    with client(registry, configured(f"server.middleware={__name__}:nothing")) as proxy:
        proxy.inline()
        proxy.system.listMethods()
        with pytest.raises(ClientFault, match="there is no method missing"):
            proxy.missing()
    assert seen == ["inline", "system.listMethods"]


def test_middleware_changes_calls_and_answers_and_raises_faults(logged: Logged) -> None:
    registry = Registry()

    @registry.register
    def double(number: int) -> int:
        return 2 * number

    @registry.middleware
    async def change(call: Call, context: Context, next: Next) -> Reply:  # noqa: A002 - as users write it
        assert isinstance(call.params, list)
        match call.params[0]:
            case "a fault":
                raise Fault(7, "no")
            case "a bug":
                raise ValueError("secret")
            case "nothing":
                return None  # type: ignore[return-value]  # what is tested
            case "cancelled":
                raise asyncio.CancelledError
            case "short":
                return Reply(value=["short"])
        return await next(msgspec.structs.replace(call, params=[int(call.params[0])]), context)

    with client(registry) as proxy:
        assert proxy.double("21") == 42
        assert proxy.double("short") == ["short"]
        with pytest.raises(ClientFault, match="no") as raised:
            proxy.double("a fault")
        assert raised.value.faultCode == 7
        for wrong in ("a bug", "nothing", "cancelled"):
            with pytest.raises(ClientFault, match="Internal error") as raised:
                proxy.double(wrong)
            assert "secret" not in raised.value.faultString
    assert len(logged.take("in double (request")) == 3


def test_the_deadline_is_that_of_middleware_and_method_together() -> None:
    registry = Registry()

    @registry.register(timeout=0.05, run="inline")
    def quick() -> int:
        return 1

    @registry.middleware
    async def hang(call: Call, context: Context, next: Next) -> Reply:  # noqa: A002 - as users write it
        await asyncio.Event().wait()
        return await next(call, context)

    with client(registry) as proxy, pytest.raises(ClientFault) as raised:
        proxy.quick()
    assert raised.value.faultCode == -32001


def not_async(call: Any, context: Any, next: Any) -> Any: ...  # noqa: A002 - as users write it


async def two(call: Any, context: Any) -> Any: ...


@pytest.mark.parametrize("wrong", [not_async, two])
def test_what_is_not_middleware_is_refused(wrong: Any) -> None:
    with pytest.raises(RegistrationError, match=r"test_hooks.py:\d+ .*write middleware as async def"):
        Registry().middleware(wrong)


@pytest.mark.parametrize(
    ("name", "problem"),
    [("no_such_module:f", "there is no such module"), (f"{__name__}:missing", "no function named missing")],
)
def test_middleware_that_cannot_be_loaded(name: str, problem: str) -> None:
    with pytest.raises(LoadError, match=problem), client(Registry(), configured(f"server.middleware={name}")):
        pass


# ---- exception handlers ----------------------------------------------------------------------------------------------


class Missing(KeyError):
    pass


def raising(registry: Registry) -> Registry:
    @registry.register
    async def on_loop(kind: str) -> None:
        raise {"key": KeyError, "missing": Missing, "value": ValueError}[kind](kind)

    @registry.register
    def in_thread(kind: str) -> None:
        raise {"key": KeyError, "missing": Missing, "value": ValueError}[kind](kind)

    @registry.register(run="inline")
    def inline(kind: str) -> None:
        raise {"key": KeyError, "missing": Missing, "value": ValueError}[kind](kind)

    return registry


@pytest.mark.parametrize("name", ["on_loop", "in_thread", "inline"])
def test_the_handler_of_the_nearest_class_makes_the_fault(name: str, logged: Logged) -> None:
    registry = raising(Registry())
    registry.exception_handler(LookupError)(lambda error, context: Fault(1, f"{context.method} {error!r}"))
    registry.exception_handler(Missing)(lambda error, context: Fault(2, "missing"))
    with client(registry) as proxy:
        for kind, code in (("key", 1), ("missing", 2), ("value", -32603)):
            with pytest.raises(ClientFault) as raised:
                getattr(proxy, name)(kind)
            assert raised.value.faultCode == code
    assert len(logged.take("ValueError")) == 1


def test_a_mounted_registry_has_its_own_handlers_first() -> None:
    inner, outer = raising(Registry()), raising(Registry("outer."))
    inner.exception_handler(KeyError)(lambda error, context: Fault(1, "inner"))
    outer.exception_handler(KeyError)(lambda error, context: Fault(2, "outer"))
    outer.mount(inner, "inner.")
    with client(outer) as proxy:
        for name, code in (("outer.inline", 2), ("outer.inner.inline", 1)):
            with pytest.raises(ClientFault) as raised:
                proxy.__getattr__(name)("key")
            assert raised.value.faultCode == code


def test_a_handler_that_fails_or_returns_no_fault_is_an_internal_error(logged: Logged) -> None:
    registry = raising(Registry())
    registry.exception_handler(KeyError)(lambda error, context: 1 / 0)
    registry.exception_handler(ValueError)(lambda error, context: "no fault")
    with client(registry) as proxy:
        for kind in ("key", "value"):
            with pytest.raises(ClientFault, match="Internal error"):
                proxy.inline(kind)
    assert len(logged.take("ZeroDivisionError")) == len(logged.take("it must return a Fault, not str")) == 1


def test_a_fault_of_the_method_is_its_own() -> None:
    registry = Registry()
    registry.exception_handler(Exception)(lambda error, context: Fault(9, "handled"))

    @registry.register(run="inline")
    def refuse() -> None:
        raise Fault(3, "mine")

    with client(registry) as proxy, pytest.raises(ClientFault, match="mine"):
        proxy.refuse()


async def a_handler(error: Any, context: Any) -> Any: ...


@pytest.mark.parametrize(("kind", "function"), [(KeyError, a_handler), (KeyError, len), ("KeyError", two)])
def test_what_is_not_an_exception_handler_is_refused(kind: Any, function: Any) -> None:
    with pytest.raises(RegistrationError):
        Registry().exception_handler(kind)(function)


# ---- lifespan --------------------------------------------------------------------------------------------------------


def test_lifespans_are_opened_in_order_and_closed_in_the_opposite_one() -> None:
    registry, mounted, notes = Registry(), Registry(), list[str]()

    @registry.lifespan
    async def one(state: SimpleNamespace) -> AsyncIterator[None]:
        state.number = 42
        notes.append("open one")
        yield
        notes.append("close one")

    @registry.on_startup
    def two() -> None:
        notes.append("open two")

    @mounted.on_startup
    async def three(state: SimpleNamespace) -> None:
        notes.append(f"open three {state.number}")

    @registry.on_shutdown
    async def four() -> None:
        notes.append("close four")

    @registry.lifespan
    @contextlib.asynccontextmanager
    async def five() -> AsyncIterator[None]:
        notes.append("open five")
        yield
        notes.append("close five")

    for run in ("inline", "thread"):

        @registry.register(name=run, run=run)
        def number(context: Context) -> int:
            return int(context.state.number)

    @registry.middleware
    async def knows(call: Call, context: Context, next: Next) -> Reply:  # noqa: A002 - as users write it
        assert context.state.number == 42
        return await next(call, context)

    registry.mount(mounted)
    registry.mount(mounted, "again.")
    with client(registry) as proxy:
        assert proxy.inline() == proxy.thread() == 42
    assert notes == ["open one", "open two", "open five", "open three 42", "close five", "close four", "close one"]


def test_a_lifespan_that_cannot_be_opened_keeps_the_server_from_starting() -> None:
    registry, notes = Registry(), list[str]()
    registry.on_shutdown(lambda: notes.append("closed"))

    @registry.on_startup
    async def connect() -> None:
        raise ConnectionRefusedError("the database")

    with (
        pytest.raises(StartupError, match=r"(?s)test_hooks.py:\d+ .*connect.*the start has failed.*the database"),
        client(registry),
    ):
        pass
    assert notes == ["closed"]
    with pytest.raises(StartupError):
        asyncio.run(Server(registry, "127.0.0.1:0", config=CONFIG).start())


def test_what_is_raised_at_the_end_is_logged_and_the_others_are_closed(logged: Logged) -> None:
    registry, notes = Registry(), list[str]()
    registry.on_shutdown(lambda: notes.append("closed"))

    @registry.on_shutdown
    def fail() -> None:
        raise ValueError("at the end")

    with client(registry):
        pass
    assert notes == ["closed"]
    assert len(logged.take("at the end")) == 1


def test_a_lifespan_that_wants_more_than_the_state_is_refused() -> None:
    for mark in (Registry().lifespan, Registry().on_startup, Registry().on_shutdown):
        with pytest.raises(RegistrationError, match="it is given the state"):
            mark(two)


def test_an_asgi_application_opens_and_closes_them() -> None:
    registry, notes = Registry(), list[str]()
    registry.on_startup(lambda: notes.append("open"))
    registry.on_shutdown(lambda: notes.append("close"))
    app = gateway.asgi(registry, config=CONFIG)

    async def check() -> None:
        async with app.lifespan():
            assert notes == ["open"]
        assert notes == ["open", "close"]

    asyncio.run(check())


LIVING = """
import os
from pathlib import Path
from gateway import Context, Registry

registry = Registry()


@registry.lifespan
async def note(state):
    state.opened = os.getpid()
    if Path("fail").exists():
        raise ValueError("no database")
    yield
    Path(f"closed-{os.getpid()}").touch()


@registry.register(run="inline")
def version(context: Context) -> bool:
    return context.state.opened == os.getpid()
"""


@pytest.mark.processes
def test_lifespans_run_in_each_worker_and_one_that_fails_keeps_a_reload_from_it(tmp_path: Path) -> None:
    write_handlers(tmp_path, LIVING)
    with fleet(tmp_path, "server.modules=handlers.some:registry", workers=2) as running:
        assert {call(running.port, "version") for _ in range(10)} == {True}
        (tmp_path / "fail").touch()
        running.process.send_signal(1)
        eventually(lambda: "not reloaded, nothing has changed" in running.log, "it is reloaded")
        assert "no database" in running.log
        assert call(running.port, "version") is True
        running.process.terminate()
        assert running.end() == 0
    assert len(list(tmp_path.glob("closed-*"))) == 2


# ---- authentication --------------------------------------------------------------------------------------------------


def by_name(head: HTTPRequest, caller: Caller) -> Caller | AccessDenied:
    name = head.headers.get("X-Name")
    if name == "crash":
        raise ValueError("secret")
    if name == "wrong":
        return None  # type: ignore[return-value]  # what is tested
    if name is None or name in banned:
        return AccessDenied(401, "no name")
    return msgspec.structs.replace(caller, key=name, claims={"name": name})


banned: set[str] = set()


@pytest.fixture
def named() -> Registry:
    registry = Registry()
    registry.authenticate(by_name)

    @registry.register(run="inline")
    def who(context: Context) -> Any:
        return [context.key, context.caller.claims, context.client]

    return registry


WHO = b'{"jsonrpc":"2.0","method":"who","id":1}'


def who(name: str | None) -> bytes:
    return request("/api", {"Content-Type": "application/json", **({"X-Name": name} if name else {})}, WHO)


def test_an_authentication_of_one_s_own_decides_for_each_request(named: Registry) -> None:
    banned.clear()
    with gateway.running(named, config=CONFIG) as server, Wire(server.port) as wire:
        assert exchange(server.port, who(None)).status == 401
        for _ in range(3):
            wire.send(who("ada"))
            answered = wire.read()
            assert answered is not None
            assert msgspec.json.decode(answered.body)["result"] == ["ada", {"name": "ada"}, "127.0.0.1"]
        banned.add("ada")
        wire.send(who("ada"))
        answered = wire.read()
        assert answered is not None
        assert answered.status == 401


@pytest.mark.parametrize("name", ["crash", "wrong"])
def test_nobody_is_let_in_where_it_fails(name: str, named: Registry, logged: Logged) -> None:
    with gateway.running(named, config=CONFIG) as server:
        answered = exchange(server.port, who(name))
    assert answered.status == 403
    assert b"secret" not in answered.body
    assert len(logged.take("the authentication has failed")) == 1


def test_rules_and_rates_know_its_names(named: Registry) -> None:
    banned.clear()
    named.hooks.authenticate = None
    config = configured(
        f"access.authenticate={__name__}:by_name", 'access.rules=[{"methods": ["who"], "keys": ["ada"]}]'
    )
    with gateway.running(named, config=config) as server:
        assert b'"result"' in exchange(server.port, who("ada")).body
        assert b"Denied" in exchange(server.port, who("bob")).body


def test_it_is_instead_of_keys_and_there_is_one() -> None:
    registry = Registry()
    registry.authenticate(by_name)
    registry.authenticate(by_name)
    with pytest.raises(RegistrationError, match="by another function already"):
        registry.authenticate(lambda head, caller: caller)
    other = Registry()
    other.authenticate(lambda head, caller: caller)
    with pytest.raises(RegistrationError, match="by another function already"):
        registry.mount(other)
    with pytest.raises(RegistrationError, match="no body is read before"):
        Registry().authenticate(two)
    keys = f'access.keys={{"odoo": "sha256:{"0" * 64}"}}'
    with pytest.raises(ConfigError, match=r"leave access\.keys empty"), client(registry, configured(keys)):
        pass
    with pytest.raises(ConfigError, match="the function decides alone"):
        configured(keys, f"access.authenticate={__name__}:by_name")


def test_a_marked_function_in_a_mounted_registry_keeps_its_names() -> None:
    registry, outer = Registry(), Registry()

    @registry.register(name="one", aliases=["other"])
    @method
    def one() -> int:
        return 1

    registry.middleware(noting([], "m"))
    outer.mount(registry, "a.")
    assert outer.names_of("a.one") == ["a.one", "a.other"]


def test_the_page_has_every_hook() -> None:
    page = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text()
    for hook in ("lifespan", "on_startup", "on_shutdown", "middleware", "exception_handler", "authenticate"):
        assert re.search(rf"@\w+\.{hook}\b", page), hook
