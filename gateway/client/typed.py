"""What the modules stand on that ``gateway stubs`` writes: methods with their types, over a client of either kind."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from msgspec import UNSET, UnsetType

from gateway.client.calls import AsyncClient, Client
from gateway.model.calls import Params

__all__ = ["UNSET", "AsyncMethods", "Methods", "UnsetType"]

Given: TypeAlias = Mapping[str, Any] | tuple[Any, ...]


class Methods:
    """Methods of a server, called by a Client."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def _call(self, method: str, given: Given) -> Any:
        params = _arranged(self._client.protocol, given)
        return self._client.call(method, **params) if isinstance(params, dict) else self._client.call(method, *params)


class AsyncMethods:
    """Methods of a server, called by an AsyncClient."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def _call(self, method: str, given: Given) -> Any:
        params = _arranged(self._client.protocol, given)
        if isinstance(params, dict):
            return await self._client.call(method, **params)
        return await self._client.call(method, *params)


def _arranged(protocol: str, given: Given) -> Params:
    """Leave out what is not given: by name anything, by position what is last.

    Raises:
        TypeError: an argument is given by position, and one before it is not.

    """
    if isinstance(given, Mapping) and protocol == "jsonrpc":
        return {name: value for name, value in given.items() if value is not UNSET}
    values = list(given.values() if isinstance(given, Mapping) else given)
    while values and values[-1] is UNSET:
        values.pop()
    if UNSET in values:
        raise TypeError(f"argument {values.index(UNSET) + 1} must be given, because one behind it is")
    return values
