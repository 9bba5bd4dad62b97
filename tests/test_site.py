"""The documentation as a site, as ``make docs`` builds it: complete, searchable, and with nothing from another host."""

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from mkdocs.config.defaults import MkDocsConfig

from docs import site as hooks
from gateway.model.explained import anchor
from gateway.model.faults import CATALOGUE
from tests.browser import browsing

pytestmark = [pytest.mark.unmeasured, pytest.mark.slow]

ROOT = Path(__file__).parent.parent
MKDOCS = (sys.executable, "-m", "mkdocs")
ELSEWHERE = re.compile(r"\s*(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)


class _Loaded(HTMLParser):
    """Notes what a page loads or is a part of, and its policy."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.policy = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("http-equiv") == "Content-Security-Policy":
            assert not self.sources, "the policy stands behind what it is for"
            self.policy = given["content"] or ""
        if tag != "a":  # which loads nothing
            self.sources += [given[name] or "" for name in ("src", "href", "srcset", "data", "poster") if name in given]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [*MKDOCS, "build", "--strict", "--quiet", "--config-file", "docs/mkdocs/mkdocs.yml", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (built.returncode, built.stdout + built.stderr) == (0, "")
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that it has there
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_each_page_of_docs_is_found_by_the_search_and_in_the_navigation(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text("utf-8"))
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    first = (site / "index.html").read_text("utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f"{page.stem}.html" in found, page
        section = (site / f"{page.stem}.html").read_text("utf-8")
        assert re.search(rf'<a href="(\./)?{page.stem}\.html" class="md-nav__link', section), page
    assert {"index.html", "conf/gateway.toml.html", "benchmarks/index.html", "CHANGELOG.html"} <= found
    assert 'href="gateway/index.html"' in first  # README.md says [gateway/](gateway/)
    assert (site / "benchmarks" / "speed" / "calls_per_second.png").is_file()


def test_a_page_that_the_navigation_does_not_name_is_among_those_on_how_to_do_something() -> None:
    config = MkDocsConfig()
    config.nav = [{"Home": ["index.md"]}, {"How to": ["methods.md"]}, {"Reference": ["api.md"]}]
    _, how_to, reference = hooks.on_config(config).nav or []
    pages = [path.name for path in (ROOT / "docs").glob("*.md")]
    assert sorted(how_to["How to"] + reference["Reference"]) == sorted(pages)


def test_each_fault_has_an_anchor_to_which_links_lead(site: Path) -> None:
    page = (site / "faults.html").read_text("utf-8")
    for row in CATALOGUE.values():
        assert f'id="{anchor(row.code, row.title)}"' in page


def test_the_page_of_the_api_has_the_docstrings_of_what_it_names(site: Path) -> None:
    names = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text("utf-8"), re.MULTILINE)
    page = (site / "api.html").read_text("utf-8")
    index = json.loads((site / "search" / "search_index.json").read_text("utf-8"))
    found = {entry["location"]: re.sub("<[^>]+>", "", entry["text"]) for entry in index["docs"]}
    assert len(names) > 50
    for name in names:
        assert found[f"api.html#{name}"], name
        assert f'<a href="#{name}">' in page, name
    assert "the common name of the client's certificate" in found["api.html#gateway.Caller"]
    assert "is_proxied: bool = False" in found["api.html#gateway.Caller"]  # the constructor of a Struct (structs.py)


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loaded = _Loaded(page.read_text("utf-8"))
        assert loaded.policy.startswith("default-src 'self'; "), page
        assert [source for source in loaded.sources if ELSEWHERE.match(source)] == [], page
    for sheet in site.rglob("*.css"):
        assert re.findall(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", sheet.read_text("utf-8")) == [], sheet


def test_a_browser_searches_the_site_and_has_nothing_to_complain_about(address: str) -> None:
    with browsing() as browser:
        browser.go(f"{address}/index.html")
        browser.run("document.querySelector('input[name=query]').focus()")
        browser.fill("input[name=query]", "hedge")
        browser.until("document.querySelector('.md-search-result__link[href*=\"fleet.html\"]')", "no result")
        browser.go(f"{address}/faults.html#-32601-method-not-found")
        browser.until("document.querySelector(':target')?.innerText.includes('Method not found')", "no anchor")
        assert browser.complaints() == []
