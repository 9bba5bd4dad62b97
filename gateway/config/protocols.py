"""How responses are written where protocols leave a choice: the sections ``[xmlrpc]`` and ``[jsonrpc]``."""

from typing import Annotated, Literal

from msgspec import Meta, Struct


class XMLRPCSection(Struct, frozen=True, kw_only=True):
    """What XML-RPC responses may contain beyond the specification."""

    none: Annotated[
        Literal["nil", "empty", "fault"],
        Meta(
            description='How None is written, for which the specification has nothing: "nil" as <nil/>, which most'
            ' clients read; "empty" as an empty string, for clients without nil (Homematic, WordPress); "fault" as a'
            " fault, after the method has run."
        ),
    ] = "nil"
    i8: Annotated[
        bool,
        Meta(
            description="Whether integers beyond 32 bits are written as <i8>. Otherwise the call has a fault: the"
            " specification ends at 32 bits."
        ),
    ] = True


class JSONRPCSection(Struct, frozen=True, kw_only=True):
    """How JSON-RPC responses are written."""

    int64: Annotated[
        Literal["number", "text"],
        Meta(
            description='How integers beyond 53 bits are written: "number", or "text", because JavaScript reads numbers'
            ' as doubles and rounds these. With "text", such texts are also taken for int parameters.'
        ),
    ] = "number"
