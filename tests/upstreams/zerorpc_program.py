"""A ZeroRPC server to stand behind a gateway: .venv-zerorpc/bin/python -m tests.upstreams.zerorpc_program [old] PORT.

It runs on ZeroRPC's own library, in the environment that ``make`` makes for it. ``old`` is as on a Python before 3.11,
where the library can tell of parameters.
"""

from gevent import monkey  # type: ignore[import-untyped]

monkey.patch_all()

import inspect  # noqa: E402 - everything else is patched by now
import sys  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from datetime import datetime  # noqa: E402
from typing import Any  # noqa: E402

import zerorpc  # type: ignore[import-not-found] # noqa: E402

from tests.upstreams import programs  # noqa: E402


class Service:
    """The common methods, and what only this protocol has."""

    def subtract(self, a: Any, b: Any = 1) -> Any:
        """Take b from a."""
        return a - b

    def crash(self, why: str) -> None:
        raise RuntimeError(why)

    def crash_inside(self) -> None:
        self.subtract()  # type: ignore[call-arg]

    def undefined(self) -> None:
        raise NameError("name 'x' is not defined")

    @zerorpc.stream  # type: ignore[untyped-decorator]
    def count(self, most: int, fail_at: int = -1) -> Iterator[int]:
        for number in range(most):
            if number == fail_at:
                raise RuntimeError("enough")
            yield number

    @zerorpc.stream  # type: ignore[untyped-decorator]
    def fill(self, size: int) -> Iterator[str]:
        while True:
            yield "x" * size

    @zerorpc.stream  # type: ignore[untyped-decorator]
    def flood(self, path: str) -> Iterator[str]:
        return programs.flood(path)

    def odd(self, kind: str) -> Any:
        return {
            "key": [{"a": {1: 2}}],
            "moment": datetime(2026, 1, 1),
            "deep": eval("[" * 100 + "]" * 100),  # noqa: S307
            "large": "x" * 100_000,
        }[kind]


if __name__ == "__main__":
    if "old" in sys.argv:
        inspect.getargspec = lambda function: inspect.getfullargspec(function)[:4]  # type: ignore[attr-defined]
    service = Service()
    for name, function in programs.METHODS.items():
        if not hasattr(service, name):
            setattr(service, name, function)
    server = zerorpc.Server(service, heartbeat=0.5)
    server.bind(f"tcp://127.0.0.1:{sys.argv[-1]}")
    server.run()
