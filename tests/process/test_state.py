"""What is written down of what is served, where the disk has no room for more."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import resource, sys
from gateway.process import state

def served(text):
    return state.State(file="gateway.toml", text=text, options={}, methods={})

for text in ("first", "second"):
    state.write(sys.argv[1], served(text))
before = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
try:
    state.write(sys.argv[1], served("third"))
except OSError:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    print(state.read(sys.argv[1]).text, state.read_before(sys.argv[1]).text)
"""


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "pid")], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("second first\n", "")
