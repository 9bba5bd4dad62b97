"""The methods of an object, as SimpleXMLRPCServer takes them: methods_of(instance) -> the methods."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from gateway.methods.binding import Method
from gateway.methods.options import MethodOptions, RegistrationError
from gateway.methods.places import place_of
from gateway.methods.reading import make_method

_PROPERTIES = (property, functools.cached_property)


def methods_of(instance: object) -> Iterator[Method]:
    """Read the public methods of an object, or those of its ``_dispatch``, with what its ``_methodHelp`` says of them.

    Raises:
        RegistrationError: it has ``_dispatch`` but no ``_listMethods``, or a method cannot be served.

    """
    dispatch, tell = getattr(instance, "_dispatch", None), getattr(instance, "_methodHelp", None)
    for found in _public(instance) if dispatch is None else _dispatched(instance, dispatch):
        told = None if tell is None else tell(found.name)
        yield found if told is None else msgspec.structs.replace(found, doc=str(told))


def _public(instance: object) -> Iterator[Method]:
    for name in dir(instance):
        if not name.startswith("_") and not isinstance(inspect.getattr_static(instance, name, None), _PROPERTIES):
            value = getattr(instance, name)
            if callable(value) and not isinstance(value, type):
                yield make_method(value, MethodOptions(name=name))


def _dispatched(instance: object, dispatch: Callable[..., Any]) -> Iterator[Method]:
    list_methods = getattr(instance, "_listMethods", None)
    if list_methods is None:
        kind = type(instance).__qualname__
        raise RegistrationError(f"{kind} has _dispatch but no _listMethods, which must return the names to serve")
    for name in list_methods():
        made = make_method(_bound_dispatch(dispatch, name), MethodOptions(name=name))
        yield msgspec.structs.replace(made, place=place_of(dispatch))


def _bound_dispatch(dispatch: Callable[..., Any], name: str) -> Callable[..., Any]:
    def call(*params: Any) -> Any:
        return dispatch(name, params)

    return call
