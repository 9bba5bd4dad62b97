"""The registry: methods under their exact names, and the ways to fill it."""

import functools
import re
import sys
import typing
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, Unpack

import msgspec

from gateway.methods.binding import Method
from gateway.methods.hooks import (
    RegisteredHooks,
    check_authenticate,
    check_handler,
    check_middleware,
    lifespan_of,
    starting,
    stopping,
)
from gateway.methods.instances import methods_of
from gateway.methods.options import (
    MARK,
    AnyFunction,
    GivenOptions,
    MethodOptions,
    RegistrationError,
    marked_methods,
    read_options,
)
from gateway.methods.reading import make_method

RESERVED = ("rpc.", "system.")  # JSON-RPC 2.0, section 4; the XML-RPC introspection convention

_UNUSABLE = re.compile(r"[\s<>&]")  # the standard library's client writes a name as it is

AnyObject = TypeVar("AnyObject")


class Registry:
    """The methods that are served, each under its exact names.

    A registry can be filled by decorator (``@registry.register``), by hand, from another one (``mount``), or with the
    standard library's ``register_function`` and ``register_instance``. A name has one meaning: a second one is an
    error, raised before anything is changed.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._module = sys._getframe(1).f_globals.get("__name__")  # noqa: SLF001 - as the standard library does it
        self._methods: dict[str, Method] = {}
        self._from_instance: set[str] = set()
        self._hooks = RegisteredHooks()

    def __len__(self) -> int:
        return len(self._methods)

    def __contains__(self, name: object) -> bool:
        """Tell whether a name is registered."""
        return name in self._methods

    def __iter__(self) -> Iterator[str]:
        """Iterate over all names, aliases too, in the order of their registration."""
        return iter(self._methods)

    def get(self, name: str, protocol: str) -> Method | None:
        """Return the method that has exactly this name and is offered on this protocol."""
        found = self._methods.get(name)
        return found if found is not None and found.options.is_for(protocol) else None

    def names_of(self, name: str) -> list[str]:
        """Return all names of the method that has this one; just this one, if there is no such method."""
        found = self._methods.get(name)
        return [name] if found is None else [other for other, method in self._methods.items() if method is found]

    def methods(self, protocol: str | None = None) -> Iterator[tuple[str, Method]]:
        """Iterate over names and methods; with a protocol only over what it can call."""
        for name, found in self._methods.items():
            if protocol is None or found.options.is_for(protocol):
                yield name, found

    @typing.overload
    def register(self, function: AnyFunction, /, **options: Unpack[GivenOptions]) -> AnyFunction: ...
    @typing.overload
    def register(self, /, **options: Unpack[GivenOptions]) -> Callable[[AnyFunction], AnyFunction]: ...
    def register(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Register a function; as a decorator, with or without the options of ``@method``.

        Options that are given here replace all of those that the function is marked with.

        Returns:
            the function itself.

        Raises:
            RegistrationError: the name is taken, private, reserved or unusable, or the function cannot be served.

        """
        if function is None:
            return functools.partial(self.register, **options)
        chosen: MethodOptions = getattr(function, MARK, MethodOptions())
        if options:
            chosen = read_options(function, options)
        self.add(make_method(function, chosen))
        return function

    def add(self, added: Method, *, reserved: bool = False) -> None:
        """Add a method under its name and aliases, or raise RegistrationError and add nothing.

        ``reserved`` opens the names that the protocols keep for the server itself.
        """
        names = [self._prefix + name for name in (added.name, *map(added.options.versioned, added.options.aliases))]
        for index, name in enumerate(names):
            self._check(name, added, reserved=reserved)
            if name in names[:index]:
                raise RegistrationError(f"{added.place}: the method has the name {name!r} twice")
        for name in names:
            self._methods[name] = added
        self._from_instance.difference_update(names)

    def replace(self, added: Method) -> None:
        """Put a method in the place of the one that has its name.

        Raises:
            RegistrationError: the name is private, reserved or unusable.

        """
        name = self._prefix + added.name
        before = self._methods.pop(name, None)
        try:
            self._check(name, added, reserved=False)
        except RegistrationError:
            if before is not None:
                self._methods[name] = before
            raise
        self._methods[name] = added

    def _check(self, name: str, added: Method, *, reserved: bool) -> None:
        if not name or not name.isprintable() or _UNUSABLE.search(name):
            raise RegistrationError(
                f"{added.place}: {name!r} is not a name: it is empty, or has spaces, control characters or one of"
                " < > &; choose another with name=..."
            )
        if any(part.startswith("_") for part in name.split(".")):
            raise RegistrationError(f"{added.place}: {name!r} is private: a name or a part of it begins with '_'")
        if name.startswith(RESERVED) and not reserved:
            raise RegistrationError(f"{added.place}: {name!r} is reserved: 'rpc.' and 'system.' belong to the gateway")
        if name in self._methods and name not in self._from_instance:
            raise self._twice(name, added)

    def mount(self, other: "Registry", prefix: str = "") -> None:
        """Add all methods of another registry, under a prefix (``"billing."``), or none of them.

        They keep the middleware and the exception handlers that the other registry has now. Its lifespans become those
        of this one.

        Raises:
            RegistrationError: a name is taken, or both have a function that authenticates requests.

        """
        made: dict[int, Method] = {}  # a method has the same hooks under all its names
        for name, found in other.methods():
            if id(found) not in made:
                hooks = other.hooks.around(name, found.hooks)
                made[id(found)] = found if hooks is found.hooks else msgspec.structs.replace(found, hooks=hooks)
        taken = {self._prefix + prefix + name: made[id(found)] for name, found in other.methods()}
        for name, found in taken.items():
            self._check(name, found, reserved=False)
        self._hooks.take_over(other.hooks)
        self._methods |= taken
        self._from_instance.difference_update(taken)

    def namespace(self, prefix: str) -> "Registry":
        """Return a view of this registry that puts ``prefix`` and a dot before each name; namespaces can be nested."""
        inner = Registry(f"{self._prefix}{prefix}.")
        inner._methods = self._methods
        inner._from_instance = self._from_instance
        inner._hooks = self._hooks
        return inner

    def middleware(self, function: AnyFunction) -> AnyFunction:
        """Put a function around all calls of this registry's or namespace's methods; a decorator.

        It is ``async def (call, context, next)`` and returns a Reply, mostly that of ``await next(call, context)``. The
        first one that is registered is the outermost. The call's deadline is that of all of them together.

        Raises:
            RegistrationError: it is not such a function.

        """
        check_middleware(function)
        self._hooks.middleware.append((self._prefix, function))
        return function

    def exception_handler(self, kind: type[BaseException]) -> Callable[[AnyFunction], AnyFunction]:
        """Let a function make the fault of an exception that a method of this registry or namespace raises.

        A decorator for ``def (error, context)``, which returns a Fault. Of several, the one for the nearest base class
        is asked. A Fault that a method raises needs none.

        Raises:
            RegistrationError: it is not such a function, or ``kind`` is not a class of exceptions.

        """

        def add(function: AnyFunction) -> AnyFunction:
            check_handler(kind, function)
            self._hooks.exception_handlers.append((self._prefix, kind, function))
            return function

        return add

    def lifespan(self, function: AnyFunction) -> AnyFunction:
        """Open what methods need in each process before its first call, and close it after the last; a decorator.

        The function is an async generator with one ``yield``, or returns an async context manager. It is given the
        state, if it takes it: what it puts there is in ``context.state`` of each call.

        Raises:
            RegistrationError: it takes something else.

        """
        self._hooks.lifespans.append(lifespan_of(function))
        return function

    def on_startup(self, function: AnyFunction) -> AnyFunction:
        """Call a function, async or not, in each process before its first call; a decorator. See ``lifespan``."""
        self._hooks.lifespans.append(starting(function))
        return function

    def on_shutdown(self, function: AnyFunction) -> AnyFunction:
        """Call a function, async or not, in each process after its last call; a decorator. See ``lifespan``."""
        self._hooks.lifespans.append(stopping(function))
        return function

    def authenticate(self, function: AnyFunction) -> AnyFunction:
        """Let a function find out who sends a request, from its head, in the place of ``access.keys``; a decorator.

        It is ``def (head, caller)``, with an HTTPRequest and what is known of the caller, and returns a Caller or
        AccessDenied. It is asked for each request before its body is read, on the event loop, so it must not wait.

        Raises:
            RegistrationError: it is not such a function, or there is another one.

        """
        check_authenticate(function)
        self._hooks.set_authenticate(function)
        return function

    def belongs_to(self, module: str) -> bool:
        """Tell whether a module serves this registry as a namespace: it was made there, with a prefix."""
        return bool(self._prefix) and self._module == module

    @property
    def hooks(self) -> RegisteredHooks:
        """The hooks of this registry."""
        return self._hooks

    def register_function(self, function: Callable[..., Any] | None = None, name: str | None = None) -> Any:
        """Register a function as ``SimpleXMLRPCServer.register_function`` does; a decorator without one.

        Raises:
            RegistrationError: as ``register``. The standard library replaces a function of the same name; here it is an
                error.

        """
        if function is None:
            return functools.partial(self.register_function, name=name)
        return self.register(function) if name is None else self.register(function, name=name)

    def register_object(self, instance: AnyObject) -> AnyObject:
        """Register the methods of an object whose functions are marked with ``@method`` in its class, or in a base.

        Returns:
            the object itself.

        Raises:
            RegistrationError: none is marked, or one cannot be registered; nothing of it is registered then.

        """
        if isinstance(instance, type):
            raise RegistrationError(f"{instance.__qualname__} is a class: register an object of it")
        found = Registry()
        for function, options in marked_methods(instance):
            found.add(make_method(function, options))
        if not len(found):
            kind = type(instance).__qualname__
            raise RegistrationError(f"{kind} has no method that is marked with @method")
        self.mount(found)
        return instance

    def register_instance(self, instance: object) -> None:
        """Register the public methods of an object as ``SimpleXMLRPCServer.register_instance`` does.

        A function has precedence over a method of an instance, whichever is registered first. An instance that has
        ``_dispatch`` is called through it, under the names that its ``_listMethods`` returns. Where it has
        ``_methodHelp``, that is asked for the documentation of each name. Attributes of attributes are never served,
        nor are names that begin with an underscore, properties and classes. The names, and what is told of them, are
        those that the instance has when it is registered.

        Raises:
            RegistrationError: it has ``_dispatch`` but no ``_listMethods``, a method cannot be served, or another
                instance has one of the same name; nothing of it is registered then.

        """
        made = methods_of(instance)
        functions = self._methods.keys() - self._from_instance
        taken = {self._prefix + found.name: found for found in made if self._prefix + found.name not in functions}
        for name, found in taken.items():
            if name in self._methods:
                raise self._twice(name, found)
            self._check(name, found, reserved=False)
        self._methods |= taken
        self._from_instance.update(taken)

    def _twice(self, name: str, added: Method) -> RegistrationError:
        first = self._methods[name].place
        return RegistrationError(f"{name!r} is registered twice: by {first} and by {added.place}; rename one of them")
