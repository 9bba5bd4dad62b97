"""The benchmark runs, checks its answers, and writes its table; how fast is not a matter of tests."""

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from benchmarks.bridges import UPSTREAMS
from benchmarks.load import drive, http

ROOT = Path(__file__).parent.parent


def test_the_benchmark_writes_a_row_for_each_protocol_number_of_connections_and_server() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.calls", "--rounds", "1", "--seconds", "0.05"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    rows = [line for line in run.stdout.splitlines() if line.startswith(("| XML-RPC", "| JSON-RPC"))]
    assert len(rows) == 2 * 3 * 3
    assert "round 1 of 1" in run.stderr


def test_the_benchmark_of_bridges_writes_a_row_for_each_protocol_and_number_of_calls() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.bridges", "--rounds", "1", "--seconds", "0.05", "--objects", "3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    calls, objects = run.stdout.split("\n\n")
    rows = [line.split("|")[1].strip() for line in calls.splitlines()[2:]]
    assert rows == [each.name for each in UPSTREAMS.values() for _ in (1, 64)]
    assert len(objects.splitlines()) == 2 + 5
    assert "bridges: round 1 of 1" in run.stderr


def test_a_wrong_answer_is_no_fast_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)

        def answer_wrongly() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n4")
                connection.recv(1000)

        server = threading.Thread(target=answer_wrongly)
        server.start()
        with pytest.raises(RuntimeError, match="a wrong answer"):
            drive(listening.getsockname()[1], http("/", "text/plain", b"", b"5"), 1, 5)
        server.join()
