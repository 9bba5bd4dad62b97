"""More calls at once than Locust can make: a bounded client of our own, for what waits on the event loop.

    many(contender, number, call_seconds) -> Step

Each call has a connection to itself, and only so many of them are being made at the same time, so that the client does
not meet the bounds of the listen queue, which are another question.
"""

import asyncio
import tempfile
import time
import xmlrpc.client
from pathlib import Path

import uvloop

from benchmarks.concurrency.contenders import Contender
from benchmarks.concurrency.driving import PATH, Step, serving
from benchmarks.concurrency.figures import Call, figures
from benchmarks.concurrency.processes import sampled
from benchmarks.load import request

_CONNECTING = 256  # connections that are being made at the same time
_PATIENCE = 20.0  # seconds beyond a call's own, after which a connection or an answer is given up
_FAILURES: dict[type[Exception], str] = {
    ConnectionRefusedError: "TransportError('refused')",
    TimeoutError: "TransportError('timed out')",
}


def many(contender: Contender, number: int, call_seconds: float) -> Step:
    """Make so many calls, all of them at once.

    Raises:
        CannotStart: the server does not work.

    """
    body = xmlrpc.client.dumps((call_seconds,), contender.method).encode()
    sent = request(PATH, "text/xml", body)
    with (
        tempfile.TemporaryDirectory(prefix="concurrency-") as folder,
        serving(contender, Path(folder)) as served,
        sampled(served.process) as memory,
    ):
        port = int(served.url.rpartition(":")[2])
        calls = uvloop.run(_calls(port, sent, number, call_seconds + _PATIENCE))
        survived = served.process.poll() is None
    return Step(
        server=contender.key,
        users=number,
        ideal=number / call_seconds,
        figures=figures(calls, call_seconds, rounds=1, lengths=1),
        memory=memory,
        survived=survived,
    )


async def _calls(port: int, sent: bytes, number: int, patience: float) -> list[Call]:
    gate = asyncio.Semaphore(_CONNECTING)
    return await asyncio.gather(*(_call(port, sent, gate, patience) for _ in range(number)))


async def _call(port: int, sent: bytes, gate: asyncio.Semaphore, patience: float) -> Call:
    async with gate:
        began, clock = time.time(), time.perf_counter()
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), patience)
        except OSError as error:
            return began, time.perf_counter() - clock, _failure(error)
    try:
        writer.write(sent)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), patience)
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        answer = await asyncio.wait_for(reader.readexactly(length), patience)
        is_right = head.startswith(b"HTTP/1.1 200 ") and b"<string>done</string>" in answer
        failure = "" if is_right else "Fault" if b"<fault>" in answer else "WrongAnswer"
    except (OSError, EOFError) as error:
        failure = _failure(error)
    except ValueError:  # there is no Content-Length
        failure = "WrongAnswer"
    finally:
        writer.close()
    return began, time.perf_counter() - clock, failure


def _failure(error: Exception) -> str:
    return next((text for kind, text in _FAILURES.items() if isinstance(error, kind)), "TransportError('reset')")
