"""What a program has that no call can reach: registries and methods that are not served, hints that never fit."""

import inspect
import sys
from collections.abc import Iterable, Iterator
from types import MethodType, ModuleType
from typing import Any

from msgspec import inspect as types

from gateway.methods import MethodOptions, Registry, place_of
from gateway.methods.options import MARK


def hints_that_never_fit(registry: Registry) -> Iterator[str]:
    """Find parameters whose type hint is a class that no caller's value can become."""
    told: set[tuple[str, str]] = set()
    for _, method in registry.methods():
        for param in (*method.params, method.rest, method.others):
            foreign = None if param is None else _foreign(param.hint)
            if param is None or foreign is None or (method.place, param.name) in told:
                continue
            told.add((method.place, param.name))
            yield (
                f"{method.place}: no value of a call can become a {foreign.__qualname__}, the type of {param.name!r};"
                " use a dataclass, or a type of docs/conformance.md"
            )


def _foreign(hint: Any) -> type | None:
    """Return a class in a hint that msgspec cannot make of plain values; None if there is none."""
    return next((info.cls for info in _inner(types.type_info(hint), set()) if isinstance(info, types.CustomType)), None)


def _inner(info: Any, seen: set[int]) -> Iterator[Any]:
    """Walk a description of a type, down to its leaves."""
    if id(info) in seen:
        return
    seen.add(id(info))
    if isinstance(info, types.Type):
        yield info
        for name in info.__struct_fields__:
            yield from _inner(getattr(info, name), seen)
    elif isinstance(info, types.Field):
        yield from _inner(info.type, seen)
    elif isinstance(info, tuple):
        for each in info:
            yield from _inner(each, seen)


def registries_not_served(served: Registry, names: Iterable[str]) -> Iterator[str]:
    """Find registries of the served modules of which nothing is served."""
    functions = _functions(served)
    told: set[int] = set()
    for module in _modules(names):
        for name, value in vars(module).items():
            if not issubclass(type(value), Registry) or id(value) in told:
                continue
            told.add(id(value))
            if len(value) and not _functions(value) & functions:
                yield (
                    f"{module.__name__}:{name} is a Registry that is not served; name it in server.modules, or mount it"
                    " in one that is"
                )


def classes_not_served(served: Registry, names: Iterable[str]) -> Iterator[str]:
    """Find methods of classes that are marked with @method, and of which no instance is served."""
    functions = _functions(served)
    for module in _modules(names):
        classes = [value for value in vars(module).values() if issubclass(type(value), type)]
        for each in (found for found in classes if found.__module__ == module.__name__):
            for function in map(_plain, vars(each).values()):
                is_marked = isinstance(inspect.getattr_static(function, MARK, None), MethodOptions)
                if is_marked and id(function) not in functions:
                    yield (
                        f"{place_of(function)}: @method in a class is not served; register a bound method,"
                        f" registry.register({each.__name__}().{function.__name__})"
                    )


def _modules(names: Iterable[str]) -> Iterator[ModuleType]:
    """Yield the modules that were loaded for the names of packages and modules."""
    for name in dict.fromkeys(names):
        for found, module in list(sys.modules.items()):
            inside = found.removeprefix(f"{name}.").split(".")
            if found == name or (found.startswith(f"{name}.") and not any(part.startswith("_") for part in inside)):
                yield module


def _functions(registry: Registry) -> set[int]:
    """Return the identities of the functions that are served; not each of them can be hashed."""
    return {id(_plain(found.function)) for _, found in registry.methods()}


def _plain(value: Any) -> Any:
    """Return the function of a bound, static or class method."""
    return value.__func__ if type(value) in {MethodType, staticmethod, classmethod} else value
