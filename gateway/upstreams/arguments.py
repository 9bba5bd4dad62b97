"""Arguments of a call in the form that an adapter takes."""

from collections.abc import Sequence
from typing import Any

from gateway.model.calls import Params
from gateway.model.faults import InvalidParams
from gateway.upstreams import Signature


def arranged(signature: Signature, args: Sequence[Any], kwargs: dict[str, Any], takes: str) -> Params:
    """Bring arguments, all by position or all by name, into the form that the adapter takes.

    Raises:
        InvalidParams: a name cannot be turned into a position, because one before it is not given.

    """
    params = signature.params or ()
    if takes == "dict":
        return {param.name: value for param, value in zip(params, args, strict=False)} | kwargs
    if takes == "either" or not kwargs:
        return kwargs or list(args)
    given = [index for index, param in enumerate(params) if param.name in kwargs]
    for param in params[: given[-1]]:
        if param.name not in kwargs and param.default is ...:
            raise InvalidParams(f"params.{param.name}: missing, and {params[given[-1]].name} comes behind it")
    return [kwargs.get(param.name, param.default) for param in params[: given[-1] + 1]]
