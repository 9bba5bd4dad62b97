"""What is published: the sdist has every file of the project. ``make dist`` tries out the rest (packages.py)."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import gateway
from docs import options
from docs.reference import API, PAGE, page
from gateway.config import OPTIONS
from gateway.upstreams import SCHEMES
from tests.packages import ROOT, files, tracked, unpacked

pytestmark = pytest.mark.unmeasured


def test_the_sdist_has_every_file(tmp_path: Path) -> None:
    copy, dist = tmp_path / "copy", tmp_path / "dist"
    names = tracked()
    for name in names:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    (copy / "gateway" / "codecs" / "xmlrpc" / "_compiled.test.so").touch()  # what was compiled here is not for others
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", str(dist)]
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    (sdist,) = dist.iterdir()
    assert files(unpacked(sdist, tmp_path)) == set(names)


def test_the_classifiers_are_those_of_the_makefile() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    told = [each.rpartition(" ")[2] for each in project["classifiers"] if ":: Python :: 3." in each]
    assert f"PYTHONS ?= {' '.join(f'python{each}' for each in told)}\n" in (ROOT / "Makefile").read_text("utf-8")


def test_the_reference_of_the_api_is_that_of_the_docstrings() -> None:
    assert API.read_text("utf-8") == page(), "docs/api.md is out of date: make reference"


def test_the_reference_of_the_options_is_current_and_has_all_of_them() -> None:
    text = options.PAGE.read_text("utf-8")
    assert text == options.page(), "docs/options.md is out of date: make reference"
    sections = {part.partition("]")[0]: part for part in text.split("\n## [")[1:]}
    for option in OPTIONS:
        section, name = option.split(".")
        assert f"| `{name}` | " in sections[section]
    for scheme in SCHEMES:
        assert f"{scheme}://" in sections["upstreams.NAME"]
    assert "| | what it is" not in text


def test_the_reference_has_every_public_name() -> None:
    listed = [name for names in PAGE.values() for name in names if ":" not in name]
    assert sorted(listed) == sorted(gateway.__all__)
