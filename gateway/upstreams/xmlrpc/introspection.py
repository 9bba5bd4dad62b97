"""What an XML-RPC server tells of its methods: their names, and, where it has more, signatures and texts.

    await describe(call) -> Signatures        system.listMethods, then methodSignature and methodHelp for each method

Signatures and texts are asked for by system.multicall, and one by one where the server has none. They are shown to
callers and nothing is checked by them, so they never keep an upstream from being used: what has not been told in time
is left out.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias

from gateway.codecs.xmlrpc.schemas import SCHEMAS
from gateway.model.faults import Fault, MethodNotFound
from gateway.upstreams import Signature
from gateway.upstreams.names import from_names
from gateway.upstreams.transport.http import FAILURES

_Call: TypeAlias = Callable[[str, list[Any]], Awaitable[Any]]
_Told: TypeAlias = dict[tuple[str, str], Any]

_SIGNATURE, _HELP = "system.methodSignature", "system.methodHelp"
_SECONDS = 0.7  # for signatures and texts: a process that starts waits a second for all
_AT_ONCE = 50  # methods in a multicall
_TOGETHER = 4  # requests at a time: many of these servers have one thread and a backlog of 5
_MOST_SIGNATURES, _MOST_TYPES, _MOST_TEXT = 20, 50, 10_000
_TYPE = re.compile(r"[A-Za-z0-9_.:]{1,40}", re.ASCII)
_LOST = (Fault, TimeoutError, *FAILURES)


async def describe(call: _Call) -> list[Signature] | None:
    """Ask for the methods; None where the server has no system.listMethods.

    Raises:
        BadUpstream: the list is not a list of names.
        Exception: what ``call`` raises for system.listMethods.

    """
    try:
        names = [signature.name for signature in from_names(await call("system.listMethods", []))]
    except MethodNotFound:
        return None
    told: _Told = {}
    with suppress(*_LOST):
        async with asyncio.timeout(_SECONDS):
            await _ask(call, [name for name in names if not name.startswith("system.")], told)
    return [_signature(name, told) for name in names]


async def _ask(call: _Call, names: list[str], told: _Told) -> None:
    for start in range(0, len(names), _AT_ONCE):
        asked = [(method, name) for name in names[start : start + _AT_ONCE] for method in (_SIGNATURE, _HELP)]
        entries = [{"methodName": method, "params": [name]} for method, name in asked]
        try:
            answers = await call("system.multicall", [entries])
        except Fault:
            answers = None
        if type(answers) is not list or len(answers) != len(asked):
            await _ask_one_by_one(call, names, told)
            return
        told |= {key: each[0] for key, each in zip(asked, answers, strict=True) if type(each) is list and each}


async def _ask_one_by_one(call: _Call, names: list[str], told: _Told) -> None:
    places = asyncio.Semaphore(_TOGETHER)

    async def ask(method: str, name: str) -> None:
        async with places:
            with suppress(*_LOST):
                told[method, name] = await call(method, [name])

    for method in (_SIGNATURE, _HELP):
        try:
            told[method, names[0]] = await call(method, names[:1])
        except MethodNotFound:
            continue
        except Fault:
            pass  # this method has no text or signature; others may have
        async with asyncio.TaskGroup() as group:
            for name in names[1:]:
                group.create_task(ask(method, name))


def _signature(name: str, told: _Told) -> Signature:
    signatures = _signatures(told.get((_SIGNATURE, name)))
    text = told.get((_HELP, name))
    doc = text.strip()[:_MOST_TEXT] if type(text) is str else ""
    openrpc = _method_object(signatures[0], doc) if len(signatures) == 1 else None
    return Signature(name=name, doc=doc, signatures=signatures, openrpc=openrpc)


def _signatures(said: Any) -> tuple[tuple[str, ...], ...]:
    """Read an array of signatures; a server without any returns a text."""
    if type(said) is not list or len(said) > _MOST_SIGNATURES:
        return ()
    made = [tuple(each) for each in said if type(each) is list and 0 < len(each) <= _MOST_TYPES]
    is_plain = all(type(kind) is str and _TYPE.fullmatch(kind) for each in made for kind in each)
    return tuple(made) if is_plain and len(made) == len(said) else ()


def _method_object(signature: tuple[str, ...], doc: str) -> dict[str, Any]:
    """Make an OpenRPC method object of a signature, which has no names of parameters."""
    result, *params = signature
    return {
        "params": [
            {"name": f"p{number}", "schema": SCHEMAS.get(kind, {}), "required": True}
            for number, kind in enumerate(params, 1)
        ],
        "result": {"name": "result", "schema": SCHEMAS.get(result, {})},
        "paramStructure": "by-position",
        **({"description": doc} if doc else {}),
    }
