"""The comparison of benchmarks/speed, small: real servers, the real wrk, tables and a picture."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from benchmarks import machine
from benchmarks.bridges import Bridged
from benchmarks.running import CannotStart, Running, serving
from benchmarks.speed import memory, servers
from benchmarks.speed.aims import AIMS, aims
from benchmarks.speed.cases import BY_KEY as GROUPS
from benchmarks.speed.cases import CASES, asked, needed, result
from benchmarks.speed.cases import GROUPS as ALL_GROUPS
from benchmarks.speed.codecs import LIBRARIES, Timing, timed
from benchmarks.speed.driving import Round, WrongAnswer, checked, driven, see
from benchmarks.speed.memory import Memory
from benchmarks.speed.report import put, report
from benchmarks.speed.results import Results, Run, begun, read
from benchmarks.speed.rounds import Pace, take
from benchmarks.speed.servers import BY_KEY, SERVERS, available

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).parent.parent
ADD = CASES["xml add 64"]


def test_a_small_comparison_drives_each_server_in_each_round(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.speed", "--rounds", "2", "--only", "xml-proxied", "--warm-up", "0"]
    command += ["--servers", "gateway", "standard-library", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "round 2 of 2: 2 runs" in done.stderr
    found = read(tmp_path / "results.json")
    assert [(run.server, len(run.rounds)) for run in found.runs] == [("gateway", 2), ("standard-library", 2)]
    for run in found.runs:
        for each in run.rounds:
            assert each.rate > 0
            assert each.per_cpu > 0
            assert 0 < each.p50 <= each.p99
            assert 0 <= each.others <= 1
    assert (found.missing, found.dropped) == ({}, {})
    assert "| gateway | " in (tmp_path / "report.md").read_text()
    assert (tmp_path / "report.md").read_text() in done.stdout
    assert (tmp_path / "calls_per_second.svg").stat().st_size > 1000


class Answers(BaseHTTPRequestHandler):
    """Answers with one body first, and with another one from then on."""

    protocol_version = "HTTP/1.1"
    bodies: ClassVar[list[bytes]]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = self.bodies.pop(0) if len(self.bodies) > 1 else self.bodies[0]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Write no log."""


@contextmanager
def answering(*bodies: bytes) -> Iterator[Running]:
    class Handler(Answers):
        pass

    Handler.bodies = list(bodies)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Running(pid=0, port=server.server_address[1])
        server.shutdown()
        thread.join()


def answer(number: int, spaces: int = 0) -> bytes:
    value = f"<value><int>{number}</int></value>"
    return f"<methodResponse><params><param>{value}{' ' * spaces}</param></params></methodResponse>".encode()


FAULT = b"<methodResponse><fault><value><struct></struct></value></fault></methodResponse>"


@pytest.mark.parametrize(
    ("body", "message"), [(answer(11), "a wrong answer, '11'"), (FAULT, "instead of an answer"), (b"", "instead of an")]
)
def test_a_server_that_answers_wrongly_is_not_measured(body: bytes, message: str) -> None:
    with answering(body) as running, pytest.raises(WrongAnswer, match=message):
        checked(running, ADD, "/RPC2")


def test_a_server_that_answers_otherwise_under_load_is_not_fast() -> None:
    with answering(answer(10), answer(10, 200)) as running:
        length = checked(running, ADD, "/RPC2")
        with pytest.raises(WrongAnswer, match=f"bytes instead of {length}"):
            driven(running, ADD, "/RPC2", length, 1)


@pytest.mark.parametrize(
    ("requests", "errors", "read", "message"),
    [
        (0, 0, 0, "0 answers, 0 errors"),
        (50, 1, 50_000, "50 answers, 1 errors"),
        (100, 0, 96_000, "answers of 960 bytes instead of 1000"),
        (100, 0, 104_000, "answers of 1040 bytes instead of 1000"),
    ],
)
def test_answers_that_fail_or_are_of_another_length_are_seen(
    requests: int, errors: int, read: int, message: str
) -> None:
    with pytest.raises(WrongAnswer, match=message):
        see({"requests": requests, "errors": errors, "read": read}, 1, 1000)


@pytest.mark.parametrize("read", [98_000, 100_000, 103_000])
def test_part_of_an_answer_may_be_on_its_way(read: int) -> None:
    see({"requests": 100, "errors": 0, "read": read}, 1, 1000)


def test_answers_may_be_longer_by_the_ids_of_requests_which_count() -> None:
    see({"requests": 10_000, "errors": 0, "read": 2_260_000}, 1, 220)
    with pytest.raises(WrongAnswer, match="answers of 230 bytes instead of 220"):
        see({"requests": 10_000, "errors": 0, "read": 2_300_000}, 1, 220)


def test_a_server_that_has_ended_is_left_out_and_the_others_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "from http.server import *; import os\nclass H(BaseHTTPRequestHandler): do_POST = lambda self: os._exit(1)\n"
    code += "s = HTTPServer(('127.0.0.1', 0), H); print(f'http://127.0.0.1:{s.server_port}/', flush=True)"
    code += "; s.serve_forever()"
    standard = BY_KEY["standard-library"]
    ending = msgspec.structs.replace(standard, key="ending", name="ending", command=(sys.executable, "-c", code))
    silent = msgspec.structs.replace(standard, key="silent", name="silent", command=(sys.executable, "-c", "1 / 0"))
    found = begun(1, {})
    kept: list[int] = []
    pace = Pace(rounds=1, seconds=1, warm_up=0)
    take(
        found, [GROUPS["xml-proxied"]], [ending, silent, standard], pace, lambda results: kept.append(len(results.runs))
    )
    assert [run.server for run in found.runs] == ["standard-library"]
    assert kept == [1]
    assert found.dropped.keys() == {"ending, xml-proxied add 64"}
    assert found.missing.keys() == {"silent"}
    said = capsys.readouterr().err
    assert "ending, xml-proxied add 64 is left out: " in said
    assert "silent is left out: " in said


def test_a_server_that_is_not_ready_is_told() -> None:
    with pytest.raises(CannotStart, match="run it by hand"), serving([sys.executable, "-c", "1 / 0"], [0]):
        pass


def test_what_a_server_needs_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None if name in {"go", "npm"} else name)
    found, missing = available([BY_KEY["go"], BY_KEY["jayson"], BY_KEY["gateway"]])
    assert [each.key for each in found] == ["gateway"]
    assert missing == {"go": "it needs go (Debian's package is golang-go)", "jayson": "it needs node and npm"}
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(SystemExit, match="Debian's package is wrk"):
        available([])


def test_a_program_that_cannot_be_built_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho no licence\nexit 1\n")
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{ROOT}", prepend=":")
    monkeypatch.setattr(servers, "BUILT", tmp_path / "built")
    assert available([BY_KEY["go"]])[1] == {"go": "go build fails: no licence"}


def test_each_protocol_has_a_right_answer_of_its_own() -> None:
    for case in CASES.values():
        body, value = asked(case)
        assert case.method.encode() in body
        assert value == (10 if case.method.startswith("add") else [*value])
    assert result(ADD, answer(10)) == 10
    assert result(CASES["json add 64"], b'{"result": 10}') == 10


def test_only_servers_that_can_take_part_do() -> None:
    assert {each.key for each in needed(ALL_GROUPS)} == BY_KEY.keys()
    assert {each.key for each in needed([GROUPS["workers"]])} == {"one-worker", "two-workers"}
    assert {each.key for each in needed([GROUPS["json-kinds"]])} == {"gateway", "jayson", "pjrpc"}


@pytest.mark.parametrize("library", ["json", "jsonrpc"])
def test_codecs_are_timed(library: str) -> None:
    found = timed(library, 0)
    assert list(found) == ["loads a call", "dumps a call", "loads 10,000 structs", "dumps 10,000 structs"]
    assert all(value > 0 for value in found.values())


def test_memory_of_connections_and_of_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "KINDS", {"sleepAsync": 40})
    found = memory.measured(BY_KEY["gateway"], "sleepAsync")
    assert (found.server, found.method) == ("gateway", "sleepAsync")
    assert 0 <= found.idle < 200
    assert 0 < found.waiting < 200


def test_what_others_use_is_seen() -> None:
    before = machine.busy(), machine.spent(0)
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        while machine.spent(busy.pid) < 0.2:
            pass
    finally:
        busy.kill()
        busy.wait()
    assert machine.busy() - before[0] > 0.15
    assert machine.spent(busy.pid) == 0


def rounds(*per_cpu: float) -> list[Round]:
    return [Round(rate=each / 2, per_cpu=each, p50=6.4, p99=12.0, others=0.03) for each in per_cpu]


@pytest.fixture
def results() -> Results:
    """Make results that have something of each part, in round figures."""
    found = begun(1, {"gateway-compiled": "the compiled codec is not built"})
    found.taken = "2026-01-02"
    for case in CASES.values():
        for server in SERVERS:
            if GROUPS[case.group].takes_part(server, case) and server.key != "gateway-compiled":
                rates = (
                    (20_000, 18_000, 22_000) if server.key == GROUPS[case.group].reference else (30_000, 36_000, 22_000)
                )
                found.runs.append(Run(case=case.key, server=server.key, rounds=rounds(*rates)))
    names = list(timed("json", 0))
    found.codecs = [Timing(library=each.name, milliseconds=dict.fromkeys(names, 2.5)) for each in LIBRARIES.values()]
    found.memory = [Memory(server="gateway", method=each, idle=2.5, waiting=31.0) for each in memory.KINDS]
    found.bridges = [
        Bridged(
            name=name,
            in_flight=number,
            direct=9000,
            through=8000,
            per_cpu=31_000,
            direct_us=100,
            through_us=220,
            added_us=120,
        )
        for name in ("XML-RPC", "JSON-RPC over TCP")
        for number in (1, 64)
    ]
    found.objects, found.object_calls = {"ServerProxy": 0.5}, 500
    return found


def test_a_report_has_a_row_for_each_run_with_its_ratio_and_its_noise(results: Results) -> None:
    text = report(results)
    row = "| 64 | gateway | 15,000 | 30,000 (22,000 - 36,000) | 1.50 (1.00 - 2.00) | 6.4 | 12.0 | 3% (up to 3%) |"
    assert text.count(row) == 2
    for group in ALL_GROUPS:
        assert f"### {group.title}\n" in text
    assert text.count("| 3% (up to 3%) |") == len(results.runs)
    flat = " ".join(text.split())
    assert "the gateway makes 30,000 calls of `add` per second of processor time, 1.50 times as many as Go" in flat
    assert "Not measured: gateway with compiled codec (the compiled codec is not built)." in flat
    assert "while others used 3% of the machine's processors" in flat
    assert "not quiet" not in flat
    assert "| gateway | `sleepThread` | 2.5 | 31.0 |" in text
    assert "| JSON-RPC over TCP | 1 | 9,000 | 8,000 | 31,000 | 100 | 220 | 120 |" in text
    assert "| ServerProxy | 0.50 |" in text


def test_a_noisy_machine_is_said(results: Results) -> None:
    for run in results.runs:
        run.rounds[:] = [msgspec.structs.replace(each, others=0.4) for each in run.rounds]
    assert "That is not quiet" in report(results)


def test_aims_are_said_to_be_reached_or_missed(results: Results) -> None:
    lines = aims(results).splitlines()
    assert len(lines) == len(AIMS) - 2 + 1  # the two of the compiled codec were not measured
    assert "reached  XML-RPC at 64, against Go: 1.5 (wanted >= 1)" in lines
    assert "MISSED   a waiting thread, KiB: 31 (wanted <= 30)" in lines
    assert "missing  gateway with compiled codec: the compiled codec is not built" in lines


def test_figures_are_written_between_the_markers_and_nowhere_else(results: Results, tmp_path: Path) -> None:
    from benchmarks.speed.__main__ import publish  # late, as matplotlib takes long

    (tmp_path / "benchmarks").mkdir()
    pages = [tmp_path / "README.md", tmp_path / "benchmarks" / "README.md"]
    for page in pages:
        page.write_text("# Before\n\n<!-- make figures: begin -->\nold\n<!-- make figures: end -->\n\nafter\n")
    publish(results, tmp_path)
    texts = [page.read_text() for page in pages]
    for text in texts:
        assert text.startswith("# Before\n\n<!-- make figures: begin -->\n\nIn XML-RPC with 64 connections, ")
        assert text.endswith("\n\n<!-- make figures: end -->\n\nafter\n")
        assert "old" not in text
    publish(results, tmp_path)
    assert [page.read_text() for page in pages] == texts
    picture = (tmp_path / "benchmarks" / "speed" / "calls_per_second.svg").read_text()
    for name in ("gateway", "Go, net/http and encoding/xml", "jayson on node", "pjrpc on aiohttp and uvloop"):
        assert f"<!-- {name} -->" in picture
    assert read(tmp_path / "benchmarks" / "speed" / "results.json") == results


@pytest.mark.parametrize("text", ["nothing", "<!-- make figures: begin -->\n", "<!-- make figures: end -->\n"])
def test_a_page_without_both_markers_is_left_alone(text: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="does not have the markers"):
        put(page, "new")
    assert page.read_text() == text


def test_the_pages_have_the_markers() -> None:
    for page in ("README.md", "benchmarks/README.md"):
        assert (ROOT / page).read_text().count("<!-- make figures: ") == 2
