"""Reading a function: its signature, its type hints, its docstring, and how it runs."""

import functools
import inspect
import types
import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator
from datetime import datetime
from types import GenericAlias
from typing import Any

import msgspec

from gateway.methods.binding import Method, Param
from gateway.methods.hints import foreign, is_pydantics
from gateway.methods.models import Check, checker
from gateway.methods.options import MethodOptions, RegistrationError, Run, check_callable
from gateway.methods.places import place_of, written
from gateway.methods.shapes import Shape, shape_of
from gateway.model.calls import Context

_SCALARS: frozenset[Any] = frozenset({type(None), bool, int, float, str, bytes, datetime})
_NEUTRAL = _SCALARS | {list, dict}
_STREAMS = (AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator)
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def make_method(function: Callable[..., Any], options: MethodOptions) -> Method:
    """Read a function's signature, type hints and docstring.

    Raises:
        RegistrationError: it cannot be called, its hints cannot be read or checked, ``run`` does not fit it, or no call
            could.

    """
    check_callable(function)
    place = place_of(function)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise RegistrationError(
            f"{place}: its parameters cannot be read: {error}; write a function around it"
        ) from None
    hints = _hints(function, place)
    params: list[Param] = []
    rest = others = context = None
    for index, parameter in enumerate(signature.parameters.values()):
        hint = hints.get(parameter.name, Any)
        if _is_context(hint):
            context = _context(index, parameter, context, place)
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            rest = _param(parameter, hint, place)
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            others = _param(parameter, hint, place)
        else:
            params.append(_param(parameter, hint, place))
    required = [param for param in params if param.required]
    if not (all(param.positional for param in required) or all(param.named for param in required)):
        raise RegistrationError(
            f"{place}: some required parameters can only be given by position, others only by name; no call can do both"
        )
    streams = _is(function, inspect.isasyncgenfunction) or _is(function, inspect.isgeneratorfunction)
    result = hints.get("return", Any)
    return Method(
        name=options.versioned(str(getattr(function, "__name__", "")) if options.name is None else options.name),
        function=function,
        doc=inspect.getdoc(function) or "",
        run=_run(function, options, place),
        params=tuple(params),
        positional=tuple(param for param in params if param.positional),
        rest=rest,
        others=others,
        hidden=frozenset() if others is None else _hidden(function, params),
        result=_collected(result) if streams else result,
        context=context,
        options=options,
        place=place,
        streams=streams,
    )


def _is_context(hint: Any) -> bool:
    return hint is Context or (
        typing.get_origin(hint) in (typing.Union, types.UnionType, typing.Annotated)
        and Context in typing.get_args(hint)
    )


def _context(
    index: int, parameter: inspect.Parameter, before: tuple[int | None, str] | None, place: str
) -> tuple[int | None, str]:
    if parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, *_VARIABLE):
        raise RegistrationError(f"{place}: a Context must be a parameter that can be given by name")
    if before is not None:
        raise RegistrationError(
            f"{place}: the function takes the Context twice, as {before[1]} and as {parameter.name}"
        )
    return (None if parameter.kind is inspect.Parameter.KEYWORD_ONLY else index), parameter.name


def _hidden(function: Callable[..., Any], params: list[Param]) -> frozenset[str]:
    """Find the names that no caller may use: positional-only, of a Context, bound by a method or a partial."""
    all_of_them = inspect.signature(written(function)).parameters.values()
    names = {parameter.name for parameter in all_of_them if parameter.kind not in _VARIABLE}
    return frozenset(names - {param.name for param in params if param.named})


def _param(parameter: inspect.Parameter, hint: Any, place: str) -> Param:
    required = parameter.default is inspect.Parameter.empty
    try:
        check = _check(hint, required=required)
    except Exception as error:  # noqa: BLE001 - msgspec and pydantic raise several kinds, and RecursionError
        said = str(error).strip().partition("\n")[0]
        raise RegistrationError(f"{place}: the type hint of {parameter.name!r} cannot be checked: {said}") from None
    return Param(
        name=parameter.name,
        hint=hint,
        fits=fitting(hint),
        shape=Shape() if hint is Any or check is not None else shape_of(hint),
        check=check,
        required=required,
        default=None if required else parameter.default,
        positional=parameter.kind in _POSITIONAL,
        named=parameter.kind is not inspect.Parameter.POSITIONAL_ONLY,
    )


def _check(hint: Any, *, required: bool) -> Check | None:
    """Prove that a hint can be checked, and return what checks it instead of msgspec."""
    if is_pydantics(hint):
        return checker(hint)
    found = foreign(hint) if required else None
    if found is not None:
        kind, remedy = found
        raise TypeError(f"no value of a call can become an instance of {kind.__qualname__}; use {remedy}")
    msgspec.json.Decoder(hint)
    return None


def fitting(hint: Any) -> frozenset[type]:
    """Return the types whose values are right for a hint as they are; see Param."""
    if hint is Any:
        return _NEUTRAL
    parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    return _SCALARS.intersection(parts) if _SCALARS.issuperset(parts) else frozenset()


def _hints(function: Callable[..., Any], place: str) -> dict[str, Any]:
    """Resolve the type hints."""
    source = written(function)
    if isinstance(source, type):
        return {}
    try:
        return typing.get_type_hints(source, include_extras=True)
    except Exception as error:  # noqa: BLE001 - a hint is any expression of the user's
        raise RegistrationError(f"{place}: its type hints cannot be read: {error}") from None


def _run(function: Callable[..., Any], options: MethodOptions, place: str) -> Run:
    streams = _is(function, inspect.isasyncgenfunction) or _is(function, inspect.isgeneratorfunction)
    asynchronous = _is(function, inspect.iscoroutinefunction) or _is(function, inspect.isasyncgenfunction)
    run = options.run or ("async" if asynchronous else "thread")
    if streams and run == "inline":
        raise RegistrationError(f"{place}: a generator cannot run as 'inline'")
    if asynchronous != (run == "async"):
        kind = "async def" if asynchronous else "def"
        raise RegistrationError(f"{place}: a function written with {kind} cannot run as {run!r}")
    return run


def _is(function: Callable[..., Any], kind: Callable[[Any], bool]) -> bool:
    """Tell whether a function, or what is called in its place, is of a kind."""
    outer = function.func if isinstance(function, functools.partial) else function
    inner = (outer, getattr(outer, "__func__", None), getattr(outer, "__call__", None))  # noqa: B004 - it may be async
    return any(kind(each) for each in inner)


def _collected(hint: Any) -> Any:
    """Return the type hint of all values of a generator in a list."""
    values = typing.get_args(hint)
    return GenericAlias(list, (values[0],)) if typing.get_origin(hint) in _STREAMS and values else list
