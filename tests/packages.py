"""What ``make dist`` has built, tried out: ``python -m tests.packages dist``.

The wheel is installed in an empty environment, where the command says its version, makes a project, serves it and calls
it. Then tests of the sdist run on the wheel, in the sdist's folder without its ``gateway``.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from tests.serving import eventually

ROOT = Path(__file__).parent.parent
TESTS = ("tests/codecs", "tests/config", "tests/methods", "tests/model", "tests/wire", "tests/test_testing.py")
NEEDED = (
    "attrs",
    "coverage",
    "dnspython",
    "hypothesis",
    "jsonschema",
    "mypy",
    "pydantic",
    "pytest",
    "trustme",
    "websockets",
)  # of the extra test, for these
MADE = ("PKG-INFO", "setup.cfg", "callgate.egg-info/")  # in an sdist, and in no clone

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def tracked() -> list[str]:
    """Return the files of the project: those of git in a clone, and those that an unpacked sdist lists."""
    if (ROOT / ".git").exists():
        git = shutil.which("git")
        assert git is not None, "git is needed"
        listed = subprocess.run([git, "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    else:
        listed = (ROOT / "callgate.egg-info" / "SOURCES.txt").read_text("utf-8")
    return [name for name in listed.split("\n") if name and not name.startswith(MADE)]


def unpacked(sdist: Path, folder: Path) -> Path:
    """Unpack an sdist, and return its folder."""
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):  # since Python 3.11.4
            archive.extraction_filter = tarfile.data_filter
        archive.extractall(folder)  # noqa: S202 - what is unpacked was just built from here
    (made,) = (path for path in folder.iterdir() if path.name.startswith("callgate-"))
    return made


def files(folder: Path) -> set[str]:
    """Return the files of an unpacked sdist, without those that only an sdist has."""
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in names if not name.startswith(MADE)}


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command, and return what it prints."""
    print("$", *command)  # noqa: T201 - a program
    ended = subprocess.run(
        [*map(str, command)], cwd=cwd, env=ENVIRONMENT, check=False, stdout=subprocess.PIPE, text=True
    )
    print(ended.stdout, end="", flush=True)  # noqa: T201 - likewise
    if ended.returncode:
        sys.exit(ended.returncode)
    return ended.stdout


def check_wheel(wheel: Path) -> None:
    """Check that the wheel has the package, with its data, and nothing else."""
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {name for name in tracked() if name.startswith("gateway/") and not name.endswith(".c")}
    missing = expected - names
    others = {name for name in names if not name.startswith(("gateway/", "callgate-"))}
    if missing or others:
        sys.exit(f"{wheel}: without {sorted(missing)}, and with {sorted(others)}")


def call(bin_folder: Path, project: Path) -> None:
    """Serve a new project, and call it."""
    gateway = bin_folder / "gateway"
    run(gateway, "new", project, cwd=project.parent)
    with (project / "said").open("w+") as said:
        server = subprocess.Popen(
            [gateway, "serve", "--bind", "127.0.0.1:0"], cwd=project, env=ENVIRONMENT, stdout=said
        )
        try:
            ready = re.compile(r"ready at (\S+)")
            eventually(lambda: ready.search((project / "said").read_text()), "the gateway is ready")
            found = ready.search((project / "said").read_text())
            assert found is not None
            if run(gateway, "call", found[1], "hello", "Ada", cwd=project) != "Hello, Ada!\n":
                sys.exit("a wrong answer")
        finally:
            server.terminate()
            server.wait(20)


def main(dist: Path) -> None:
    """Try out what is in a folder."""
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    check_wheel(wheel)
    with tempfile.TemporaryDirectory(prefix="dist-") as made:
        folder = Path(made)
        source = unpacked(sdist, folder)
        if missing := set(tracked()) - files(source):
            sys.exit(f"{sdist}: without {sorted(missing)}")
        run(sys.executable, "-m", "venv", "env", cwd=folder)
        bin_folder = folder / "env" / "bin"
        install = (bin_folder / "python", "-m", "pip", "install", "-q", "--constraint", source / "constraints.txt")
        run(*install, wheel, cwd=folder)
        version = run(bin_folder / "gateway", "--version", cwd=folder)
        if shutil.which("cc") and "compiled codec" not in version:
            sys.exit(f"there is a compiler, and {wheel} has no compiled codec")
        call(bin_folder, folder / "shop")
        run(*install, *NEEDED, cwd=folder)
        shutil.rmtree(source / "gateway")
        run(bin_folder / "python", "-m", "pytest", *TESTS, cwd=source)
    print(f"{wheel} and {sdist} are good")  # noqa: T201 - likewise


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
