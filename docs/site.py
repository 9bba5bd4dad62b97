"""The hooks of mkdocs: README.md and the other files of the repository that pages link to become part of the site.

A page links to ../conf/gateway.toml or ../gateway/, which a code host shows. On the site, each such file is a page with
its text, a folder is a page with what is in it, and a picture stays a picture. README.md is the first page.

api.md has tables of names for a code host, and comments that tell mkdocstrings what to show on the site.
"""

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
FIRST = "README.md"
API = "docs/api.md"
MORE = ("CHANGELOG.md", "conf/gateway.toml")  # in the navigation, whether or not a page links to them
PICTURES = {".png", ".svg"}
_LINK = re.compile(r"\]\((?![a-z]+:|[#/])(?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
_DIRECTIVES = re.compile(r"<!-- On the site:\n(.*?)-->", re.DOTALL)
_NAME = re.compile(r"\[(`(gateway\.[\w.]+)`)\]\([^)\s]+\)")
_FENCES = re.compile(r"^`{3,}", re.MULTILINE)
_UNSEEN = {"__pycache__", ".so"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put pages that the navigation does not have into its part "How to"."""
    nav: list[dict[str, list[Any]]] = config.nav or []
    titles = [title for section in nav for title in section]
    listed = {each for section in nav for pages in section.values() for each in pages}
    how_to = nav[titles.index("How to")]["How to"]
    how_to += sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name not in listed)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what pages link to, and what that links to."""
    found = {f"docs/{file.src_uri}" for file in files if file.is_documentation_page()}
    left = [*found, FIRST, *MORE]
    found.update(left)
    while left:
        path = left.pop()
        if not path.startswith("docs/"):
            files.append(_file(path, config))
        if path.endswith(".md"):
            fresh = set(_linked(path, _shown(path, (ROOT / path).read_text("utf-8")))) - found
            left += [each for each in fresh if not each.startswith("docs/")]
            found |= fresh
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make the links of a page lead to where their targets are on the site."""
    del config, files
    here = _repository_path(page.file.src_uri)

    def rewritten(link: re.Match[str]) -> str:
        path = _resolved(here, link["target"])
        if path is None:
            return link[0]
        target = posixpath.relpath(site_path(path), posixpath.dirname(page.file.src_uri) or ".")
        return f"]({target}{link['anchor'] or ''})"

    return _LINK.sub(rewritten, _shown(here, markdown)) if here.endswith(".md") else markdown


def site_path(path: str) -> str:
    """Return where a file or folder of the repository is on the site, as the path of its source there."""
    if path == FIRST:
        return "index.md"
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if (ROOT / path).is_dir():
        return f"{path}/index.md"
    return path if Path(path).suffix in {".md", *PICTURES} else f"{path}.md"


def _shown(path: str, markdown: str) -> str:
    """Make the page of the API tell what the docstrings say, and its names lead there instead of to the source."""
    if path != API:
        return markdown
    return _NAME.sub(r"[\1](#\2)", _DIRECTIVES.sub(r"\1", markdown))


def _repository_path(source: str) -> str:
    """Return which file a page of the site was made of."""
    if source == "index.md":
        return FIRST
    return f"docs/{source}" if (ROOT / "docs" / source).is_file() else source.removesuffix("/index.md")


def _resolved(here: str, target: str) -> str | None:
    """Return the path of what a file links to; None where there is nothing, for example in an example."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
    return path if not path.startswith("..") and (ROOT / path).exists() else None


def _linked(here: str, text: str) -> Iterator[str]:
    for link in _LINK.finditer(text):
        path = _resolved(here, link["target"])
        if path is not None:
            yield path


def _file(path: str, config: MkDocsConfig) -> File:
    """Make a file of the site of one of the repository that is not in docs/."""
    source = ROOT / path
    if source.suffix in {".md", *PICTURES}:
        return File.generated(config, site_path(path), abs_src_path=str(source))
    return File.generated(config, site_path(path), content=_listing(source) if source.is_dir() else _text(source))


def _text(source: Path) -> str:
    """Make a page of the text of a file."""
    text = source.read_text("utf-8")
    fence = max(["```", *(f"{found}`" for found in _FENCES.findall(text))], key=len)
    kind = {"service": "ini", "conf": "nginx", "jsonl": "json"}.get(source.suffix[1:], source.suffix[1:])
    return f"# {source.relative_to(ROOT)}\n\n{fence}{kind}\n{text}\n{fence}\n"


def _listing(folder: Path) -> str:
    """Make a page of what is in a folder, with the first line that each module says of itself."""
    lines = [f"# {folder.relative_to(ROOT)}/\n"]
    for path in sorted(folder.iterdir()):
        if path.name[0] != "." and path.name not in _UNSEEN and path.suffix not in _UNSEEN:
            said = _said(path / "__init__.py" if path.is_dir() else path)
            lines.append(f"* `{path.name}{'/' * path.is_dir()}`{': ' * bool(said)}{said}")
    return "\n".join(lines) + "\n"


def _said(path: Path) -> str:
    if path.suffix != ".py" or not path.is_file():
        return ""
    first = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n")[0]
    return first.replace("``", "`")
