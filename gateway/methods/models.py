"""Parameters that pydantic checks: its models, and whatever has one of them inside.

    checker(hint)                          check(value, place, context) -> what the method gets; InvalidParams
    schema(hint, template, result=False)   the JSON Schema of a hint, and those of the classes in it by name

A model validates by its own configuration. The gateway adds the place to the message of a mistake, decodes base64 where
the protocol has no bytes, and makes ints of the texts of wide ones where it has no such numbers. pydantic is whichever
the program has imported, and nothing here is used without it.
"""

import binascii
import sys
import types
import typing
from base64 import b64decode
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, TypeAlias

from gateway.methods.shapes import whole_or_text
from gateway.model.calls import Context
from gateway.model.faults import InvalidParams

Check: TypeAlias = Callable[[Any, str, Context], Any]
_Walk: TypeAlias = Callable[[Any], Any]

_MOST_SAID = 200  # characters of a mistake, which can have the caller's own text in it


class _BadBase64Error(ValueError):
    """A text that is not base64 in the place of bytes."""


def checker(hint: Any) -> Check:
    """Make what checks the values of a hint.

    Raises:
        Exception: pydantic cannot check it.

    """
    pydantic: Any = sys.modules["pydantic"]
    adapter = pydantic.TypeAdapter(hint)
    adapter.rebuild(raise_errors=True)
    from_base64, from_text = _walk_to(bytes, _decoded, hint), _walk_to(int, _from_text, hint)

    def check(value: Any, place: str, context: Context) -> Any:
        try:
            if from_base64 is not None and bytes not in context.native:
                value = from_base64(value)
            if from_text is not None and not context.wide_ints:
                value = from_text(value)
            return adapter.validate_python(value)
        except _BadBase64Error:
            raise InvalidParams(f"params{place}: bytes must be given as base64") from None
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            said = first["msg"][:_MOST_SAID]
            inside = _place(value, first["loc"])
        raise InvalidParams(f"params{place}{inside}: {said[:1].lower()}{said[1:]}")

    return check


def _place(value: Any, steps: tuple[int | str, ...]) -> str:
    """Follow the steps that are in the value; the others name the branches of unions and validators."""
    place = ""
    for index, step in enumerate(steps):
        if isinstance(step, int) and isinstance(value, list):
            place += f"[{step}]"
            value = value[step] if step < len(value) else None
        elif isinstance(step, str) and isinstance(value, dict) and (step in value or index == len(steps) - 1):
            place += f".{step[:80]}"
            value = value.get(step)
    return place


def schema(hint: Any, template: str, *, result: bool = False) -> tuple[Any, dict[str, Any]]:
    """Make the JSON Schema of a hint, with references by ``template``, which has ``{name}`` in it.

    Raises:
        Exception: pydantic has no schema for it.

    """
    pydantic: Any = sys.modules["pydantic"]
    listed = pydantic.TypeAdapter(list[hint])  # a list, so that the model itself is described by its name, too
    made = _encoded(
        listed.json_schema(
            ref_template=template.replace("{name}", "{model}"), mode="serialization" if result else "validation"
        )
    )
    return made["items"], made.get("$defs", {})


def _encoded(part: Any) -> Any:
    """Describe bytes as base64."""
    if isinstance(part, list):
        return [_encoded(each) for each in part]
    if not isinstance(part, dict):
        return part
    if part.get("format") == "binary":
        part = {name: each for name, each in part.items() if name != "format"} | {"contentEncoding": "base64"}
    return {name: _encoded(each) for name, each in part.items()}


def _walk_to(kind: type, convert: _Walk, hint: Any, above: tuple[Any, ...] = ()) -> _Walk | None:
    """Make a function that converts what a value has in the places of one type; None where a hint has no such place.

    In a union of several models it is not known which one is meant, and nothing is converted.
    """

    def inside(part: Any, *more: Any) -> _Walk | None:
        return _walk_to(kind, convert, part, (*above, *more))

    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return inside(args[0])
    if isinstance(hint, typing.NewType):
        return inside(hint.__supertype__)
    if hint is kind:
        return convert
    if origin in (typing.Union, types.UnionType):
        walks = [walk for part in args if (walk := inside(part)) is not None]
        return walks[0] if len(walks) == 1 and str not in args else None
    if isinstance(origin, type) and issubclass(origin, Mapping) and len(args) == 2:
        return _in_values(inside(args[1]))
    if isinstance(origin, type) and issubclass(origin, list | tuple | AbstractSet) and args:
        return _in_items(inside(args[0])) if len(args) == 1 or args[1] is ... else None
    fields = getattr(hint, "__pydantic_fields__", None)
    if not isinstance(fields, dict) or hint in above:
        return None
    inner = {
        name: walk
        for own, field in fields.items()
        if (walk := inside(field.annotation, hint)) is not None
        for name in {own, field.alias or own}
    }
    return _in_members(inner) if inner else None


def _decoded(value: Any) -> Any:
    try:
        return b64decode(value, validate=True) if type(value) is str else value
    except (binascii.Error, ValueError):
        raise _BadBase64Error from None


def _from_text(value: Any) -> Any:
    return whole_or_text(value) if type(value) is str else value


def _in_values(walk: _Walk | None) -> _Walk | None:
    if walk is None:
        return None
    return lambda value: {name: walk(each) for name, each in value.items()} if type(value) is dict else value


def _in_items(walk: _Walk | None) -> _Walk | None:
    if walk is None:
        return None
    return lambda value: [walk(each) for each in value] if type(value) is list else value


def _in_members(inner: dict[str, _Walk]) -> _Walk:
    def walk(value: Any) -> Any:
        if type(value) is not dict:
            return value
        return {name: inner[name](each) if name in inner else each for name, each in value.items()}

    return walk
