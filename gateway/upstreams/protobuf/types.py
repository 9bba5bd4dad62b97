"""Message types as type hints, by which the gateway checks arguments, reads base64 and writes schemas.

    types = Types()
    types.parameters(descriptor)     a request's fields, as parameters
    types.result(descriptor)         the hint of an answer
    types.only(descriptor)           the name and the hint of its one field, where it has no more
    types.message(descriptor)        the hint of a message as a value: a msgspec Struct, or what a well-known type is

A field is optional and may be None, which leaves it unset, unless proto2 requires it. What the hints do not say,
values.py checks: it takes the plain values that ``msgspec.to_builtins`` makes of these Structs.
"""

from datetime import datetime
from types import GenericAlias, NoneType
from typing import Any, ForwardRef, Optional, Union

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from msgspec import UNSET, UnsetType

from gateway.upstreams import Parameter
from gateway.upstreams.protobuf.scalars import scalar
from gateway.upstreams.protobuf.values import EMPTY, WHOLE, is_map
from gateway.upstreams.protobuf.wellknown import WELL_KNOWN

_DEEPEST = 60  # levels of messages of different types; rpc.discover and msgspec follow them


class Types:
    """Hints, made once for each type. A message that contains itself is a Struct that does."""

    def __init__(self) -> None:
        self._structs: dict[Descriptor, Any] = {}
        self._begun: list[Descriptor] = []
        self._references: list[tuple[Descriptor, str, Descriptor]] = []

    def parameters(self, descriptor: Descriptor) -> tuple[Parameter, ...]:
        """Return the parameters of a request: its fields, or the value of a well-known type."""
        known = WELL_KNOWN.get(descriptor.full_name)
        if known is not None:
            return (Parameter(name=WHOLE, hint=Optional[known.hint], required=False),)  # noqa: UP045 - made at run time
        return tuple(
            Parameter(name=field.name, hint=self._given(field), required=field.is_required)
            for field in descriptor.fields
        )

    def result(self, descriptor: Descriptor) -> Any:
        """Return the hint of an answer."""
        if descriptor.full_name == EMPTY:
            return NoneType
        known = WELL_KNOWN.get(descriptor.full_name)
        return self.message(descriptor) if known is None else GenericAlias(dict, (str, known.hint))

    def only(self, descriptor: Descriptor) -> tuple[str, Any] | None:
        """Return the name and the hint of a message's field, if it has one only."""
        known = WELL_KNOWN.get(descriptor.full_name)
        if known is not None:
            return WHOLE, known.hint
        if len(descriptor.fields) != 1:
            return None
        (field,) = descriptor.fields
        hint = self.hint(field)
        return field.name, Optional[hint] if field.has_presence else hint  # noqa: UP045 - made at run time

    def message(self, descriptor: Descriptor) -> Any:
        """Return the hint of a message."""
        known = WELL_KNOWN.get(descriptor.full_name)
        if known is not None:
            return known.hint
        if descriptor in self._structs:
            return self._structs[descriptor]
        if descriptor in self._begun:
            return self._reference(descriptor)
        if len(self._begun) == _DEEPEST:
            raise ValueError(f"its messages contain each other on more than {_DEEPEST} levels")
        self._begun.append(descriptor)
        made = msgspec.defstruct(
            descriptor.full_name,
            [self._member(number, field) for number, field in enumerate(descriptor.fields)],
            rename={f"field{number}": field.name for number, field in enumerate(descriptor.fields)},
            forbid_unknown_fields=True,
            kw_only=True,
        )
        self._begun.pop()
        self._structs[descriptor] = made
        if not self._begun:
            self._refer()
        return made

    def hint(self, field: FieldDescriptor) -> Any:
        """Return the hint of a field that is set."""
        if is_map(field):
            assert field.message_type is not None  # noqa: S101 - is_map has seen it
            return GenericAlias(dict, (str, self.hint(field.message_type.fields_by_name["value"])))
        one = scalar(field).hint if field.message_type is None else self.message(field.message_type)
        return GenericAlias(list, (one,)) if field.is_repeated else one

    def _given(self, field: FieldDescriptor) -> Any:
        hint = self.hint(field)
        return hint if field.is_required else Optional[hint]  # noqa: UP045 - made at run time

    def _member(self, number: int, field: FieldDescriptor) -> tuple[Any, ...]:
        name, given = f"field{number}", self._given(field)  # the .proto's own name need not be one of Python's
        return (name, given) if field.is_required else (name, Union[given, UnsetType], UNSET)  # noqa: UP007 - likewise

    def _reference(self, descriptor: Descriptor) -> ForwardRef:
        """Refer to a Struct that is not finished; msgspec looks the name up in the class that refers."""
        name = f"type{len(self._references)}"
        self._references.append((self._begun[-1], name, descriptor))
        return ForwardRef(name)

    def _refer(self) -> None:
        for owner, name, descriptor in self._references:
            setattr(self._structs[owner], name, self._structs[descriptor])
        self._references = []


def neutral(params: Any) -> dict[str, Any]:
    """Make neutral values of the Structs in a call's arguments."""
    made: dict[str, Any] = msgspec.to_builtins(params, builtin_types=(bytes, datetime))
    return made


def declaration(method: MethodDescriptor) -> str:
    """Write a method as in a .proto."""
    takes = f"{'stream ' * method.client_streaming}{method.input_type.full_name}"
    gives = f"{'stream ' * method.server_streaming}{method.output_type.full_name}"
    return f"rpc {method.full_name}({takes}) returns ({gives})"
