"""From the names of modules to methods: what is taken, and what is said of each module that cannot be."""

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import pytest

from gateway.methods.loading import LoadError, load_registry

Write: TypeAlias = Callable[[Mapping[str, str]], None]

HEAD = "from gateway import Fault, Registry, method\n"
SHOP = {
    "shop/__init__.py": f"{HEAD}@method\ndef opened(): ...\n",
    "shop/zebra.py": f"{HEAD}@method\ndef last(): ...\n",
    "shop/apple.py": f"{HEAD}from shop.zebra import last\n@method(aliases=('pip',))\ndef first(): ...\n",
    "shop/_hidden.py": "raise AssertionError('a private module is not imported')\n",
    "shop/_private/inner.py": "raise AssertionError('nor are its modules')\n",
    "shop/deep/__init__.py": "",
    "shop/deep/down.py": f"{HEAD}@method(name='deep.down')\ndef down(): ...\n@method\ndef below(): ...\n",
    "spaces/__init__.py": "",
    "spaces/own.py": f"{HEAD}outer = Registry()\ninner = outer.namespace('inner')\n"
    "own = again = Registry(prefix='own.')\n@inner.register\ndef hidden(): ...\n@own.register\n"
    "def shown(): ...\n@own.namespace('deep').register\ndef deeper(): ...\n@method\ndef marked_there(): ...\n",
    "spaces/taken.py": f"{HEAD}from spaces.own import own\nfrom lone import registry\n",
    "lone.py": f"{HEAD}registry = Registry()\n@registry.register\ndef only(): ...\n@method\ndef marked(): ...",
}
TAKEN = {
    ("shop",): ["opened", "first", "pip", "deep.down", "below", "last"],
    ("shop.apple",): ["first", "pip"],
    ("shop.deep",): ["deep.down", "below"],
    ("lone",): ["marked"],
    ("spaces",): ["marked_there", "own.shown", "own.deep.deeper"],
    ("spaces.own:own",): ["own.shown", "own.deep.deeper"],
    ("spaces", "spaces.own:own"): ["own.shown", "own.deep.deeper", "marked_there"],
    ("lone:registry",): ["only"],
    ("lone:registry", "shop.zebra", "lone"): ["only", "last", "marked"],
    ("shop.zebra", "shop", "shop", "lone:registry", "lone:registry"): [
        *("only", "last", "opened", "first", "pip", "deep.down", "below")
    ],
}
NO_MODULES = {
    "": "'' is not a module: write package, package.module or module:registry, not its path",
    ".": "'.' is not a module: write package, package.module or module:registry, not its path",
    "shop/": "'shop/' is not a module: write package, package.module or module:registry, not its path",
    "./shop": "'./shop' is not a module: write package, package.module or module:registry, not its path",
    "lone.py": "'lone.py' is not a module: write package, package.module or module:registry, not its path",
    "lone:": "'lone:' is not a module: write package, package.module or module:registry, not its path",
    ":registry": "':registry' is not a module: write package, package.module or module:registry, not its path",
    "lone:a.b": "'lone:a.b' is not a module: write package, package.module or module:registry, not its path",
    "lone:a:b": "'lone:a:b' is not a module: write package, package.module or module:registry, not its path",
    "a b": "'a b' is not a module: write package, package.module or module:registry, not its path",
    "nowhere": "nowhere: there is no such module in {here} or on Python's path",
    "nowhere.at.all": "nowhere.at.all: there is no such module in {here} or on Python's path",
    "shop.nothing": "shop.nothing: there is no such module in {here} or on Python's path",
    "lone.marked": "lone.marked: there is no such module in {here} or on Python's path",
    "lone:nothing": "lone: the module has no Registry named nothing",
    "lone:marked": "lone: the module has no Registry named marked",
    "shop.deep.__init__": "shop.deep.__init__: there are no methods: mark a function with @method, or name a Registry,"
    " module:registry",
}
FAILURES = {
    "import nowhere": ["line 1, in <module>", "ModuleNotFoundError: No module named 'nowhere'"],
    "from .nowhere import x": ["line 1, in <module>", "ModuleNotFoundError: No module named 'bad.nowhere'"],
    "from bad import nowhere": ["line 1, in <module>", "ImportError: cannot import name 'nowhere'"],
    "\ndef f():\n    return {}['key']\nf()": ["line 4, in <module>", "line 3, in f", "KeyError: 'key'"],
    "def (": ["line 1\n", "SyntaxError: invalid syntax"],
    "if True:\nx = 1": ["line 2\n", "IndentationError: "],
    "import sys\nsys.exit('bye')": ["line 2, in <module>", "SystemExit: bye"],
    "def f(): f()\nf()": ["line 2, in <module>", "Previous line repeated", "RecursionError: "],
    "class E(BaseException): ...\nraise E('odd')": ["line 2, in <module>", "E: odd"],
    "from gateway import method\n@method(timout=3)\ndef f(): ...": [
        "line 2, in <module>",
        "RegistrationError: bad/bad.py:2 (f): there is no option timout",
    ],
    "from gateway import Registry\nr = Registry()\n@r.register\ndef f(): ...\n@r.register\ndef f(): ...": [
        "line 5, in <module>",
        "'f' is registered twice: by bad/bad.py:3 (f) and by bad/bad.py:5 (f); rename one of them",
    ],
    "from importlib import import_module\ntry:\n    import_module('nowhere')\n"
    "except ImportError as error:\n    raise RuntimeError('install it') from error": [
        "line 3, in <module>",
        "ModuleNotFoundError: No module named 'nowhere'",
        "line 5, in <module>",
        "RuntimeError: install it",
    ],
    "raise ExceptionGroup('two', [ValueError('1'), KeyError('2')])": ["line 1, in <module>", "ValueError: 1", "'2'"],
    "import bad.helper": ["line 1, in <module>", "helper.py", "line 2, in <module>", "ZeroDivisionError"],
    "import importlib\nimportlib.import_module('bad.helper')": [
        "line 2, in <module>",
        "helper.py",
        "ZeroDivisionError",
    ],
}
UNFIT = {
    "def f(a: 'Nope'): ...": "bad/bad.py:2 (f): its type hints cannot be read: name 'Nope' is not defined",
    "def f(a: lambda: 1): ...": "bad/bad.py:2 (f): the type hint of 'a' cannot be checked: ",
    "def _f(): ...": "bad/bad.py:2 (_f): '_f' is private",
}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write modules into the current folder, and forget them afterwards."""
    monkeypatch.chdir(tmp_path)
    path, known = sys.path.copy(), set(sys.modules)

    def write_files(files: Mapping[str, str]) -> None:
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        importlib.invalidate_caches()

    yield write_files
    sys.path[:] = path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def problems(*names: str) -> list[str]:
    with pytest.raises(LoadError) as raised:
        load_registry(names)
    return raised.value.problems


@pytest.mark.parametrize(("names", "taken"), TAKEN.items())
def test_which_methods_are_taken(names: tuple[str, ...], taken: list[str], write: Write) -> None:
    write(SHOP)
    assert list(load_registry(names)) == taken


@pytest.mark.parametrize(("name", "problem"), NO_MODULES.items())
def test_names_under_which_there_is_nothing(name: str, problem: str, write: Write) -> None:
    write(SHOP)
    assert problems(name) == [problem.format(here=Path.cwd())]


def test_a_folder_that_is_no_package_yet_loses_to_an_installed_one_and_is_told_so(
    write: Write, tmp_path_factory: pytest.TempPathFactory
) -> None:
    installed = tmp_path_factory.mktemp("installed")
    (installed / "stall").mkdir()
    (installed / "stall" / "__init__.py").write_text(f"{HEAD}@method\ndef installed(): ...\n")
    sys.path.append(str(installed))
    write({"stall/fruit.py": f"{HEAD}@method\ndef mine(): ...\n"})
    (problem,) = problems("stall")
    assert problem == (
        f"stall: Python finds another module first, {installed}/stall/__init__.py; to serve stall of {Path.cwd()},"
        " put an empty __init__.py into it"
    )
    del sys.modules["stall"]
    write({"stall/__init__.py": ""})
    assert list(load_registry(["stall"])) == ["mine"]


@pytest.mark.parametrize(("source", "told"), FAILURES.items())
def test_a_failing_import_is_told_by_the_frames_of_its_own_code(source: str, told: list[str], write: Write) -> None:
    write({"bad/__init__.py": "", "bad/bad.py": source, "bad/helper.py": "\n1 / 0"})
    (problem,) = problems("bad.bad")
    assert problem.startswith("bad.bad: cannot be imported:\n")
    position = 0
    for part in told:
        position = problem.index(part, position) + len(part)
    files = [line for line in problem.splitlines() if line.lstrip(" |").startswith('File "')]
    assert all(str(Path.cwd()) in line for line in files)


def test_control_c_while_a_module_is_imported_is_no_problem_of_the_module(write: Write) -> None:
    write({"bad.py": "raise KeyboardInterrupt"})
    with pytest.raises(KeyboardInterrupt):
        load_registry(["bad"])


@pytest.mark.parametrize(("source", "told"), UNFIT.items())
def test_a_function_that_cannot_be_served_is_told_with_its_place(source: str, told: str, write: Write) -> None:
    write({"bad/bad.py": f"from gateway import method\n@method\n{source}"})
    (problem,) = problems("bad.bad")
    assert problem.startswith(told)


def test_a_name_that_is_registered_twice_is_told_with_both_places(write: Write) -> None:
    function = "@method\ndef same(): ..."
    write({"one.py": HEAD + function, "two.py": f"{HEAD}\n\n{function}", "three.py": f"{HEAD}r = Registry()\n"})
    assert problems("one", "two") == [
        "'same' is registered twice: by one.py:2 (same) and by two.py:4 (same); rename one of them"
    ]


def test_a_registry_whose_name_is_taken_is_told_with_both_places(write: Write) -> None:
    registry = "r = Registry()\n@r.register\ndef same(): ..."
    write({"one.py": HEAD + registry, "two.py": HEAD + registry})
    assert problems("one:r", "two:r") == [
        "'same' is registered twice: by one.py:3 (same) and by two.py:3 (same); rename one of them"
    ]


def test_everything_wrong_is_told_at_once(write: Write) -> None:
    write(
        {
            "bad/__init__.py": "",
            "bad/a.py": f"{HEAD}@method\ndef same(): ...",
            "bad/b.py": f"{HEAD}@method\ndef same(): ...\n@method(name='x y')\ndef blank(): ...",
            "bad/c.py": "def (",
            "bad/d.py": "import nowhere",
        }
    )
    told = problems("bad", "nowhere", "bad/a.py", "bad.a:registry")
    parts = (
        ("bad.c: cannot be imported:\n", "SyntaxError"),
        ("bad.d: cannot be imported:\n", "No module named 'nowhere'"),
        ("nowhere: there is no such module", ""),
        ("'bad/a.py' is not a module", ""),
        ("bad.a: the module has no Registry named registry", ""),
        ("'same' is registered twice: by bad/a.py:2 (same) and by bad/b.py:2 (same)", ""),
        ("bad/b.py:4 (blank): 'x y' is not a name", ""),
    )
    assert len(told) == len(parts)
    for problem, (start, part) in zip(told, parts, strict=True):
        assert problem.startswith(start)
        assert part in problem


def test_the_current_folder_comes_first_on_the_import_path_and_only_once(write: Write) -> None:
    here = str(Path.cwd())
    write({"calendar_of_shop.py": f"{HEAD}@method\ndef today(): ..."})
    load_registry(["calendar_of_shop"])
    load_registry(["calendar_of_shop"])
    assert sys.path[0] == here
    assert sys.path.count(here) == 1
