"""Write docs/api.md, the reference of what programs import, from the docstrings: ``python -m docs.reference``.

It writes docs/options.md, too (options.py).

What is documented is listed in PAGE. Signatures are those of the source, and docstrings are taken as they are: what is
indented in them stays a block, and what is below ``Args:`` and the like becomes a list.
"""

import ast
import importlib.util
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from docs import options

API = Path(__file__).parent / "api.md"
PAGE: dict[str, tuple[str, ...]] = {  # a heading -> what is below it; a name with a colon is one of a module
    "Methods": (
        "method",
        "gateway.methods.options:MethodOptions",
        "Registry",
        "RegistrationError",
        "Context",
        "Caller",
        "current_context",
    ),
    "Faults": (
        "Fault",
        "InvalidParams",
        "MethodNotFound",
        "InternalError",
        "DeadlineExceeded",
        "Overloaded",
        "RateLimited",
        "Unavailable",
        "BadUpstream",
        "Denied",
    ),
    "Around calls": ("Call", "Reply", "HTTPRequest", "AccessDenied"),
    "Serving": ("serve", "Server", "running", "StartupError", "LoadError", "Config", "ConfigError"),
    "Mounting": (
        "endpoint",
        "Endpoint",
        "asgi",
        "gateway.hosts.asgi:ASGIHost",
        "gateway.hosts.aiohttp:routes",
        "gateway.hosts.django:view",
        "gateway.hosts.django:async_view",
        "gateway.hosts.flask:blueprint",
        "gateway.hosts.rpc_handler:RPCHandler",
        "gateway.hosts.rpc_handler:delegate",
        "gateway.wsgi:",
    ),
    "Calling": (
        "Client",
        "AsyncClient",
        "gateway.client.options:Options",
        "gateway.client.options:CallOptions",
        "gateway.client.calls:Batch",
        "gateway.client:Outcome",
        "CallError",
        "gateway.client.errors:",
        "gateway.client:ArgumentError",
        "gateway.client:Unreachable",
        "gateway.client:TLSError",
        "gateway.client:ConnectionLost",
        "gateway.client:CallTimeout",
        "gateway.client:StatusError",
        "gateway.client:BadResponse",
    ),
    "Testing": (
        "gateway.testing:Client",
        "gateway.testing:AsyncClient",
        "gateway.testing:FakeUpstream",
        "gateway.pytest_plugin:",
    ),
    "Compatibility": ("gateway.compat:SimpleXMLRPCServer", "gateway.compat:SimpleXMLRPCRequestHandler"),
}
_SECTION = re.compile(r"(Args|Arguments|Attributes|Raises|Returns|Yields):")
_ITEM = re.compile(r"(\*{0,2}\w+): (.*)", re.DOTALL)
_CONSTRUCTORS = ("__init__", "initialize")
_SHOWN = ("__call__",)
_TOP = """\
# The API

<!-- written by make reference from the docstrings; edit those -->

What programs import, from `gateway` unless another module is named. A name that is not here may change in any release.
"""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def page() -> str:
    """Return the whole reference."""
    parts = [_TOP, "\n".join(f"* [{heading}](#{heading.lower().replace(' ', '-')})" for heading in PAGE) + "\n"]
    for heading, names in PAGE.items():
        parts.append(f"## {heading}\n")
        for name in names:
            parts += entry(name)
    return "\n".join(parts)


def entry(written: str) -> Iterator[str]:
    """Document one name of PAGE."""
    where, colon, name = written.rpartition(":")
    if colon and not name:
        yield f"### {where}\n"
        yield from text(ast.get_docstring(tree(where)) or "")
        return
    module = where or "gateway"
    node, home = found(module, name)
    yield f"### {name}\n" if module == "gateway" else f"### {module}.{name}\n"
    if isinstance(node, ast.ClassDef):
        yield from class_entry(node, home)
    else:
        yield from code([f"{prefix(node)}{node.name}{signature(node)}"])
        yield from text(ast.get_docstring(node) or "")


def found(module: str, name: str) -> tuple[ast.ClassDef | Function, ModuleType]:
    """Return the definition of a name, and the module that has it."""
    home = inspect.getmodule(getattr(importlib.import_module(module), name))
    assert home is not None
    return defined(home, name), home


def defined(home: ModuleType, name: str) -> ast.ClassDef | Function:
    """Return the definition of a name of a module; of a function with overloads, the last one."""
    nodes = [
        node
        for node in tree(home.__name__).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    ]
    return nodes[-1]


def tree(module: str) -> ast.Module:
    """Parse the source of a module, without importing it."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    return ast.parse(Path(spec.origin).read_text("utf-8"))


def class_entry(node: ast.ClassDef, home: ModuleType) -> Iterator[str]:
    """Document a class: how it is made, what it is, and its public methods, those of private bases included."""
    bodies = [*node.body, *inherited(node, home)]
    functions: dict[str, Function] = {}
    for each in bodies:
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            functions.setdefault(each.name, each)
    made = next((functions[name] for name in _CONSTRUCTORS if name in functions), None)
    bases = [ast.unparse(base) for base in node.bases if not ast.unparse(base).startswith("_")]
    first = (
        f"class {node.name}{signature(made, is_method=True) if made is not None and made.name == '__init__' else ''}"
    )
    fields = [
        f"    {ast.unparse(each)}"
        for each in node.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name) and not each.target.id.startswith("_")
    ]
    has_fields = bool(fields) and any(base in ("Struct", "TypedDict", "CallOptions") for base in bases)
    yield from code([first, *(fields if has_fields else ())])
    if others := [base for base in bases if base not in ("Struct", "TypedDict") and "[" not in base]:
        yield f"A subclass of {' and '.join(f'`{base}`' for base in others)}.\n"
    yield from text(ast.get_docstring(node) or "")
    for name, function in functions.items():
        if (name in _SHOWN or not name.startswith("_")) and name not in _CONSTRUCTORS:
            yield from method_entry(node.name, function)


def inherited(node: ast.ClassDef, home: ModuleType) -> Iterator[ast.stmt]:
    """Yield what private base classes of the same module have."""
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id.startswith("_") and not base.id.startswith("__"):
            inner = defined(home, base.id)
            if isinstance(inner, ast.ClassDef):
                yield from inner.body
                yield from inherited(inner, home)


def method_entry(owner: str, function: Function) -> Iterator[str]:
    """Document a method, or a property."""
    decorators = [ast.unparse(each) for each in function.decorator_list]
    if any(each.endswith(".setter") or each == "overload" for each in decorators):
        return
    if "property" in decorators:
        returns = f": {ast.unparse(function.returns)}" if function.returns is not None else ""
        yield from code([f"{owner}.{function.name}{returns}"])
    else:
        is_bound = "staticmethod" not in decorators
        yield from code([f"{prefix(function)}{owner}.{function.name}{signature(function, is_method=is_bound)}"])
    yield from text(ast.get_docstring(function) or "")


def prefix(node: Function) -> str:
    """Return what is written before the name of a function."""
    return "async " if isinstance(node, ast.AsyncFunctionDef) else ""


def signature(node: Function, *, is_method: bool = False) -> str:
    """Return the signature of a function, as it is called."""
    arguments = node.args
    if is_method:
        (arguments.posonlyargs or arguments.args).pop(0)
    returns = ast.unparse(node.returns).strip("'\"") if node.returns is not None else ""
    return f"({', '.join(parameters(arguments))}){f' -> {returns}' if returns not in ('', 'None') else ''}"


def parameters(arguments: ast.arguments) -> Iterator[str]:
    """Yield the parameters of a function."""
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    for number, (argument, default) in enumerate(zip(positional, defaults, strict=True), 1):
        yield parameter(argument, default)
        if number == len(arguments.posonlyargs):
            yield "/"
    if arguments.vararg is not None:
        yield f"*{ast.unparse(arguments.vararg)}"
    elif arguments.kwonlyargs:
        yield "*"
    yield from map(parameter, arguments.kwonlyargs, arguments.kw_defaults)
    if arguments.kwarg is not None:
        yield f"**{ast.unparse(arguments.kwarg)}"


def parameter(argument: ast.arg, default: ast.expr | None) -> str:
    """Return one parameter, with its default."""
    equals = "=" if argument.annotation is None else " = "
    return ast.unparse(argument) + ("" if default is None else f"{equals}{ast.unparse(default)}")


def code(lines: Iterable[str]) -> Iterator[str]:
    """Show lines of Python."""
    yield "\n".join(("```python", *lines, "```\n"))


def text(docstring: str) -> Iterator[str]:
    """Write a docstring as Markdown."""
    paragraphs = re.split(r"\n{2,}", docstring.strip())
    for paragraph in paragraphs:
        section = _SECTION.match(paragraph)
        if section is not None:
            body = inspect.cleandoc(paragraph[section.end() :])
            label = "Arguments" if section[1] == "Args" else section[1]
            yield f"*{label}:*\n"
            yield (f"{inline(body)}\n" if section[1] in ("Returns", "Yields") else listed(body))
        elif _ITEM.match(paragraph) and "\n" in paragraph and not paragraph.startswith(" "):
            yield listed(paragraph)
        elif table(paragraph):
            yield f"```text\n{paragraph}\n```\n"
        elif paragraph:
            yield f"{inline(paragraph)}\n"


def table(paragraph: str) -> bool:
    """Tell whether the lines of a paragraph are to stay as they are."""
    return all(line.startswith("    ") or re.search(r"\S {2,}\S", line) for line in paragraph.split("\n"))


def listed(body: str) -> str:
    """Make a list of items, each of which may have further lines that are indented."""
    items = re.split(r"\n(?=\S)", body)
    lines = []
    for item in items:
        named = _ITEM.match(item)
        lines.append(f"* `{named[1]}`: {inline(named[2])}" if named else f"* {inline(item)}")
    return "\n".join(lines) + "\n"


def inline(words: str) -> str:
    """Write running text on one line, with code between single backticks."""
    return re.sub(r"``(.+?)``", r"`\1`", " ".join(words.split()))


if __name__ == "__main__":
    API.write_text(page(), "utf-8")
    options.PAGE.write_text(options.page(), "utf-8")
