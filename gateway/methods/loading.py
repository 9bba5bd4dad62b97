"""Load the methods of modules by the names of the modules.

    package            all modules of the package, in alphabetical order, but those whose name begins with "_"
    package.module     this module
    module:registry    the Registry of this name in the module

From a module its own functions marked with @method are taken, and its own registries with a prefix, ``Registry(prefix=
"stock.")``. Whatever is wrong in any of them is reported at once.
"""

import importlib
import os
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from gateway.methods import RegistrationError, Registry, marked_functions

_HIDDEN = (f"{Path(__file__).parents[1]}{os.sep}", f"{Path(importlib.__file__).parent}{os.sep}", "<frozen importlib")
_NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*(?::[^\W\d]\w*)?")


class LoadError(Exception):
    """Everything that is wrong with the modules, each with its place and its remedy."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


def load_registry(names: Iterable[str]) -> Registry:
    """Import modules and register what they serve. The current folder comes first on the import path.

    Raises:
        LoadError: a module cannot be imported, or a function cannot be registered; it lists all of it.

    """
    _search_here()
    registry = Registry()
    problems: list[str] = []
    mounted: dict[int, Registry] = {}
    modules: dict[ModuleType, None] = {}  # each once, however often it is named
    for name in dict.fromkeys(names):
        module_name, colon, attribute = name.partition(":")
        if not _NAME.fullmatch(name) or name.endswith(".py"):
            problems.append(f"{name!r} is not a module: write package, package.module or module:registry, not its path")
        elif colon:
            _mount(registry, module_name, attribute, mounted, problems)
        else:
            modules |= dict.fromkeys(_modules(name, problems))
    for module in modules:
        _register_marked(registry, module, problems)
        for namespace in _namespaces(module):
            _mount_once(registry, namespace, mounted, problems)
    if not problems and not len(registry):
        problems.append(
            f"{', '.join(names) or 'server.modules'}: there are no methods: mark a function with @method, or name a"
            " Registry, module:registry"
        )
    if problems:
        raise LoadError(problems)
    return registry


def load_function(option: str, name: str, check: Callable[[Any], object] | None = None) -> Callable[..., Any]:
    """Import the function that an option of the configuration names, ``module:function``.

    Args:
        option: the option, for messages.
        name: what it says.
        check: what sees, or takes, the function; it raises RegistrationError where that is none for this option.

    Raises:
        LoadError: there is no such function, or it is none for this option.

    """
    _search_here()
    problems: list[str] = []
    module_name, _, attribute = name.partition(":")
    module = _import(module_name, problems)
    found = getattr(module, attribute, None)
    if module is not None and not callable(found):
        problems.append(f"{module_name}: the module has no function named {attribute}")
    elif module is not None and check is not None:
        try:
            check(found)
        except RegistrationError as error:
            problems.append(str(error))
    if problems or found is None:
        raise LoadError([f"{option}: {problem}" for problem in problems])
    return cast("Callable[..., Any]", found)


def _search_here() -> None:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)


def _mount(
    registry: Registry, module_name: str, attribute: str, mounted: dict[int, Registry], problems: list[str]
) -> None:
    module = _import(module_name, problems)
    if module is None:
        return
    found = getattr(module, attribute, None)
    if not isinstance(found, Registry):
        problems.append(f"{module_name}: the module has no Registry named {attribute}")
        return
    _mount_once(registry, found, mounted, problems)


def _mount_once(registry: Registry, found: Registry, mounted: dict[int, Registry], problems: list[str]) -> None:
    if id(found) in mounted:
        return
    mounted[id(found)] = found
    try:
        registry.mount(found)
    except RegistrationError as error:
        problems.append(str(error))


def _namespaces(module: ModuleType) -> Iterator[Registry]:
    """Yield the registries with a prefix that a module itself makes, each once."""
    found = {id(value): value for value in vars(module).values() if type(value) is Registry}
    yield from (registry for registry in found.values() if registry.belongs_to(module.__name__))


def _register_marked(registry: Registry, module: ModuleType, problems: list[str]) -> None:
    for function in marked_functions(module):
        try:
            registry.register(function)
        except RegistrationError as error:
            problems.append(str(error))


def _modules(name: str, problems: list[str]) -> Iterator[ModuleType]:
    module = _import(name, problems)
    if module is None:
        return
    yield module
    for found in sorted(pkgutil.iter_modules(getattr(module, "__path__", [])), key=lambda found: found.name):
        if not found.name.startswith("_"):
            yield from _modules(f"{name}.{found.name}", problems)


def _import(name: str, problems: list[str]) -> ModuleType | None:
    try:
        module = importlib.import_module(name)
        if not _is_shadowed(name, module):
            return module
        problems.append(
            f"{name}: Python finds another module first, {module.__file__}; to serve"
            f" {name.partition('.')[0]} of {Path.cwd()}, put an empty __init__.py into it"
        )
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            problems.append(f"{name}: there is no such module in {Path.cwd()} or on Python's path")
        else:
            problems.append(_told(name, error))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a module does while it is imported
        problems.append(_told(name, error))
    return None


def _is_shadowed(name: str, module: ModuleType) -> bool:
    """Return whether the current folder has a package of this name without the file that makes it come first."""
    folder = Path.cwd() / name.partition(".")[0]
    if not folder.is_dir() or (folder / "__init__.py").exists():
        return False
    found = [*getattr(module, "__path__", []), getattr(module, "__file__", None)]
    return not any(path is not None and Path(path).is_relative_to(folder.parent) for path in found)


def _told(name: str, error: BaseException) -> str:
    """Describe why an import failed by the frames of the user's code, without ours and those of the import system."""
    told = traceback.TracebackException.from_exception(error)
    _hide(told)
    return f"{name}: cannot be imported:\n{''.join(told.format()).rstrip()}"


def _hide(told: traceback.TracebackException) -> None:
    told.stack = traceback.StackSummary.from_list(
        [frame for frame in told.stack if not frame.filename.startswith(_HIDDEN)]
    )
    for other in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if other is not None:
            _hide(other)
