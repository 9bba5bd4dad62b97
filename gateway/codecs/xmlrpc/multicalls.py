"""The calls of a system.multicall, and their results, both ways."""

from collections.abc import Sequence
from typing import Any

from gateway.codecs.xmlrpc.document import fault_of
from gateway.model.calls import Call, Entry, Id, InvalidCall, Reply
from gateway.model.faults import BadUpstream, InvalidParams, InvalidRequest


def entry(said: Any) -> Entry:
    """Make a call of one struct of a multicall; what is none faults in its own slot."""
    if type(said) is not dict:
        return InvalidCall(fault=InvalidRequest("bad multicall entry: not a struct"))
    method = said.get("methodName")
    params = said.get("params")
    if type(method) is not str or type(params) is not list:
        return InvalidCall(fault=InvalidRequest("bad multicall entry: it has a methodName and an array of params"))
    if method == "system.multicall":
        return InvalidCall(fault=InvalidRequest("recursion: a multicall in a multicall"))
    return Call(method=method, params=params)


def entries(calls: Sequence[Call]) -> list[Any]:
    """Make the one argument of a multicall.

    Raises:
        InvalidParams: a call has arguments by name, or is a notification.

    """
    for place, call in enumerate(calls, 1):
        if call.notification or isinstance(call.params, dict):
            missing = "notifications" if call.notification else "arguments by name"
            raise InvalidParams(f"call {place}: XML-RPC has no {missing}")
    return [[{"methodName": call.method, "params": call.params} for call in calls]]


def read(slots: Any) -> list[tuple[Id, Reply]] | Reply:
    """Read the result of a multicall; the ids of the calls are their places."""
    if type(slots) is not list:
        return _no_answer("the result of system.multicall is an array")
    return [(place, _read_slot(slot)) for place, slot in enumerate(slots, 1)]


def _read_slot(slot: Any) -> Reply:
    if type(slot) is list and len(slot) == 1:
        return Reply(value=slot[0])
    try:
        return Reply(fault=fault_of(slot))
    except InvalidRequest:
        return _no_answer("a result of system.multicall is an array of one value, or a fault")


def _no_answer(reason: str) -> Reply:
    return Reply(fault=BadUpstream(f"the response is not XML-RPC: {reason}"))
