"""Methods: what can be registered and under which names, and how arguments are fitted to a function and checked."""

import functools
import inspect
import json
import math
import re
import types
import xmlrpc.client
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, Protocol, SupportsInt, TypedDict
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta, Struct

from gateway import Context, InvalidParams, RegistrationError, Registry, current_context, method
from gateway.methods import MethodOptions, make_method, marked_functions, place_of
from tests.raw_http import post
from tests.serving import Server, serving

HERE = "tests/methods/test_methods.py:"


def first(a: int, b: str = "x") -> list[Any]:
    """Return both."""
    return [a, b]


def second(a: int) -> int:
    return a


def unreadable(a: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821 - what this is about
    del a


def uncheckable(a: str | bytes) -> None:
    del a


def context_by_position(context: Context, /) -> None:
    del context


def contexts(*contexts: Context) -> None:
    del contexts


def named_contexts(**contexts: Context) -> None:
    del contexts


def two_contexts(one: Context, another: Context | None = None) -> None:
    del one, another


def never_callable(a: int, /, *, b: int) -> None:
    del a, b


async def waits() -> None: ...


class Adder:
    """Adds."""

    amount: int = 1

    def __call__(self, number: int) -> int:
        return number + self.amount

    def add(self, number: int) -> int:
        return number + self.amount

    @staticmethod
    def double(number: int) -> int:
        return number * 2

    @classmethod
    def name(cls, suffix: str = "") -> str:
        return cls.__name__ + suffix


class Waiter:
    async def __call__(self, number: int) -> int:
        return number

    async def wait(self, number: int) -> int:
        return number


# ---- marking ---------------------------------------------------------------------------------------------------------


@method
def bare(a: int) -> int:
    return a


@method(name="with.options", timeout=5, run="inline", aliases=("other",), deprecated="use bare")
def optional(a: int) -> int:
    return a


def test_a_marked_function_stays_the_function_it_is() -> None:
    assert inspect.isfunction(bare)
    assert (bare("not checked"), optional(2)) == ("not checked", 2)


def test_a_mark_says_how_a_function_is_registered() -> None:
    registry = Registry()
    assert registry.register(bare) is bare
    assert registry.register(optional) is optional
    assert list(registry) == ["bare", "with.options", "other"]
    assert len(registry) == 3
    found = dict(registry.methods())
    assert found["other"] is found["with.options"]
    assert (found["bare"].run, found["with.options"].run) == ("thread", "inline")
    assert found["bare"].options == MethodOptions()
    assert found["with.options"].options == MethodOptions(
        name="with.options", timeout=5, run="inline", aliases=("other",), deprecated="use bare"
    )


def test_options_of_a_registration_stand_for_those_of_the_mark() -> None:
    registry = Registry()
    registry.register(optional, name="again")
    assert [(name, found.options) for name, found in registry.methods()] == [("again", MethodOptions(name="again"))]


def test_register_decorates_with_and_without_options() -> None:
    registry = Registry()

    @registry.register
    def plain() -> None: ...

    @registry.register(protocols="jsonrpc", aliases="also")
    def chosen() -> None: ...

    assert inspect.isfunction(plain)
    assert inspect.isfunction(chosen)
    assert list(registry) == ["plain", "chosen", "also"]
    assert [name for name, _ in registry.methods("xmlrpc")] == ["plain"]
    assert registry.get("plain", "xmlrpc") is registry.get("plain", "jsonrpc") is not None
    assert registry.get("also", "jsonrpc") is registry.get("chosen", "jsonrpc") is not None
    for absent in ("chosen", "Plain", "plain ", "", "plain.__call__", "__len__", "register"):
        assert registry.get(absent, "xmlrpc") is None


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"timeout": 0}, "timeout must be a number of seconds above 0"),
        ({"timeout": -1.5}, "timeout must be a number of seconds above 0"),
        ({"timeout": math.inf}, "timeout must be a number of seconds above 0"),
        ({"timeout": math.nan}, "timeout must be a number of seconds above 0"),
        ({"timeout": "5"}, "the option timeout: expected float | null, got str"),
        ({"timeout": True}, "the option timeout: expected float | null, got bool"),
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"concurrency": 2, "run": "inline"}, "an inline method cannot have concurrency: it does not wait"),
        ({"concurrency": 1.5}, "the option concurrency: expected int | null, got float"),
        ({"run": "process"}, "the option run: invalid enum value 'process'"),
        ({"run": "async"}, "a function written with def cannot run as 'async'"),
        ({"name": 5}, "the option name: expected str | null, got int"),
        ({"name": b"a"}, "the option name: expected str | null, got bytes"),
        ({"aliases": [5]}, "the option aliases[0]: expected str, got int"),
        ({"deprecated": 1}, "the option deprecated: expected bool | str, got int"),
        ({"protocols": ()}, "protocols must name at least one"),
        ({"nmae": "a", "time_out": 1}, "there is no option nmae, time_out"),
    ],
)
def test_a_mistaken_option_names_the_function_and_the_mistake(options: dict[str, Any], problem: str) -> None:
    registry = Registry()
    place = f"{HERE}{second.__code__.co_firstlineno} (second)"
    with pytest.raises(RegistrationError) as raised:
        registry.register(second, **options)
    assert str(raised.value) == f"{place}: {problem}"
    assert not len(registry)
    if options != {"run": "async"}:  # which only a registry finds
        with pytest.raises(RegistrationError, match=re.escape(problem)):
            method(**options)(second)


@pytest.mark.parametrize("run", ["thread", "inline"])
def test_an_async_function_runs_on_the_loop_and_nowhere_else(run: Literal["thread", "inline"]) -> None:
    with pytest.raises(RegistrationError, match=f"a function written with async def cannot run as '{run}'"):
        Registry().register(waits, run=run)


@pytest.mark.parametrize(
    ("unmarkable", "problem"),
    [
        ("add", "'add' is not a function; a name is given as name=..."),
        (5, "5 is not a function; a name is given as name=..."),
        (len, "len: it cannot be marked; use Registry.register"),
        (
            Adder().add,
            f"{HERE}{Adder.add.__code__.co_firstlineno} (Adder.add): it cannot be marked; use Registry.register",
        ),
    ],
)
def test_what_cannot_be_marked_is_refused(unmarkable: Any, problem: str) -> None:
    with pytest.raises(RegistrationError) as raised:
        method(unmarkable)
    assert str(raised.value) == problem


def test_a_module_serves_the_functions_that_it_defines_and_marks_each_once() -> None:
    module = types.ModuleType("module")

    class Proxy:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("there is nothing behind it now, as with Flask's request outside of a request")

    def own() -> None: ...

    own.__module__ = "module"
    module.__dict__.update(
        imported=bare,
        own=method(own),
        same=own,
        unmarked=lambda: None,
        half=method(name="half")(functools.partial(own)),
        number=5,
        proxy=Proxy(),
    )
    assert list(marked_functions(module)) == [own, module.half]


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "'' is not a name: it is empty, or has spaces, control characters or one of < > &"),
        (" ", "' ' is not a name"),
        ("two words", "'two words' is not a name"),
        ("tab\t", r"'tab\t' is not a name"),
        ("line\n", r"'line\n' is not a name"),
        ("null\0", r"'null\x00' is not a name"),
        ("wide\u3000blank", r"'wide\u3000blank' is not a name"),
        ("lone\ud800", r"'lone\ud800' is not a name"),
        ("<b>", "'<b>' is not a name"),
        ("a&b", "'a&b' is not a name"),
        ("_private", "'_private' is private: a name or a part of it begins with '_'"),
        ("__class__", "'__class__' is private"),
        ("public._private", "'public._private' is private"),
        ("_private.public", "'_private.public' is private"),
        ("rpc.discover", "'rpc.discover' is reserved: 'rpc.' and 'system.' belong to the gateway"),
        ("rpc.mine", "'rpc.mine' is reserved"),
        ("system.listMethods", "'system.listMethods' is reserved"),
        ("system.mine", "'system.mine' is reserved"),
    ],
)
def test_a_name_that_is_unusable_private_or_reserved_is_refused(name: str, problem: str) -> None:
    registry = Registry()
    place = f"{HERE}{second.__code__.co_firstlineno} (second)"
    outer, _, last = name.partition(".")
    namespace = registry.namespace(outer) if last else registry
    attempts: list[Callable[[], Any]] = [
        lambda: registry.register(second, name=name),
        lambda: registry.register(second, name="fine", aliases=("also", name)),
        lambda: registry.register_function(second, name),
        lambda: namespace.register(second, name=last or name),
    ]
    for attempt in attempts:
        with pytest.raises(RegistrationError) as raised:
            attempt()
        assert str(raised.value).startswith(f"{place}: {problem}")
        assert list(registry) == []


@pytest.mark.parametrize(
    "name", ["a", "A.b", "a/b", "a:b", "42", "größe", "漢字", "a-b", "rpc", "system", "rpcx.a", "a_", "$"]
)
def test_any_other_name_is_a_name(name: str) -> None:
    registry = Registry()
    registry.register(second, name=name)
    assert list(registry) == [name]


@pytest.mark.parametrize(
    "nameless", [lambda: None, functools.partial(second, 1), Adder()], ids=["lambda", "partial", "object"]
)
def test_what_has_no_name_of_its_own_is_given_one(nameless: Any) -> None:
    registry = Registry()
    with pytest.raises(RegistrationError, match=r"is not a name: .*; choose another with name=\.\.\."):
        registry.register(nameless)
    registry.register(nameless, name="named")
    assert list(registry) == ["named"]


def test_a_name_has_one_meaning_and_the_error_names_both_places() -> None:
    registry = Registry()
    registry.register(first, name="a", aliases=("b",))
    places = [f"{HERE}{each.__code__.co_firstlineno} ({each.__name__})" for each in (first, second)]
    before = dict(registry.methods())
    taken: list[Any] = [{"name": "a"}, {"name": "b"}, {"name": "c", "aliases": ("d", "b")}]
    twice: list[Any] = [{"name": "c", "aliases": ("c",)}, {"name": "c", "aliases": ("d", "d")}]
    for options in taken:
        name = "a" if options["name"] == "a" else "b"
        with pytest.raises(RegistrationError) as raised:
            registry.register(second, **options)
        assert (
            str(raised.value) == f"'{name}' is registered twice: by {places[0]} and by {places[1]}; rename one of them"
        )
    for options in twice:
        with pytest.raises(RegistrationError, match=f"{re.escape(places[1])}: the method has the name '[cd]' twice"):
            registry.register(second, **options)
    assert dict(registry.methods()) == before


# ---- namespaces and mounts -------------------------------------------------------------------------------------------


def test_namespaces_put_their_names_before() -> None:
    registry = Registry()
    billing = registry.namespace("billing")
    invoices = billing.namespace("invoices")
    billing.register(first)
    invoices.register(second, aliases=("also",))
    invoices.register_function(second, "third")
    registry.register(first)
    assert list(registry) == [
        "billing.first",
        "billing.invoices.second",
        "billing.invoices.also",
        "billing.invoices.third",
        "first",
    ]
    with pytest.raises(RegistrationError, match=r"'billing\.invoices\.second' is registered twice"):
        registry.register(first, name="billing.invoices.second")


def test_a_mounted_registry_is_taken_over_whole() -> None:
    inner, registry = Registry(), Registry()
    inner.register(first, aliases=("also",), protocols=("jsonrpc",))
    inner.register(second)
    registry.mount(inner)
    registry.mount(inner, "deep.")
    registry.namespace("deep").namespace("er").mount(inner, "x_")
    assert list(registry) == [
        *("first", "also", "second"),
        *("deep.first", "deep.also", "deep.second"),
        *("deep.er.x_first", "deep.er.x_also", "deep.er.x_second"),
    ]
    assert registry.get("deep.also", "jsonrpc") is inner.get("first", "jsonrpc") is not None
    assert registry.get("deep.also", "xmlrpc") is None
    inner.register(bare)
    assert "bare" not in list(registry)


@pytest.mark.parametrize("prefix", ["", "_x.", "system.", "a b."])
def test_a_mount_that_fails_changes_nothing(prefix: str) -> None:
    inner, registry = Registry(), Registry()
    inner.register(bare)
    inner.register(second)
    registry.register(first, name="second")
    before = dict(registry.methods())
    with pytest.raises(RegistrationError):
        registry.mount(inner, prefix)
    assert dict(registry.methods()) == before


# ---- as the standard library does ------------------------------------------------------------------------------------


def test_register_function_takes_what_the_standard_librarys_takes() -> None:
    registry = Registry()
    assert registry.register_function(first) is first
    assert registry.register_function(first, "second") is first
    assert registry.register_function(first, name="third") is first
    assert registry.register_function(lambda a: a, "fourth")

    assert registry.register_function(name="fifth")(first) is first
    registry.register_function(pow)
    registry.register_function(optional)
    assert list(registry) == ["first", "second", "third", "fourth", "fifth", "pow", "with.options", "other"]


class Account:
    """An object as programs register it."""

    interest = 2
    kind = Adder
    inner = Adder()

    def __init__(self) -> None:
        self.stored: Any = None
        self.call_me = second

    def get(self) -> Any:
        """Return what is stored."""
        return self.stored

    def put(self, value: int) -> bool:
        self.stored = value
        return True

    def _hidden(self) -> str:
        return "hidden"

    @property
    def costly(self) -> Any:
        raise AssertionError("a registration looks, and does not touch")

    @functools.cached_property
    def cached(self) -> Any:
        raise AssertionError("a registration looks, and does not touch")


def test_an_instance_serves_its_public_methods_and_nothing_else() -> None:
    registry = Registry()
    account = Account()
    registry.register_instance(account)
    registry.namespace("other").register_instance(Account())
    assert list(registry) == [
        *("call_me", "get", "inner", "put"),
        *("other.call_me", "other.get", "other.inner", "other.put"),
    ]
    found = registry.get("put", "xmlrpc")
    assert found is not None
    assert found.function(5) is True
    assert account.stored == 5
    assert [param.name for param in found.params] == ["value"]


@pytest.mark.parametrize("first_comes", ["function", "instance"])
@pytest.mark.parametrize("way", ["register", "alias", "mount"])
def test_a_function_wins_over_an_instances_method_whichever_comes_first(first_comes: str, way: str) -> None:
    registry, inner = Registry(), Registry()
    inner.register(first, name="get")
    ways: dict[str, Callable[[], Any]] = {
        "register": lambda: registry.register_function(first, "get"),
        "alias": lambda: registry.register(first, aliases=("get",)),
        "mount": lambda: registry.mount(inner),
    }
    steps: list[Callable[[], Any]] = [ways[way], lambda: registry.register_instance(Account())]
    for step in steps if first_comes == "function" else steps[::-1]:
        step()
    found = registry.get("get", "xmlrpc")
    assert found is not None
    assert found.function is first
    with pytest.raises(RegistrationError, match="'get' is registered twice"):
        registry.register(second, name="get")


class Unservable(Account):
    def zap(self, a: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821
        del a


class Dispatching:
    """An object that finds its methods itself."""

    def _listMethods(self) -> list[str]:  # noqa: N802 - the standard library's name
        return ["sum", "string.upper"]

    def _dispatch(self, name: str, params: tuple[Any, ...]) -> Any:
        return [name, list(params)]


class Unlisted:
    def _dispatch(self, name: str, params: tuple[Any, ...]) -> Any:
        del name, params


class Greedy(Dispatching):
    def _listMethods(self) -> list[str]:  # noqa: N802 - likewise
        return ["fine", "_private"]


@pytest.mark.parametrize(
    ("instance", "problem"),
    [
        (Account(), rf"'call_me' is registered twice: by {HERE}\d+ \(second\) and by {HERE}\d+ \(second\); rename"),
        (Unservable(), "its type hints cannot be read: name 'Nowhere' is not defined"),
        (Unlisted(), "^Unlisted has _dispatch but no _listMethods, which must return the names to serve$"),
        (Greedy(), rf"^{HERE}\d+ \(Dispatching\._dispatch\): '_private' is private"),
    ],
)
def test_an_instance_that_cannot_be_served_whole_is_not_served_at_all(instance: object, problem: str) -> None:
    registry = Registry()
    registry.register_instance(Account())
    before = dict(registry.methods())
    with pytest.raises(RegistrationError, match=problem):
        registry.register_instance(instance)
    assert dict(registry.methods()) == before


def test_an_instance_with_dispatch_is_called_through_it_under_the_names_it_lists() -> None:
    registry = Registry()
    registry.register_instance(Dispatching())
    assert list(registry) == ["sum", "string.upper"]
    found = registry.get("string.upper", "xmlrpc")
    assert found is not None
    assert found.function(1, 2) == ["string.upper", [1, 2]]
    assert found.place == f"{HERE}{Dispatching._dispatch.__code__.co_firstlineno} (Dispatching._dispatch)"


def test_an_instance_tells_of_its_methods_itself() -> None:
    class Helping(Dispatching):
        def _methodHelp(self, name: str) -> str | None:  # noqa: N802 - likewise
            return {"sum": "adds", "string.upper": None}[name]

    registry = Registry()
    registry.register_instance(Helping())
    assert [(name, method.doc) for name, method in registry.methods()] == [("sum", "adds"), ("string.upper", "")]


# ---- what can be registered ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (5, "5 is not a function; a name is given as name=..."),
        (None, "None is not a function; a name is given as name=..."),
        ("first", "'first' is not a function; a name is given as name=..."),
        (classmethod(type), "<classmethod"),
        (max, "max: its parameters cannot be read: no signature found"),
        (unreadable, "(unreadable): its type hints cannot be read: name 'Nowhere' is not defined"),
        (uncheckable, "(uncheckable): the type hint of 'a' cannot be checked: Type unions may not contain"),
        (context_by_position, "(context_by_position): a Context must be a parameter that can be given by name"),
        (contexts, "(contexts): a Context must be a parameter that can be given by name"),
        (named_contexts, "(named_contexts): a Context must be a parameter that can be given by name"),
        (two_contexts, "(two_contexts): the function takes the Context twice, as one and as another"),
        (
            never_callable,
            "(never_callable): some required parameters can only be given by position, others only by name",
        ),
    ],
)
def test_what_no_call_could_reach_is_refused(function: Any, problem: str) -> None:
    with pytest.raises(RegistrationError, match=re.escape(problem)):
        make_method(function, MethodOptions(name="name"))


class Meeting(Protocol):
    def meet(self) -> None: ...


@dataclass
class Holding:
    a: int
    adder: Adder


@dataclass
class HoldingByDefault:
    a: int
    adder: Adder = field(default_factory=Adder)


@pytest.mark.parametrize(
    ("hint", "name", "remedy"),
    [
        (xmlrpc.client.Binary, "Binary", "bytes"),
        (xmlrpc.client.DateTime, "DateTime", "datetime"),
        (Path, "Path", "str"),
        (complex, "complex", "tuple[float, float]"),
        (range, "range", "list[int]"),
        (OrderedDict[str, int], "OrderedDict", "dict"),
        (deque[int], "deque", "list"),
        (Adder, "Adder", "a dataclass, or another type of docs/methods.md"),
        (Adder | None, "Adder", "a dataclass"),
        (Adder | int, "Adder", "a dataclass"),
        (list[Adder], "Adder", "a dataclass"),
        (dict[str, list[Adder | None]], "Adder", "a dataclass"),
        (Annotated[Adder, "a note"], "Adder", "a dataclass"),
        (NewType("Sum", Adder), "Adder", "a dataclass"),
        (Holding, "Adder", "a dataclass"),
        (list[Holding], "Adder", "a dataclass"),
        (Meeting, "Meeting", "a dataclass"),
        (Callable[[int], int], "Callable", "a dataclass"),
        (type[int], "type", "a dataclass"),
    ],
    ids=str,
)
def test_a_hint_that_no_call_can_satisfy_is_refused_with_the_remedy(hint: Any, name: str, remedy: str) -> None:
    def positional(value: Any) -> None: ...

    def rest(*value: Any) -> None: ...

    def others(**value: Any) -> None: ...

    for function in (positional, rest, others):
        function.__annotations__ = {"value": hint}
        problem = (
            f"({function.__qualname__}): the type hint of 'value' cannot be checked: no value of a call can become an"
            f" instance of {name}; use {remedy}"
        )
        with pytest.raises(RegistrationError, match=re.escape(problem)):
            Registry().register(function)


@pytest.mark.parametrize("hint", [object, Hashable, SupportsInt, Iterable[int], HoldingByDefault, Any], ids=str)
def test_classes_that_values_are_instances_of_are_taken(hint: Any) -> None:
    def function(value: Any) -> None: ...

    function.__annotations__ = {"value": hint}
    Registry().register(function)


def test_a_parameter_of_any_class_may_be_left_out() -> None:
    def function(a: int, adder: Adder = Adder()) -> int:  # noqa: B008 - the program's own object
        return adder.add(a)

    made = make_method(function, MethodOptions(name="name"))
    assert [param.required for param in made.params] == [True, False]


@functools.wraps(first)
def wrapped(*args: Any, **kwargs: Any) -> Any:
    return first(*args, **kwargs)


@functools.lru_cache
def cached(a: int) -> int:
    return a


@pytest.mark.parametrize(
    ("function", "run", "params", "place"),
    [
        (first, "thread", ["a", "b"], "first"),
        (waits, "async", [], "waits"),
        (wrapped, "thread", ["a", "b"], "first"),
        (cached, "thread", ["a"], "cached"),
        (lambda x: x, "thread", ["x"], "<lambda>"),
        (Adder(), "thread", ["number"], "Adder.__call__"),
        (Adder().add, "thread", ["number"], "Adder.add"),
        (Adder.double, "thread", ["number"], "Adder.double"),
        (Adder.name, "thread", ["suffix"], "Adder.name"),
        (staticmethod(first), "thread", ["a", "b"], "first"),
        (staticmethod(waits), "async", [], "waits"),
        (Waiter(), "async", ["number"], "Waiter.__call__"),
        (Waiter().wait, "async", ["number"], "Waiter.wait"),
        (functools.partial(first, b="y"), "thread", ["a", "b"], "first"),
        (functools.partial(Adder().add), "thread", ["number"], "Adder.add"),
        (functools.partial(waits), "async", [], "waits"),
        (functools.partial(Waiter()), "async", ["number"], "Waiter.__call__"),
        (pow, "thread", ["base", "exp", "mod"], None),
        (len, "thread", ["obj"], None),
        (Decimal, "thread", ["value", "context"], None),
    ],
)
def test_whatever_can_be_called_can_be_registered(
    function: Any, run: str, params: list[str], place: str | None
) -> None:
    made = make_method(function, MethodOptions(name="name"))
    assert (made.run, [param.name for param in made.params]) == (run, params)
    assert made.place == place_of(function)
    assert place is None or re.fullmatch(rf"{re.escape(HERE)}\d+ \({re.escape(place)}\)", made.place)


def test_a_place_outside_of_the_current_folder_is_told_whole() -> None:
    assert place_of(json.loads) == f"{json.__file__}:{json.loads.__code__.co_firstlineno} (loads)"


# ---- binding ---------------------------------------------------------------------------------------------------------

registry = Registry()


@registry.register(run="inline")
def both(a: int, b: int = 2) -> Any:
    return [a, b]


@registry.register(run="inline")
def positional(a: int, b: int = 2, /) -> Any:
    return [a, b]


@registry.register(run="inline")
def by_name(a: int = 1, *, b: int, c: int = 3) -> Any:
    return [a, b, c]


@registry.register(run="inline")
def by_name_if_needed(a: int, *, b: int = 2) -> Any:
    return [a, b]


@registry.register(run="inline")
def rest(a: int, *more: float) -> Any:
    return [a, *more]


@registry.register(run="inline")
def everything(a, *more, b=2, **others):  # type: ignore[no-untyped-def]
    return [a, list(more), b, others]


@registry.register(run="inline")
def others(a: int, /, b: int = 2, **named: int) -> Any:
    return [a, b, named]


@registry.register(run="inline")
def others_too(a: int = 1, /, b: int = 2, **named: int) -> Any:
    return [a, b, named]


class Open:
    def take(self, **named: Any) -> Any:
        return named

    def __call__(self, a: int, b: int, **named: Any) -> Any:
        return [a, b, named]


registry.register(Open().take, run="inline")
registry.register(Open(), name="called", run="inline")
registry.register(functools.partial(Open(), 1), name="half", run="inline")
registry.register(functools.partial(both, b=7), name="preset", run="inline")
registry.register(pow, run="inline")
registry.register(len, run="inline")
registry.register(lambda x, y=2: [x, y], name="lambda", run="inline")
registry.register(Adder(), name="adder", run="inline")
registry.register(Adder().add, name="bound", run="inline")
registry.register(Adder.double, run="inline")
registry.register(Adder.name, name="class_name", run="inline")


def is_current(context: Any) -> bool:
    return context is current_context()


@registry.register(run="inline")
def context_first(context: Context, a: int, b: int = 2) -> Any:
    return [is_current(context), a, b]


@registry.register(run="inline")
def context_between(a: int, context: Context, b: int = 2) -> Any:
    return [is_current(context), a, b]


@registry.register(run="inline")
def context_last(a: int, b: int = 2, context: Context = None) -> Any:  # type: ignore[assignment]
    return [is_current(context), a, b]


@registry.register(run="inline")
def context_before_rest(a: int, context: Optional[Context] = None, *more: int) -> Any:  # noqa: UP045
    return [is_current(context), a, *more]


@registry.register(run="inline")
def context_after_rest(a: int, *more: int, context: Context) -> Any:
    return [is_current(context), a, *more]


@registry.register(run="inline")
def context_by_name(*, context: Annotated[Context, "said so"], a: int = 1) -> Any:
    return [is_current(context), a]


@registry.register(run="inline")
def context_and_others(context: Context | None = None, **named: int) -> Any:
    return [is_current(context), named]


BINDINGS: list[tuple[str, list[Any] | dict[str, Any], Any]] = [
    ("both", [1], [1, 2]),
    ("both", [1, 3], [1, 3]),
    ("both", {"a": 1}, [1, 2]),
    ("both", {"b": 3, "a": 1}, [1, 3]),
    ("both", [], "params.a: missing"),
    ("both", {}, "params.a: missing"),
    ("both", {"b": 1}, "params.a: missing"),
    ("both", [1, 2, 3], "params[2]: one too many, it takes 2 at most"),
    ("both", {"a": 1, "c": 3, "d": 4}, "params.c: there is no such parameter"),
    ("both", {"a": 1, "x" * 99: 3}, f"params.{'x' * 80}: there is no such parameter"),
    ("both", {"a": 1, "": 3}, "params.: there is no such parameter"),
    ("positional", [1], [1, 2]),
    ("positional", [1, 3], [1, 3]),
    ("positional", {"a": 1}, "params.a: it can only be given by position"),
    ("by_name", {"b": 5}, [1, 5, 3]),
    ("by_name", {"c": 6, "b": 5, "a": 4}, [4, 5, 6]),
    ("by_name", [1], "params.b: missing, and can only be given by name"),
    ("by_name", [], "params.b: missing, and can only be given by name"),
    ("by_name", [1, 2], "params[1]: one too many, it takes 1 at most"),
    ("by_name_if_needed", [1], [1, 2]),
    ("by_name_if_needed", {"a": 1, "b": 5}, [1, 5]),
    ("rest", [1, 2, 3], [1, 2.0, 3.0]),
    ("rest", [1], [1]),
    ("rest", {"a": 1}, [1]),
    ("rest", {"a": 1, "more": [2]}, "params.more: there is no such parameter"),
    ("rest", [], "params.a: missing"),
    ("rest", [1, 2, "3"], "params[2]: expected float, got str"),
    ("everything", [1, 2, 3], [1, [2, 3], 2, {}]),
    ("everything", {"a": 1, "b": 5, "c": 6, "more": 7, "others": 8}, [1, [], 5, {"c": 6, "more": 7, "others": 8}]),
    ("everything", {"b": 5}, "params.a: missing"),
    ("others", [1, 3], [1, 3, {}]),
    ("others", {"a": 1}, "params.a: it can only be given by position"),
    ("others_too", {"b": 3, "c": 4, "named": 5}, [1, 3, {"c": 4, "named": 5}]),
    ("others_too", {"a": 3}, "params.a: there is no such parameter"),
    ("others_too", {"c": "4"}, "params.c: expected int, got str"),
    ("others_too", {"x" * 99: "4"}, f"params.{'x' * 80}: expected int, got str"),
    ("take", {"a": 1, "named": 2}, {"a": 1, "named": 2}),
    ("take", {"self": 1}, "params.self: there is no such parameter"),
    ("take", [], {}),
    ("called", {"a": 1, "b": 2, "c": 3}, [1, 2, {"c": 3}]),
    ("called", {"a": 1, "b": 2, "self": 3}, "params.self: there is no such parameter"),
    ("half", {"b": 2, "c": 3}, [1, 2, {"c": 3}]),
    ("half", {"b": 2, "a": 3}, "params.a: there is no such parameter"),
    ("half", [2], [1, 2, {}]),
    ("preset", [1], [1, 7]),
    ("preset", {"a": 1, "b": 3}, [1, 3]),
    ("preset", [1, 3], "params[1]: one too many, it takes 1 at most"),
    ("pow", [2, 3], 8),
    ("pow", {"base": 2, "exp": 3, "mod": 5}, 3),
    ("len", [[1, 2]], 2),
    ("len", {"obj": []}, "params.obj: it can only be given by position"),
    ("lambda", ["any", None], ["any", None]),
    ("lambda", {"x": [1]}, [[1], 2]),
    ("adder", [1], 2),
    ("adder", ["1"], "params[0]: expected int, got str"),
    ("bound", {"number": 1}, 2),
    ("bound", {"self": 1}, "params.number: missing"),
    ("double", [2], 4),
    ("double", ["2"], "params[0]: expected int, got str"),
    ("class_name", ["!"], "Adder!"),
    ("class_name", {"cls": 1}, "params.cls: there is no such parameter"),
    ("context_first", [1], [True, 1, 2]),
    ("context_first", [1, 3], [True, 1, 3]),
    ("context_first", {"a": 1}, [True, 1, 2]),
    ("context_first", {"b": 3, "a": 1}, [True, 1, 3]),
    ("context_first", [], "params.a: missing"),
    ("context_first", [1, 2, 3], "params[2]: one too many, it takes 2 at most"),
    ("context_first", {"a": 1, "context": {}}, "params.context: there is no such parameter"),
    ("context_between", [1], [True, 1, 2]),
    ("context_between", [1, 3], [True, 1, 3]),
    ("context_between", {"a": 1}, [True, 1, 2]),
    ("context_between", {"b": 3, "a": 1}, [True, 1, 3]),
    ("context_between", [], "params.a: missing"),
    ("context_between", [1, 2, 3], "params[2]: one too many, it takes 2 at most"),
    ("context_between", {"a": 1, "context": {}}, "params.context: there is no such parameter"),
    ("context_last", [1], [True, 1, 2]),
    ("context_last", [1, 3], [True, 1, 3]),
    ("context_last", {"a": 1}, [True, 1, 2]),
    ("context_last", {"b": 3, "a": 1}, [True, 1, 3]),
    ("context_last", [], "params.a: missing"),
    ("context_last", [1, 2, 3], "params[2]: one too many, it takes 2 at most"),
    ("context_last", {"a": 1, "context": {}}, "params.context: there is no such parameter"),
    ("context_before_rest", [1], [True, 1]),
    ("context_before_rest", [1, 2, 3], [True, 1, 2, 3]),
    ("context_before_rest", {"a": 1}, [True, 1]),
    ("context_before_rest", {"a": 1, "context": None}, "params.context: there is no such parameter"),
    ("context_after_rest", [1], [True, 1]),
    ("context_after_rest", [1, 2, 3], [True, 1, 2, 3]),
    ("context_after_rest", {"a": 1}, [True, 1]),
    ("context_by_name", [], [True, 1]),
    ("context_by_name", {"a": 5}, [True, 5]),
    ("context_by_name", [5], "params[0]: one too many, it takes 0 at most"),
    ("context_and_others", {"a": 1}, [True, {"a": 1}]),
    ("context_and_others", {"context": 1}, "params.context: there is no such parameter"),
    ("context_and_others", [], [True, {}]),
]


# ---- conversion ------------------------------------------------------------------------------------------------------


class Circle(Struct, tag=True):
    radius: int = 1


class Square(Struct, tag=True):
    side: int = 1


class Listed(Struct, array_like=True):
    number: int


@dataclass
class Item:
    price: float
    parts: list["Item"] = field(default_factory=list)
    prices: dict[str, float] = field(default_factory=dict)


@dataclass
class Even:
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError("It is `odd`")


class Point(Struct, forbid_unknown_fields=True):
    x: int
    y: int = 0


class Row(TypedDict):
    id: int


class Pair(NamedTuple):
    left: int
    right: str = ""


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


UserId = NewType("UserId", int)
Small = Annotated[int, Meta(ge=0, le=9)]
Short = Annotated[str, Meta(min_length=1, max_length=3, pattern="^a")]
HUGE = 10**400
MOMENT = datetime(2024, 2, 29, 12, 34, 56)
TAKEN: list[tuple[str, Any, Any, str]] = [
    # protocols, hint, argument, and what the function gets
    ("xj", int, 1, "1"),
    ("j", int, 2**62, str(2**62)),
    ("xj", float, 1.5, "1.5"),
    ("xj", float, 1, "1.0"),
    ("xj", bool, True, "True"),
    ("xj", str, "a", "'a'"),
    ("xj", str, "", "''"),
    ("xj", None, None, "None"),
    ("xj", int | float, 1, "1"),
    ("xj", int | float, 1.5, "1.5"),
    ("xj", Optional[int], None, "None"),  # noqa: UP045
    ("xj", int | None, 5, "5"),
    ("xj", int | str, "5", "'5'"),
    ("xj", list, [1, "a"], "[1, 'a']"),
    ("xj", list[int], [1, 2], "[1, 2]"),
    ("xj", tuple[int, str], [1, "a"], "(1, 'a')"),
    ("xj", tuple[int, ...], [1, 2], "(1, 2)"),
    ("xj", set[int], [1, 1], "{1}"),
    ("xj", frozenset[str], ["a"], "frozenset({'a'})"),
    ("xj", dict, {"a": 1}, "{'a': 1}"),
    ("xj", dict[str, int], {"a": 1}, "{'a': 1}"),
    ("xj", dict[int, str], {"1": "a"}, "{1: 'a'}"),
    ("xj", Literal["a", "b"], "b", "'b'"),
    ("xj", Small, 9, "9"),
    ("xj", Short, "abc", "'abc'"),
    ("xj", Colour, "red", "<Colour.RED: 'red'>"),
    ("xj", Level, 1, "<Level.LOW: 1>"),
    ("xj", UserId, 5, "5"),
    ("xj", UUID, "12345678-1234-5678-1234-567812345678", "UUID('12345678-1234-5678-1234-567812345678')"),
    ("xj", Decimal, "1.50", "Decimal('1.50')"),
    ("xj", Decimal, 1.5, "Decimal('1.5')"),
    ("xj", date, "2024-02-29", "datetime.date(2024, 2, 29)"),
    ("xj", time, "12:34:56", "datetime.time(12, 34, 56)"),
    ("xj", timedelta, "PT1M", "datetime.timedelta(seconds=60)"),
    ("xj", Item, {"price": 1}, "Item(price=1.0, parts=[], prices={})"),
    ("xj", int, 2.0, "2"),
    ("xj", int, -1e6, "-1000000"),
    ("xj", int, 2.0**53, "9007199254740992"),
    ("xj", list[int], [1, 2.0], "[1, 2]"),
    ("xj", int | None, 3.0, "3"),
    ("xj", int | float, 3.0, "3.0"),
    ("xj", Literal[1, 2], 2.0, "2"),
    ("xj", dict[str, list[int] | None], {"a": [1.0], "b": None}, "{'a': [1], 'b': None}"),
    ("xj", tuple[int, float], [1.0, 2.0], "(1, 2.0)"),
    ("xj", tuple[int, ...], [1.0, 2.0], "(1, 2)"),
    ("xj", Point, {"x": 1.0}, "Point(x=1, y=0)"),
    ("xj", Row, {"id": 1.0}, "{'id': 1}"),
    ("xj", Row, {"id": 1, "more": 2}, "{'id': 1}"),
    ("xj", Pair, [1.0], "Pair(left=1, right='')"),
    (
        "xj",
        list[Item],
        [{"price": 1, "parts": [{"price": 2}]}],
        "[Item(price=1.0, parts=[Item(price=2.0, parts=[], prices={})], prices={})]",
    ),
    ("xj", Even, {"number": 2}, "Even(number=2)"),
    ("xj", Point, {"x": 1}, "Point(x=1, y=0)"),
    ("xj", Row, {"id": 1}, "{'id': 1}"),
    ("xj", Pair, [1], "Pair(left=1, right='')"),
    ("xj", Any, [1, {"a": None}], "[1, {'a': None}]"),
    ("xj", object, "a", "'a'"),
    ("j", bytes, "aGk=", "b'hi'"),
    ("j", bytes, "", "b''"),
    ("j", bytes | None, "aGk=", "b'hi'"),
    ("j", datetime, "2024-02-29T12:34:56", "datetime.datetime(2024, 2, 29, 12, 34, 56)"),
    ("j", datetime, "2024-02-29T12:34:56Z", "datetime.datetime(2024, 2, 29, 12, 34, 56, tzinfo=datetime.timezone.utc)"),
    ("j", int, HUGE, str(HUGE)),
    ("j", int | float, HUGE, str(HUGE)),
    ("x", bytes, b"hi", "b'hi'"),
    ("x", bytes | None, b"hi", "b'hi'"),
    ("x", bytearray, b"hi", "bytearray(b'hi')"),
    ("x", datetime, MOMENT, "datetime.datetime(2024, 2, 29, 12, 34, 56)"),
    ("x", datetime | None, MOMENT, "datetime.datetime(2024, 2, 29, 12, 34, 56)"),
    ("x", Any, [MOMENT, b"hi"], "[datetime.datetime(2024, 2, 29, 12, 34, 56), b'hi']"),
]
REFUSED: list[tuple[str, Any, Any, str]] = [
    # protocols, hint, argument, and how the fault goes on after the parameter's place
    ("xj", int, "1", ": expected int, got str"),
    ("xj", int, True, ": expected int, got bool"),
    ("xj", int, 1.5, ": expected int, got float"),
    ("xj", int, 2.0**53 + 2, ": expected int, got float"),
    ("xj", Annotated[int, Meta(ge=3)], 2.0, ": expected int >= 3"),
    ("xj", bool, 1.0, ": expected bool, got float"),
    ("xj", list[int], [1.0, 2.5], "[1]: expected int, got float"),
    ("xj", Item, {"price": 1.5, "more": 1}, ".more: there is no such field"),
    ("xj", Item, {"price": 1, "parts": [{"price": 2}, {"price": 3, "x": 1}]}, ".parts[1].x: there is no such field"),
    ("xj", dict[str, Item | None], {"a": None, "b": {"price": 2, "x": 1}}, ".b.x: there is no such field"),
    ("xj", Circle | Square, {"type": "Circle", "side": 2}, ".side: there is no such field"),
    ("xj", Listed, [1, 2], "[1]: there is no such field"),
    ("xj", int, None, ": expected int, got null"),
    ("xj", int, [], ": expected int, got array"),
    ("xj", int, {}, ": expected int, got object"),
    ("xj", float, "1.5", ": expected float, got str"),
    ("xj", float, False, ": expected float, got bool"),
    ("xj", bool, 1, ": expected bool, got int"),
    ("xj", bool, "true", ": expected bool, got str"),
    ("xj", str, 1, ": expected str, got int"),
    ("xj", str, None, ": expected str, got null"),
    ("xj", None, 0, ": expected null, got int"),
    ("xj", int | float, "1", ": expected int | float, got str"),
    ("xj", int | float, True, ": expected int | float, got bool"),
    ("xj", int | None, "5", ": expected int | null, got str"),
    ("xj", int | str, 1.5, ": expected int | str, got float"),
    ("xj", list, "ab", ": expected array, got str"),
    ("xj", list[int], [1, "2"], "[1]: expected int, got str"),
    ("xj", list[list[int]], [[1], [2, None]], "[1][1]: expected int, got null"),
    ("xj", tuple[int, str], [1], ": expected array of length 2, got 1"),
    ("xj", set, [[1]], ": unhashable type: 'list'"),
    ("xj", dict, [], ": expected object, got array"),
    ("xj", dict[str, int], {"a": 1, "b c": "2"}, ".b c: expected int, got str"),
    ("xj", dict[str, dict[str, list[int]]], {"a": {}, "b": {"c": [1, "2"]}}, ".b.c[1]: expected int, got str"),
    ("xj", dict[str, int], {"x" * 99: "1"}, f".{'x' * 80}: expected int, got str"),
    ("xj", list[dict[str, int]], [{"a": "1"}], "[0].a: expected int, got str"),
    ("xj", dict[int, str], {"a": "a"}, " (a name): expected int, got str"),
    ("xj", Literal["a", "b"], "c", ": invalid enum value 'c'"),
    ("xj", Literal[1, 2], True, ": expected int, got bool"),
    ("xj", Literal["a"], "x" * 999, f": invalid enum value '{'x' * 180}"),
    ("xj", Small, 10, ": expected int <= 9"),
    ("xj", Small, -1, ": expected int >= 0"),
    ("xj", Short, "abcd", ": expected str of length <= 3"),
    ("xj", Short, "", ": expected str of length >= 1"),
    ("xj", Short, "b", ": expected str matching regex '^a'"),
    ("xj", Colour, "green", ": invalid enum value 'green'"),
    ("xj", Level, "1", ": expected int, got str"),
    ("xj", UserId, "5", ": expected int, got str"),
    ("xj", UUID, "1234", ": invalid UUID"),
    ("xj", Decimal, "1,5", ": invalid decimal string"),
    ("xj", date, "2023-02-29", ": invalid RFC3339 encoded date"),
    ("xj", Item, {"price": "1"}, ".price: expected float, got str"),
    ("xj", Item, {}, ": object missing required field price"),
    ("xj", Item, [1], ": expected object, got array"),
    ("xj", Item, {"price": 1, "parts": [{"price": 1}, {"price": None}]}, ".parts[1].price: expected float, got null"),
    ("xj", Item, {"price": 1, "prices": {"a": "1"}}, ".prices.a: expected float, got str"),
    ("xj", list[Item], [{"price": 1}, {"price": "1"}], "[1].price: expected float, got str"),
    ("xj", Even, {"number": 1}, ": it is odd"),
    ("xj", Point, {"x": 1, "z": 1}, ".z: there is no such field"),
    ("xj", Row, {"id": "1"}, ".id: expected int, got str"),
    ("xj", Pair, [1, 2], "[1]: expected str, got int"),
    ("j", bytes, "aGk", ": invalid base64 encoded string"),
    ("j", bytes, 1, ": expected bytes, got int"),
    ("j", list[bytes], ["aGk=", "!"], "[1]: invalid base64 encoded string"),
    ("j", datetime, "20240229T12:34:56", ": invalid RFC3339 encoded datetime"),
    ("j", datetime, 1709210096, ": expected datetime, got int"),
    ("j", Annotated[datetime, Meta(tz=True)], "2024-02-29T12:34:56", ": expected datetime with a timezone component"),
    ("j", float, HUGE, ": number out of range"),
    ("j", float, -HUGE, ": number out of range"),
    ("j", float | None, HUGE, ": number out of range"),
    ("j", list[float], [1, HUGE], "[1]: number out of range"),
    ("j", Annotated[float, Meta(ge=0)], HUGE, ": number out of range"),
    ("j", Small, HUGE, ": expected int <= 9"),
    ("j", Literal[1], HUGE, f": invalid enum value {str(HUGE)[:181]}"),
    ("j", Level, HUGE, f": invalid enum value {str(HUGE)[:181]}"),
    ("j", Item, {"price": HUGE}, ".price: number out of range"),
    ("j", timedelta, HUGE, ": expected duration, got int"),
    ("x", bytes, "aGk=", ": expected bytes, got str"),
    ("x", list[bytes], [b"hi", "aGk="], "[1]: expected bytes, got str"),
    ("x", str, b"hi", ": expected str, got bytes"),
    ("x", datetime, "2024-02-29T12:34:56", ": expected datetime, got str"),
    ("x", str, MOMENT, ": expected str, got datetime"),
]


def showing(hint: Any) -> Callable[[int, Any], str]:
    def show(_: int, value: Any) -> str:
        return repr(value)

    show.__annotations__ = {"_": int, "value": hint, "return": str}
    return show


for index, (_, hint, _, _) in enumerate((*TAKEN, *REFUSED)):
    registry.register(showing(hint), name=f"show{index}", run="inline")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(registry) as server:
        yield server


def ask_jsonrpc(server: Server, name: str, params: list[Any] | dict[str, Any]) -> Any:
    body = msgspec.json.encode({"jsonrpc": "2.0", "method": name, "params": params, "id": 1})
    answer = msgspec.json.decode(post(server.port, body).body)
    if "error" in answer:
        assert (answer["error"]["code"], answer["error"]["message"]) == (-32602, "Invalid params")
        raise InvalidParams(answer["error"]["data"]["detail"])
    return answer["result"]


def ask_xmlrpc(server: Server, name: str, params: list[Any] | dict[str, Any]) -> Any:
    body = xmlrpc.client.dumps(tuple(params), name, allow_none=True).encode()
    answer = post(server.port, body, "text/xml").body
    if b"<fault>" in answer:
        with pytest.raises(xmlrpc.client.Fault) as raised:
            xmlrpc.client.loads(answer)
        assert raised.value.faultCode == -32602
        raise InvalidParams(raised.value.faultString.removeprefix("Invalid params: "))
    (result,), _ = xmlrpc.client.loads(answer, use_builtin_types=True)
    return result


ASK = {"j": ask_jsonrpc, "x": ask_xmlrpc}


@pytest.mark.parametrize(("name", "params", "expected"), BINDINGS)
def test_arguments_are_fitted_to_the_function(
    server: Server, name: str, params: list[Any] | dict[str, Any], expected: Any
) -> None:
    for ask in ASK.values() if isinstance(params, list) else [ask_jsonrpc]:
        if isinstance(expected, str) and expected.startswith("params"):
            with pytest.raises(InvalidParams) as raised:
                ask(server, name, params)
            assert raised.value.detail == expected
        else:
            assert ask(server, name, params) == expected


@pytest.mark.parametrize("index", range(len(TAKEN)), ids=lambda index: f"{TAKEN[index][1]} {TAKEN[index][3][:20]}")
def test_an_argument_is_converted_by_its_hint(server: Server, index: int) -> None:
    protocols, _, value, shown = TAKEN[index]
    for protocol in protocols:
        assert ASK[protocol](server, f"show{index}", [1, value]) == shown
    if "j" in protocols:
        assert ask_jsonrpc(server, f"show{index}", {"_": 1, "value": value}) == shown


@pytest.mark.parametrize(
    "index", range(len(REFUSED)), ids=lambda index: f"{REFUSED[index][1]} {REFUSED[index][3][:40]}"
)
def test_a_mistaken_argument_is_refused_at_its_place(server: Server, index: int) -> None:
    protocols, _, value, message = REFUSED[index]
    name = f"show{len(TAKEN) + index}"
    for protocol in protocols:
        with pytest.raises(InvalidParams) as raised:
            ASK[protocol](server, name, [1, value])
        assert raised.value.detail == f"params[1]{message}"
    if "j" in protocols:
        with pytest.raises(InvalidParams) as raised:
            ask_jsonrpc(server, name, {"_": 1, "value": value})
        assert raised.value.detail == f"params.value{message}"


# ---- methods of a class ----------------------------------------------------------------------------------------------


class Base:
    @method
    def inherited(self) -> str:
        return type(self).__name__

    @method
    def unmarked_later(self) -> str:
        raise NotImplementedError


class Shop(Base):
    @method
    def order(self, fruit: str, count: int = 1) -> str:
        return f"{count} {fruit}"

    @method(name="stock.count", aliases=("count",), run="inline")
    def counted(self) -> int:
        return 3

    @method
    async def later(self) -> str:
        return "later"

    @method
    @staticmethod
    def outside(a: int) -> int:
        return a

    @staticmethod
    @method
    def inside(a: int) -> int:
        return a

    @classmethod
    @method
    def of_class(cls) -> str:
        return cls.__name__

    def unmarked_later(self) -> str:
        return "not served"

    def not_served(self) -> None: ...

    @property
    def costly(self) -> None:
        raise AssertionError("a property is not asked")


def test_the_marked_methods_of_an_object_are_registered() -> None:
    registry = Registry("shop.")
    shop = Shop()
    assert registry.register_object(shop) is shop
    names = ["count", "inherited", "inside", "later", "of_class", "order", "outside", "stock.count"]
    assert sorted(registry) == [f"shop.{name}" for name in names]
    found = {name.removeprefix("shop."): each for name, each in registry.methods()}
    assert found["inherited"].function() == found["of_class"].function() == "Shop"
    assert [found[name].run for name in ("order", "count", "later")] == ["thread", "inline", "async"]
    assert [param.name for param in found["order"].params] == ["fruit", "count"]
    assert found["outside"].function(1) == found["inside"].function(1) == 1


def test_an_object_is_registered_as_a_whole_or_not_at_all() -> None:
    registry = Registry()
    registry.register(lambda: 1, name="order")
    with pytest.raises(RegistrationError, match="'order' is registered twice"):
        registry.register_object(Shop())
    assert list(registry) == ["order"]


@pytest.mark.parametrize(
    ("wrong", "problem"), [(Shop, "Shop is a class: register an object of it"), (Registry(), "Registry has no method")]
)
def test_what_has_no_marked_methods_is_not_registered(wrong: object, problem: str) -> None:
    with pytest.raises(RegistrationError, match=problem):
        Registry().register_object(wrong)
