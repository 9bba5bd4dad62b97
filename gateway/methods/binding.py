"""A method, and how a caller's arguments are fitted to it."""

import typing
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol, TypeAlias

import msgspec
from msgspec import Struct

from gateway.methods.models import Check
from gateway.methods.options import MethodOptions, Run
from gateway.methods.places import named, readable
from gateway.methods.published import Published
from gateway.methods.shapes import Shape, UnknownFieldError
from gateway.model.calls import Context, Params
from gateway.model.faults import Fault, InvalidParams
from gateway.model.hooks import NO_HOOKS, Hooks

_NO_SHAPE = Shape()


class Outcome(Protocol):
    """What waits for the outcome of a call."""

    def set_result(self, value: Any, /) -> None:
        """Take what the function would return."""

    def set_exception(self, error: Exception, /) -> None:
        """Take what the function would raise."""


class Sent(Protocol):
    """A call that an upstream has."""

    def cancel(self) -> None:
        """Stop waiting for it: its outcome is told to nobody."""

    def late(self) -> Fault:
        """Make the fault of it when its time is over."""


Begin: TypeAlias = Callable[[list[Any], dict[str, Any], Context, Outcome], Sent | None]
"""Does what the function does, without a coroutine, and tells the outcome later; None where that cannot be now."""


class Param(Struct, frozen=True, kw_only=True):
    """A parameter as the caller sees it: its name, its type hint (Any without one), and whether it must be given.

    ``fits`` are the types whose values are right as they are; converting them would only cost time. ``shape`` is what
    the hint says beyond what msgspec checks. ``check`` checks a value in the place of msgspec, if it is there.
    ``int_texts``: texts of ints beyond 53 bits are taken from every caller.
    """

    name: str
    hint: Any
    fits: frozenset[type]
    required: bool
    default: Any
    positional: bool
    named: bool
    shape: Shape = _NO_SHAPE
    int_texts: bool = False
    check: Check | None = None


class Method(Struct, frozen=True, kw_only=True):
    """A registered function.

    Attributes:
        params: what the caller may give, in order, without ``*args``, ``**kwargs`` and the context.
        positional: those of them that can be given by position.
        rest: ``*args``, whose hint is that of each value; None without it.
        others: ``**kwargs``, whose hint is that of each value; None without it.
        hidden: names that ``**kwargs`` cannot take, because the function has them for something else.
        result: the type hint of the result; Any without one.
        context: the place and name of the parameter that takes the Context, and no place where it goes by name only;
            None without it.
        place: where the function is written: ``file:line``.
        published: what an upstream tells of it; None for the gateway's own functions.
        begin: sends its calls to an upstream without a coroutine; None where that cannot be.
        hooks: what the registries that it comes from have put around its calls.
        idempotent: whether a call may run twice, as the configuration of an upstream says.
        streams: it gives values one after the other: the function is a generator, async or not.
        stream: the async generator that does so in the place of the function, which gives a list; None where it is the
            function itself.
        message: what a caller may send while a call runs that streams; None where that is nothing.
        perhaps: only what comes first tells whether a call streams: a Whole is the result of one that does not.

    """

    name: str
    function: Callable[..., Any]
    doc: str
    run: Run
    params: tuple[Param, ...]
    positional: tuple[Param, ...]
    rest: Param | None
    others: Param | None
    hidden: frozenset[str]
    result: Any
    context: tuple[int | None, str] | None
    options: MethodOptions
    place: str
    published: Published | None = None
    begin: Begin | None = None
    hooks: Hooks = NO_HOOKS
    idempotent: bool = False
    streams: bool = False
    stream: Callable[..., AsyncGenerator[Any, None]] | None = None
    perhaps: bool = False
    message: Param | None = None

    def bind(self, params: Params, context: Context) -> tuple[list[Any], dict[str, Any]]:
        """Fit the caller's arguments to the function and convert them by its type hints.

        Returns:
            the positional and the named arguments to call the function with.

        Raises:
            InvalidParams: they do not fit; the detail begins with the place, ``params[0].price``.

        """
        if type(params) is list:
            args, kwargs = self._bind_list(params, context), {}
        else:
            args, kwargs = [], self._bind_dict(typing.cast("dict[str, Any]", params), context)
        if self.context is not None:
            index, name = self.context
            if index is not None and index <= len(args):
                args.insert(index, context)
            else:
                kwargs[name] = context
        return args, kwargs

    def read_message(self, value: Any, context: Context) -> Any:
        """Convert a message that the caller sends while the call runs, as arguments are converted.

        Raises:
            InvalidParams: it does not fit.

        """
        assert self.message is not None  # noqa: S101 - nobody else is asked
        return _converted(value, self.message, ".message", context)

    def _bind_list(self, params: list[Any], context: Context) -> list[Any]:
        takes, given = self.positional, len(params)
        args = [
            value if type(value) in param.fits else _converted(value, param, f"[{i}]", context)
            for i, (param, value) in enumerate(zip(takes, params, strict=False))
        ]
        if given > len(takes):
            if self.rest is None:
                raise InvalidParams(f"params[{len(takes)}]: one too many, it takes {len(takes)} at most")
            if self.rest.hint is Any and self.rest.check is None:  # as all arguments of most upstreams are
                args += params[len(takes) :]
            else:
                args += [_converted(params[i], self.rest, f"[{i}]", context) for i in range(len(takes), given)]
        for param in self.params[min(given, len(takes)) :]:
            if param.required:
                raise InvalidParams(
                    f"params.{param.name}: missing{'' if param.positional else ', and can only be given by name'}"
                )
        return args

    def _bind_dict(self, params: dict[str, Any], context: Context) -> dict[str, Any]:
        kwargs: dict[str, Any] = {}
        for param in self.params:
            if param.named and param.name in params:
                kwargs[param.name] = _converted(params[param.name], param, f".{param.name}", context)
            elif param.required:
                reason = "missing" if param.named else "it can only be given by position"
                raise InvalidParams(f"params.{param.name}: {reason}")
        for name in [name for name in params if name not in kwargs]:
            if self.others is None or name in self.hidden:
                raise InvalidParams(f"params.{name[:80]}: there is no such parameter")
            kwargs[name] = _converted(params[name], self.others, f".{name[:80]}", context)
        return kwargs


def _converted(value: Any, param: Param, place: str, context: Context) -> Any:
    """Convert and check one argument by its hint, strictly: "1" is not an int, True is not an int, 2.0 is one."""
    if param.check is not None:
        return param.check(value, place, context)
    if param.hint is Any or param.hint is type(value):
        return value
    try:
        return _convert(value, param, context)
    except UnknownFieldError as unknown:
        raise InvalidParams(f"params{place}{unknown.place}: there is no such field") from None
    except (msgspec.ValidationError, TypeError) as error:  # a set takes only what can be hashed
        what, path = readable(error)

    def mistake(part: Any) -> str | None:
        try:
            _convert(part, param, context)
        except (msgspec.ValidationError, TypeError) as error:
            return readable(error)[1]
        return None

    raise InvalidParams(f"params{place}{named(value, path, mistake)}: {what}")


def _convert(value: Any, param: Param, context: Context) -> Any:
    shape = param.shape
    try:
        return _strictly(value if shape.names is None else shape.names(value), param.hint, context.native)
    except msgspec.ValidationError:
        walk = shape.numbers if context.wide_ints and not param.int_texts else shape.texts
        if walk is None:
            raise
    return _strictly(walk(value), param.hint, context.native)


def _strictly(value: Any, hint: Any, native: tuple[type, ...]) -> Any:
    return msgspec.convert(value, hint, builtin_types=native, str_keys=True)  # a struct's names are always text
