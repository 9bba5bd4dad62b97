"""A server's fault as the exception that a caller can tell by its type.

    typed(fault, retry_after) -> RateLimited, MethodNotFound, InvalidParams...     by code, and by the title before it
                              -> the ForeignFault itself, where the code is not one of a gateway

The codes that JSON-RPC 2.0 and the XML-RPC interoperability specification name mean the same everywhere. Those from
-32000 downwards are each server's own: -32003 is "Transaction rejected" elsewhere. So they have a type only where the
text begins with the title that a gateway writes. The text is kept as the server wrote it.
"""

import re
from collections import defaultdict
from typing import Any

from gateway.model.faults import CATALOGUE, Fault, ForeignFault, GatewayFault

_SPECIFIED = range(-32768, -32599)
_DATA = re.compile(
    r"(.*?) ?\[([a-z_]+=[^,\[\]]*(?:, [a-z_]+=[^,\[\]]*)*)\]", re.DOTALL
)  # behind an XML-RPC fault's text
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)
_KINDS: defaultdict[int, list[type[GatewayFault]]] = defaultdict(list)
for _kind, _row in CATALOGUE.items():
    if issubclass(_kind, GatewayFault):
        _KINDS[_row.code].append(_kind)


def typed(fault: ForeignFault, *, retry_after: float | None = None) -> Fault:
    """Give a server's fault its type; ``retry_after`` is what its HTTP head says, which its own data wins over."""
    kinds = _KINDS.get(fault.code, []) if fault.word is None else []
    text, data = (fault.detail, fault.data) if fault.data is not None else _with_data(fault.detail)
    title, _, detail = text.partition(": ")
    kind = next((each for each in kinds if CATALOGUE[each].title == title), None)
    if kind is None:
        return _of(kinds[0], "", fault, fault.data) if fault.code in _SPECIFIED and kinds else fault
    if isinstance(data, dict) and not detail and isinstance(data.get("detail"), str):
        detail = data["detail"]
    made = _of(kind, title, fault, data)
    made.detail = detail
    if retry_after is not None:
        made.data.setdefault("retry_after", retry_after)
    return made


def _with_data(text: str) -> tuple[str, Any]:
    """Take the data out of an XML-RPC fault's text: ``Rate limited [retry_after=1]``."""
    found = _DATA.fullmatch(text)
    if found is None:
        return text, None
    pairs = (each.split("=", 1) for each in found[2].split(", "))
    return found[1], {name: int(said) if _NUMBER.fullmatch(said) else said for name, said in pairs}


def _of(kind: type[GatewayFault], title: str, fault: ForeignFault, data: Any) -> GatewayFault:
    made = kind(fault.detail)
    made.title, made.detail, made.code, made.foreign = title, fault.detail, fault.code, fault
    made.data = data if isinstance(data, dict) else {} if data is None else {"data": data}
    return made
