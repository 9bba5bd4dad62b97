"""What a program has that no call can reach: registries and methods that are not served, hints that never fit."""

import inspect
import sys
from collections.abc import Iterable, Iterator
from types import MethodType, ModuleType
from typing import Any

from gateway.methods import MethodOptions, Registry, place_of
from gateway.methods.hints import foreign
from gateway.methods.options import MARK


def hints_that_never_fit(registry: Registry) -> Iterator[str]:
    """Find parameters that can only be left out, because no value of a call can become what their type hint says."""
    told: set[tuple[str, str]] = set()
    for _, method in registry.methods():
        for param in (*method.params, method.rest, method.others):
            found = None if param is None else foreign(param.hint)
            if param is None or param.check is not None or found is None or (method.place, param.name) in told:
                continue
            told.add((method.place, param.name))
            yield (
                f"{method.place}: {param.name!r} can only be left out: no value of a call can become an instance of"
                f" {found[0].__qualname__}; use {found[1]}"
            )


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
            is_inside = found.startswith(f"{name}.") and not any(part.startswith("_") for part in inside)
            if (found == name or is_inside) and isinstance(module, ModuleType):  # an import can be blocked by None
                yield module


def _functions(registry: Registry) -> set[int]:
    """Return the identities of the functions that are served; not each of them can be hashed."""
    return {id(_plain(found.function)) for _, found in registry.methods()}


def _plain(value: Any) -> Any:
    """Return the function of a bound, static or class method."""
    return value.__func__ if type(value) in {MethodType, staticmethod, classmethod} else value
