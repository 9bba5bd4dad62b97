"""What runs the tests in several processes: every result arrives, and a process that dies is a failure."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).parent.parent


def run(folder: Path, *options: str, **files: str) -> subprocess.CompletedProcess[str]:
    for name, text in files.items():
        (folder / f"test_{name}.py").write_text(text)
    plugins = ("no:cacheprovider", "no:callgate", "tests.parallel")
    command = [sys.executable, "-m", "pytest", *(part for each in plugins for part in ("-p", each)), *options]
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pytest; sys.exit(pytest.main(sys.argv[1:]))"
    command[1:3] = ["-c", program]
    given = [*command, "--processes", "2", f"--basetemp={folder / 'base'}", str(folder)]
    return subprocess.run(given, capture_output=True, text=True, cwd=folder, check=False, timeout=100)


def test_every_test_runs_once_and_a_file_in_one_process(tmp_path: Path) -> None:
    text = (
        "import os, pytest\nPARENT = os.getpid()\nSEEN = set()\n"
        "@pytest.mark.parametrize('each', range(20))\n"
        "def test_it(each, tmp_path):\n"
        "    SEEN.add(os.getpid())\n    assert len(SEEN) == 1 and PARENT not in SEEN\n"
        "    with open(__file__ + '.ran', 'a') as ran: ran.write(f'{each} ')\n"
        "    print('said')\n    assert each != 7\n"
    )
    done = run(tmp_path, a=text, b=text, c=text)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "3 failed, 57 passed" in done.stdout
    assert done.stdout.count("Captured stdout call") == 3
    for name in "abc":
        assert (tmp_path / f"test_{name}.py.ran").read_text().split() == [str(each) for each in range(20)]


def test_with_the_first_failure_it_ends_and_fixtures_are_torn_down(tmp_path: Path) -> None:
    slow = (
        "import pytest, time\n"
        "@pytest.fixture(scope='session')\ndef server():\n    yield\n    open(__file__ + '.ended', 'w').close()\n"
        "def test_it(server):\n    open(__file__ + '.begun', 'w').close()\n    time.sleep(60)\n"
    )
    failing = (
        "import os, time\ndef test_it():\n"
        f"    while not os.path.exists({str(tmp_path / 'test_a.py.begun')!r}): time.sleep(0.01)\n    assert False\n"
    )
    done = run(tmp_path, "-x", a=slow, b=failing)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed" in done.stdout
    assert (tmp_path / "test_a.py.ended").exists()


def test_a_process_that_dies_is_a_failure_that_names_the_test(tmp_path: Path) -> None:
    done = run(tmp_path, a="import os\ndef test_it(): os._exit(0)\n", b="def test_it(): pass\n")
    assert done.returncode != 0
    assert "a process ended in test_a.py::test_it" in done.stdout + done.stderr
