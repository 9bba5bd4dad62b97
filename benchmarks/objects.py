"""The timing of ZeroRPC's articles: an object is sent, and fetched, so many times.

    python -m benchmarks.objects PORT CALLS

It prints the seconds that ZeroRPC's own client needs, and runs in .venv-zerorpc.
"""

import sys
import time
from typing import Any

OBJECT = {"name": "spam", "values": [1, 2.5, None], "nested": {"more": [True, "text"]}}


def exchanged(server: Any, calls: int) -> float:
    """Call ``sendObj`` and ``getObj`` of a proxy so many times each, one after the other; return the seconds.

    Raises:
        RuntimeError: what is fetched is not what was sent.

    """
    start = time.perf_counter()
    for _ in range(calls):
        server.sendObj(OBJECT)
    for _ in range(calls):
        if server.getObj() != OBJECT:
            raise RuntimeError("a wrong answer")
    return time.perf_counter() - start


if __name__ == "__main__":
    from zerorpc import Client  # type: ignore[import-not-found]

    port, count = map(int, sys.argv[1:])
    print(exchanged(Client(f"tcp://127.0.0.1:{port}", heartbeat=None), count), flush=True)
