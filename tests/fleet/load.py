"""Calls through a gateway for as long as a drill takes, and what became of each: none may be lost, and none doubled.

    with Fleet(folder, 4) as fleet, fleet.gateway("hedge = 0.1") as server, Load(server.port) as load:
        fleet.programs[0].kill()
        ...
    load.judge(fleet)

Half of the calls read (``get``, idempotent), half write (``put``). Each has a key of its own, which the instance that
runs it writes down.
"""

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from gateway import Registry
from tests.serving import Server, serving
from tests.upstreams.kinds import Kind, module
from tests.upstreams.running import Program

_CALLERS = 8  # connections to the gateway, each with one call at a time


def kind(log: Path, mode: str = "well") -> Kind:
    """Return what starts an instance."""
    command = (*module("program")[:2], "tests.fleet.program", str(log), mode)
    return Kind(name="fleet", url="", command=command, garbage=(), endless=(b"", b""))


class Fleet:
    """Instances that run, each a process; ``modes`` are those of the first ones that are not well."""

    def __init__(self, folder: Path, count: int, modes: tuple[str, ...] = ()) -> None:
        self.log = folder / "executed"
        self.log.touch()
        self.listed = folder / "list.json"
        self._folder = folder
        modes = (*modes, *("well",) * (count - len(modes)))
        self.programs = [Program(kind(self.log, mode)) for mode in modes]
        self._running = ExitStack()

    def __enter__(self) -> Self:
        for program in self.programs:
            self._running.enter_context(program)
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def executed(self) -> Counter[str]:
        """Count how often each call has run."""
        return Counter(self.log.read_text().split())

    def list(self, programs: Iterable[Program]) -> None:
        """Write the list of a directory."""
        rows = [{"address": f"127.0.0.1:{program.port}"} for program in programs]
        (self._folder / "new").write_text(json.dumps(rows))
        (self._folder / "new").replace(self.listed)

    @contextmanager
    def gateway(
        self, options: str = "", settings: dict[str, Any] | None = None, *, is_listed: bool = False, table: str = ""
    ) -> Iterator[Server]:
        """Serve the instances as one upstream; listed by a file, or by what a table says, if the list is to change."""
        urls = [f"jsonrpc+tcp://127.0.0.1:{program.port}" for program in self.programs]
        where = f"url = {urls}"
        directory = ""
        if is_listed:
            self.list(self.programs)
            directory = f"[directories.list]\nkind = 'file'\npath = '{self.listed}'\n"
            where = "url = 'jsonrpc+tcp://'\ndirectory = 'list'"
        elif table:
            directory = f"[directories.list]\n{table}\n"
            where = "url = 'jsonrpc+tcp://'\ndirectory = 'list'"
        file = self._folder / "gateway.toml"
        file.write_text(
            f"{directory}[upstreams.up]\n{where}\nmethods = {{ get = ['key'], put = ['key'] }}\n"
            f"idempotent = ['get']\n{options}\n"
        )
        with serving(Registry(), settings, file) as server:
            yield server


class Load:
    """Calls, some hundred in a second; ``timeout`` is how long each caller waits.

    Attributes:
        outcomes: by key: None for a result, else the code of the fault and how far the call had come.

    """

    def __init__(self, port: int, timeout: float = 2.0, pause: float = 0.02) -> None:
        self.outcomes: dict[str, tuple[int, str | None] | None] = {}
        self._port = port
        self._timeout = timeout
        self._pause = pause
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._drive()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(20)
        assert not self._thread.is_alive(), "the callers do not come to an end"

    def count(self) -> int:
        """Count the calls that have ended."""
        return len(self.outcomes)

    def failed(self, method: str) -> Counter[tuple[int, str | None]]:
        """Count the faults of a method."""
        return Counter(said for key, said in self.outcomes.items() if said is not None and key.startswith(method))

    def judge(self, executed: Counter[str]) -> None:
        """Hold that no call is lost, that no write is doubled, and that what was told of failures is true."""
        for key, said in self.outcomes.items():
            ran = executed[key]
            if said is None:
                assert ran == 1 if key.startswith("put") else ran >= 1, (key, ran)
            else:
                assert ran <= 1 or key.startswith("get"), (key, said, ran)
                assert said[1] != "no" or not ran, (key, said, ran)

    async def _drive(self) -> None:
        await asyncio.gather(*(self._call(number) for number in range(_CALLERS)))

    async def _call(self, caller: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        number = 0
        while not self._is_over.is_set():
            number += 1
            method = "get" if number % 2 else "put"
            key = f"{method}{caller}.{number}"
            body = json.dumps({"jsonrpc": "2.0", "method": f"up.{method}", "params": [key], "id": 1})
            writer.write(
                f"POST /api HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"X-Request-Timeout: {self._timeout}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            said = json.loads(await reader.readexactly(length))
            error = said.get("error")
            data = None if error is None else error.get("data")
            sent = data.get("sent") if isinstance(data, dict) else None
            self.outcomes[key] = None if error is None else (error["code"], sent)
            await asyncio.sleep(self._pause)
        writer.close()
