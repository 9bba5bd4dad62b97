"""What is published: the sdist has every file of the project. ``make dist`` tries out the rest (packages.py)."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway
from docs import options
from gateway import client, compat
from gateway.config import OPTIONS
from gateway.upstreams import SCHEMES
from tests.packages import ROOT, files, tracked, unpacked

pytestmark = pytest.mark.unmeasured

API = ROOT / "docs" / "api.md"
NAMED = re.compile(r"^\| \[`(?P<name>[\w.]+)`\]\((?P<file>[^)]+)\) \| ", re.MULTILINE)
Function = ast.FunctionDef | ast.AsyncFunctionDef
BESIDE = {  # what is public beside the names of gateway, gateway.client and gateway.compat
    "gateway.client.errors",
    "gateway.client.options.CallOptions",
    "gateway.client.options.Options",
    "gateway.hosts.aiohttp.routes",
    "gateway.hosts.asgi.ASGIHost",
    "gateway.hosts.django.async_view",
    "gateway.hosts.django.view",
    "gateway.hosts.flask.blueprint",
    "gateway.hosts.rpc_handler.RPCHandler",
    "gateway.hosts.rpc_handler.delegate",
    "gateway.methods.options.MethodOptions",
    "gateway.pytest_plugin",
    "gateway.testing.AsyncClient",
    "gateway.testing.Client",
    "gateway.testing.FakeUpstream",
    "gateway.wsgi",
}


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


def test_the_page_of_the_api_has_every_public_name() -> None:
    public = {f"{module.__name__}.{name}" for module in (gateway, client, compat) for name in module.__all__}
    public -= {f"gateway.client.{name}" for name in gateway.__all__}  # which are imported from gateway
    text = API.read_text("utf-8")
    named = [found["name"] for found in NAMED.finditer(text)]
    assert sorted(named) == sorted(public | BESIDE)
    assert re.findall(r"^::: (\S+)$", text, re.MULTILINE) == named


def test_what_the_page_of_the_api_names_has_docstrings_where_its_links_lead() -> None:
    for found in NAMED.finditer(API.read_text("utf-8")):
        defined = dict(definitions(API.parent / found["file"]))
        name = found["name"].rpartition(".")[2]
        is_module = found["name"].replace(".", "/") in found["file"]
        for each in [""] if is_module else [name, *(each for each in defined if each.startswith(f"{name}."))]:
            assert defined[each], (found["name"], each)


def definitions(file: Path) -> Iterator[tuple[str, str | None]]:
    """Yield what a module defines for others, and its docstrings: itself, functions, classes and their methods."""
    tree = ast.parse(file.read_text("utf-8"))
    yield "", ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, Function):
            yield node.name, ast.get_docstring(node)
        elif isinstance(node, ast.ClassDef):
            yield node.name, ast.get_docstring(node)
            methods = [each for each in node.body if isinstance(each, Function) and each.name[0] != "_"]
            yield from ((f"{node.name}.{each.name}", ast.get_docstring(each)) for each in methods)
