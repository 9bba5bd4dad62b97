"""Clients of protocols whose bytes differ from call to call.

    python -m benchmarks.clients PROTOCOL PORT CALLERS SECONDS

Each caller is a thread that calls ``add(2, 3)`` by the protocol's own library, one call after the other. It prints the
calls per second, and the median time of a call in microseconds. ZeroRPC's runs in .venv-zerorpc, so nothing is imported
here that is not needed.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator

from benchmarks.load import load


def zerorpc(port: int) -> Callable[[], int]:
    """Connect, as each caller does."""
    from zerorpc import Client  # type: ignore[import-not-found] # noqa: PLC0415 - it is in an environment of its own

    client = Client(f"tcp://127.0.0.1:{port}", heartbeat=None)
    return lambda: int(client.add(2, 3))


def rpyc(port: int) -> Callable[[], int]:
    """Connect, and take the method, as each caller does."""
    from rpyc import connect  # type: ignore[import-untyped] # noqa: PLC0415 - each protocol needs its own library

    add = connect("127.0.0.1", port).root.add
    return lambda: int(add(2, 3))


def grpc(port: int) -> Callable[[], int]:
    """Open a channel, as each caller does."""
    import grpc  # noqa: PLC0415 - likewise

    protos, services = grpc.protos_and_services("tests/upstreams/programs.proto")
    options = [("grpc.use_local_subchannel_pool", 1)]  # or all channels share one connection
    stub = services.ProgramsStub(grpc.insecure_channel(f"127.0.0.1:{port}", options))
    request = protos.Two(a=2, b=3)
    return lambda: int(stub.add(request).value)


CLIENTS = {"zerorpc": zerorpc, "rpyc": rpyc, "grpc": grpc}


def times(connect: Callable[[int], Callable[[], int]], port: int, callers: int, seconds: float) -> Iterator[float]:
    """Yield how long each call took, in seconds.

    Raises:
        RuntimeError: an answer is wrong, or none.

    """
    taken: list[list[float]] = []
    ready = threading.Barrier(callers)

    def run() -> None:
        call = connect(port)
        call()
        mine: list[float] = []
        ready.wait(60)
        end = time.perf_counter() + seconds
        while (start := time.perf_counter()) < end and call() == 5:
            mine.append(time.perf_counter() - start)
        if start >= end:
            taken.append(mine)

    threads = [threading.Thread(target=run) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(taken) < callers:
        raise RuntimeError("a wrong answer, or none")
    for mine in taken:
        yield from mine


if __name__ == "__main__":
    protocol, where, many, long = sys.argv[1:]
    if protocol == "zerorpc":
        from gevent import monkey  # type: ignore[import-untyped]

        monkey.patch_all()
    print(*load(times(CLIENTS[protocol], int(where), int(many), float(long)), float(long)), flush=True)
    if protocol == "rpyc":
        sys.stdout.close()
