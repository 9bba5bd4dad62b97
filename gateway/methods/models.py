"""Parameters that pydantic checks: its models, and whatever has one of them inside.

    checker(hint)                          check(value, place, native) -> what the method gets; InvalidParams
    schema(hint, template, result=False)   the JSON Schema of a hint, and those of the classes in it by name

A model validates by its own configuration. The gateway adds the place to the message of a mistake, and decodes base64
where the protocol has no bytes. pydantic is whichever the program has
imported, and nothing here is used without it.
"""

import binascii
import sys
import types
import typing
from base64 import b64decode
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, TypeAlias

from gateway.model.faults import InvalidParams

Check: TypeAlias = Callable[[Any, str, tuple[type, ...]], Any]
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
    decode = _decoder(hint, ())

    def check(value: Any, place: str, native: tuple[type, ...]) -> Any:
        try:
            return adapter.validate_python(value if decode is None or bytes in native else decode(value))
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


def _decoder(hint: Any, above: tuple[Any, ...]) -> _Walk | None:
    """Make a function that decodes the base64 of bytes in a value; None where a hint has no bytes.

    In a union of several models it is not known which one is meant, and nothing is decoded.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _decoder(args[0], above)
    if isinstance(hint, typing.NewType):
        return _decoder(hint.__supertype__, above)
    if hint is bytes:
        return _decoded
    if origin in (typing.Union, types.UnionType):
        walks = [walk for part in args if (walk := _decoder(part, above)) is not None]
        return walks[0] if len(walks) == 1 and str not in args else None
    if isinstance(origin, type) and issubclass(origin, Mapping) and len(args) == 2:
        return _in_values(_decoder(args[1], above))
    if isinstance(origin, type) and issubclass(origin, list | tuple | AbstractSet) and args:
        return _in_items(_decoder(args[0], above)) if len(args) == 1 or args[1] is ... else None
    fields = getattr(hint, "__pydantic_fields__", None)
    if not isinstance(fields, dict) or hint in above:
        return None
    inner = {
        name: walk
        for own, field in fields.items()
        if (walk := _decoder(field.annotation, (*above, hint))) is not None
        for name in {own, field.alias or own}
    }
    return _in_members(inner) if inner else None


def _decoded(value: Any) -> Any:
    try:
        return b64decode(value, validate=True) if type(value) is str else value
    except (binascii.Error, ValueError):
        raise _BadBase64Error from None


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
