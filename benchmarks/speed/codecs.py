"""Codecs alone, without a server: how long a call takes to read, and a response to write.

    python -m benchmarks.speed.codecs LIBRARY SECONDS

It prints a JSON object: milliseconds of processor time, by what is done. The environment tells whether the compiled
codec reads the XML of the gateway, so each row of LIBRARIES runs in a process of its own.
"""

import json
import os
import statistics
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from benchmarks.concurrency.processes import ROOT
from benchmarks.speed.cases import STRUCTS, Case, asked
from benchmarks.speed.servers import BY_KEY, JSON, XML, available
from gateway.codecs import CODECS, Codec
from gateway.model.calls import Call, Reply

_WORTH_TIMING = 0.001  # seconds; what is shorter is done several times between two looks at the clock
Codings = tuple[Callable[[bytes], Any], Callable[[Any], bytes]]  # how to read a call's params, and to write a response


class Library(Struct, frozen=True, kw_only=True):
    """A codec: how it is called in the report, its protocol, and the server with its environment, if it needs one."""

    name: str
    protocol: str
    codings: Callable[[], Codings]
    server: str = ""


class Timing(Struct, frozen=True, kw_only=True):
    """Milliseconds of one codec, by what is done."""

    library: str
    milliseconds: dict[str, float]


def _standard_xml() -> Codings:
    return (
        lambda body: xmlrpc.client.loads(body)[0],
        lambda value: xmlrpc.client.dumps((value,), methodresponse=True).encode(),
    )


def _standard_json() -> Codings:
    return (
        lambda body: json.loads(body)["params"],
        lambda value: json.dumps({"jsonrpc": "2.0", "result": value, "id": 1}).encode(),
    )


def _ours(name: str) -> Callable[[], Codings]:
    def codings() -> Codings:
        codec: Codec = CODECS[name](max_depth=64, max_batch=100)
        entry = Call(method="add", params=[], id=1)

        def read(body: bytes) -> Any:
            call = codec.decode(body, None)
            assert isinstance(call, Call)  # noqa: S101 - or it would be a fault that is timed
            return call.params

        def write(value: Any) -> bytes:
            return codec.single(codec.encode(entry, Reply(value=value), 2**30))

        return read, write

    return codings


LIBRARIES = {
    "xmlrpc.client": Library(name="xmlrpc.client", protocol=XML, codings=_standard_xml),
    "xml": Library(name="gateway, XML-RPC", protocol=XML, codings=_ours("xmlrpc"), server="gateway"),
    "xml-compiled": Library(
        name="gateway, XML-RPC, compiled", protocol=XML, codings=_ours("xmlrpc"), server="gateway-compiled"
    ),
    "json": Library(name="json", protocol=JSON, codings=_standard_json),
    "jsonrpc": Library(name="gateway, JSON-RPC", protocol=JSON, codings=_ours("jsonrpc"), server="gateway"),
}


def timed(library: str, seconds: float) -> dict[str, float]:
    """Return the milliseconds of what a codec does, each measured for so many seconds, and at least three times."""
    found = {}
    read, write = LIBRARIES[library].codings()
    for name, number in (("a call", 0), (f"{STRUCTS:,} structs", STRUCTS)):
        method = "echo" if number else "add"
        body, value = asked(Case(group="codecs", protocol=LIBRARIES[library].protocol, method=method, structs=number))
        if list(read(body)) != ([value] if number else [7, 3]):
            raise ValueError(f"{library} reads something else")
        found[f"loads {name}"] = _median(lambda body=body: read(body), seconds)  # type: ignore[misc]
        found[f"dumps {name}"] = _median(lambda value=value: write(value), seconds)  # type: ignore[misc]
    return found


def _median(run: Callable[[], Any], seconds: float) -> float:
    """Return milliseconds of processor time, which others on the machine do not add to."""
    start = time.process_time()
    run()
    together = max(round(_WORTH_TIMING / (time.process_time() - start + 1e-9)), 1)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.process_time()
        for _ in range(together):
            run()
        times.append((time.process_time() - start) / together)
    return statistics.median(times) * 1e3


def measured(seconds: float) -> list[Timing]:
    """Measure all codecs that can be had."""
    found = []
    for key, library in LIBRARIES.items():
        servers = [BY_KEY[library.server]] if library.server else []
        if available(servers)[1]:
            continue
        environment = servers[0].environment if servers else {}
        run = subprocess.run(
            [sys.executable, "-m", "benchmarks.speed.codecs", key, str(seconds)],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            check=True,
        )
        found.append(Timing(library=library.name, milliseconds=json.loads(run.stdout)))
    return found


if __name__ == "__main__":
    print(json.dumps(timed(sys.argv[1], float(sys.argv[2]))))
