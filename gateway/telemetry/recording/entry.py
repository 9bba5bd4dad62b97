"""One recorded call: a line of JSON."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct

from gateway.telemetry.recording.typed import typed, untyped

VERSION = 1


class Fault(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller was told in the place of a result."""

    code: Any
    message: Any
    data: Any = None


class Entry(Struct, kw_only=True, omit_defaults=True):
    """One call. Values are as typed.py writes them.

    Attributes:
        v: the version of this form.
        at: when the call began, by ISO 8601 in UTC.
        id: the request id, as in the log.
        position: the place in a batch or multicall, counted from 0.
        protocol: "jsonrpc", "xmlrpc" or "mcp".
        method: the name that was called.
        served: the name of what has served it, where that is another one.
        caller: the name of the caller's API key, or of its certificate.
        idempotent: whether the method is known to do no harm if it runs twice.
        notification: whether the caller wanted no response.
        stream: whether the values went to the caller one by one; then only the outcome is here.
        seconds: how long it took.
        outcome: what became of it.
        params: the arguments, in an array or, by name, in an object.
        result: the result.
        fault: the fault.
        redacted: the places of what is left out because it is, or looks like, a secret.
        omitted: which of params, result and fault are left out because they are too large.

    """

    v: int
    at: str
    id: str
    protocol: str
    method: str
    seconds: float
    outcome: Literal["result", "fault", "cancelled"]
    position: int | None = None
    served: str = ""
    caller: str = ""
    idempotent: bool = False
    notification: bool = False
    stream: bool = False
    params: Any = UNSET
    result: Any = UNSET
    fault: Fault | None = None
    redacted: list[str] = []
    omitted: list[Literal["params", "result", "fault"]] = []


def line(entry: Entry) -> bytes:
    """Write an entry whose values are neutral ones."""
    told = msgspec.structs.replace(entry, params=_typed(entry.params), result=_typed(entry.result))
    if entry.fault is not None:
        fault = entry.fault
        told.fault = Fault(code=typed(fault.code), message=typed(fault.message), data=typed(fault.data))
    return msgspec.json.encode(told) + b"\n"


def read(text: bytes) -> Entry:
    """Read a line; its values are neutral ones then.

    Raises:
        ValueError: it is not one.

    """
    try:
        entry = msgspec.json.decode(text, type=Entry)
        if entry.v != VERSION:
            raise ValueError(f"it has version {entry.v} of the form")
        entry.params, entry.result = _untyped(entry.params), _untyped(entry.result)
        if entry.fault is not None:
            said = entry.fault
            entry.fault = Fault(code=untyped(said.code), message=untyped(said.message), data=untyped(said.data))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    return entry


def _typed(value: Any) -> Any:
    return UNSET if value is UNSET else typed(value)


def _untyped(value: Any) -> Any:
    return UNSET if value is UNSET else untyped(value)
