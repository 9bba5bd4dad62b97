"""The console in a real browser: every view, calls of each kind, hostile names and texts, and the rules of axe-core."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from msgspec import Struct

from gateway import Registry
from gateway.model.faults import CATALOGUE
from tests.browser import Browser, browsing
from tests.endpoints.console_methods import HOSTILE, NAMES, registry
from tests.raw_http import post
from tests.serving import Server, serving

pytestmark = [pytest.mark.unmeasured, pytest.mark.slow]

KEY = "gw_" + "k" * 43
SETTINGS = {
    "console.bind": "127.0.0.1:0",
    "access.keys": json.dumps({"ada": f"sha256:{hashlib.sha256(KEY.encode()).hexdigest()}"}),
    "access.rules": json.dumps([{"methods": ["guarded.*"], "keys": ["ada"]}]),
    "access.anonymous": "true",
    "versions.ledger.default": "v1",
    "versions.ledger.canary": json.dumps({"to": "v2", "percent": 25}),
    "versions.ledger.header": "X-RPC-Version",
    "versions.ledger.deprecated": json.dumps({"v1": {"since": "2026-01-01", "use": "v2"}}),
}
AXE = (resources.files("axe_core_python") / "axe.min.js").read_text("utf-8")
QUOTED = """it's "5" \\ $HOME `x` <&> Ünï"""
LANGUAGES = ("curl", "xmlrpc.client", "gateway.client")
TAB, ENTER, SPACE = "\ue004", "\ue007", " "
OUTCOME = "section[aria-labelledby=outcome]"
SEEN = os.environ.get("CONSOLE_PICTURES")  # a folder, for those who want to look at what is tested here


class Opened(Struct):
    """The console in a window."""

    browser: Browser
    server: Server

    def show(self, view: str, expected: str) -> None:
        """Go to a view, with nothing left of the one before, and wait until it shows something."""
        self.browser.run("try { sessionStorage.removeItem('search') } catch {}")
        self.browser.go("about:blank")
        self.browser.go(f"http://127.0.0.1:{self.server.console}/#/{view}")
        self.browser.until("document.querySelector('main h1')?.innerText === arguments[0]", expected, expected)

    def send(self) -> str:
        """Send the call, and return what is said of the response."""
        self.browser.run("document.querySelector(arguments[0] + ' .outcome')?.remove()", OUTCOME)
        self.browser.click("button[type=submit]")
        self.browser.until("document.querySelector(arguments[0])", "a response", f"{OUTCOME} .outcome")
        return self.browser.text(OUTCOME)

    def label(self, text: str) -> str:
        """Return the selector of the first field with this label."""
        return f"[aria-label='{text}']"


def _stock() -> Registry:
    behind = Registry()

    @behind.register(name="stock.count")
    def count(article: str) -> int:
        """Count an article."""
        return len(article)

    return behind


@pytest.fixture(scope="module")
def window() -> Iterator[tuple[Browser, Server]]:
    tcp = {"server.tcp": "127.0.0.1:0", "metrics.bind": ""}
    with serving(_stock(), tcp) as one, serving(_stock(), tcp) as other:
        urls = [f"jsonrpc+tcp://127.0.0.1:{each.tcp_port}" for each in (one, other)]
        upstreams = {"upstreams.store.url": json.dumps(urls), "upstreams.store.prefix": ""}
        with serving(registry, SETTINGS | upstreams) as server, browsing() as browser:
            yield browser, server


@pytest.fixture
def console(window: tuple[Browser, Server]) -> Iterator[Opened]:
    browser, server = window
    browser.look(1600, "light")
    yield Opened(browser, server)
    expected = ("401 (Unauthorized)", "403 (Forbidden)")
    assert [said for said in browser.complaints() if not any(part in said for part in expected)] == []
    assert browser.run("return window.hacked") is None


def test_methods_are_found_and_described(console: Opened) -> None:
    browser = console.browser
    console.show("methods", "Methods")
    assert "520 of 520" not in browser.text(".count")
    browser.fill("#search", "stock reduced")
    assert browser.text(".list [role=status]").startswith("1 of 5")
    browser.click(".list li a")
    browser.until("document.querySelector('h1').innerText === 'shop.order'", "the method")
    shown = browser.text("article")
    for part in (
        "Place an order.",
        "customer",
        "array of Line",
        "at least 1 character, at most 20 characters",
        "at most 100",
        '"large" | "small"',
        'default "small"',
        "5 s",
        "everybody who is let in",
    ):
        assert part in shown
    assert browser.run("return [...document.querySelectorAll('.doc li')].map(e => e.innerText)")[:2] == [
        "the customer must be known,",
        "each article must be in the catalogue.",
    ]
    assert browser.run("return document.querySelector('.doc pre').innerText").startswith("shop.order(")
    assert browser.run("return document.querySelector('.doc a').rel") == "noopener noreferrer nofollow"
    assert browser.run("return location.hash") == "#/methods/shop.order"
    assert browser.run("return document.activeElement.tagName") == "H1"
    browser.fill("#search", "")


def test_what_a_method_says_of_itself(console: Opened) -> None:
    console.show("methods/math.half", "math.half")
    shown = console.browser.text("article")
    assert "Deprecated: use math.divide" in shown
    assert "double math.half(double)" in shown
    assert "math.halve" in shown
    console.show("methods/guarded.who", "guarded.who")
    assert "keys ada (access.rules[0])" in console.browser.text("article")
    console.show("methods/no.such", "no.such")
    assert "There is no method of this name" in console.browser.text()


def test_five_hundred_methods_are_shown_and_searched(console: Opened) -> None:
    browser = console.browser
    console.show("methods", "Methods")
    assert browser.run("return document.querySelectorAll('.list li').length") > 500
    browser.fill("#search", "group3.method333")
    assert browser.run("return document.querySelectorAll('.list li').length") == 1
    browser.fill("#search", "")


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_and_texts_are_only_shown(name: str, console: Opened) -> None:
    browser = console.browser
    console.show(f"methods/{quote(name)}", name)
    assert "<script>window.hacked = 1</script>" in browser.text(".doc")
    assert browser.run("return document.querySelectorAll('.doc script, .doc img, .doc b, .doc a').length") == 0
    console.show(f"try/{quote(name)}", "Try a call")
    browser.click("input[type=checkbox]")
    browser.fill(console.label("value"), HOSTILE)
    assert "Result" in console.send()
    assert "<script>window.hacked" in browser.text(f"{OUTCOME} pre")
    assert browser.run("return document.querySelectorAll('main script, main img').length") == 0
    browser.run("localStorage.clear()")


@pytest.mark.parametrize("protocol", ["jsonrpc", "xmlrpc"])
def test_a_call_of_numbers(protocol: str, console: Opened) -> None:
    console.show("try/math.add", "Try a call")
    console.browser.click(f"input[value={protocol}]")
    console.browser.fill(console.label("a"), "9007199254740992" if protocol == "jsonrpc" else "41")
    shown = console.send()
    assert "Result" in shown
    assert ("9007199254740993" if protocol == "jsonrpc" else "42") in shown
    assert "bytes sent" in shown
    assert "request id" in shown


@pytest.mark.parametrize("protocol", ["jsonrpc", "xmlrpc"])
def test_a_call_of_every_kind_of_value(protocol: str, console: Opened, tmp_path: Path) -> None:
    browser = console.browser
    (tmp_path / "data").write_bytes(b"content of a file")
    console.show("try/kinds.all", "Try a call")
    browser.click(f"input[value={protocol}]")
    browser.fill(console.label("flag"), "1")
    browser.fill(console.label("at"), "2024-02-29T12:30:15")
    browser.press("input[type=file]", str(tmp_path / "data"))
    browser.until("document.querySelector('input[type=file]').dataset.read", "the file")
    browser.fill(console.label("Type of either"), "1")
    browser.fill("textarea[aria-label=either]", "<5 & so>")
    browser.fill("input[aria-label='[0]']", "7")
    browser.fill("textarea[aria-label='[1]']", "seven")
    for _ in range(2):
        browser.run("[...document.querySelectorAll('button')].find(b => b.innerText === 'Add an item').click()")
    browser.run("document.querySelector('button[aria-label=\"Remove item 2\"]').click()")
    browser.run("document.querySelector('.item textarea').value = 'Ünï'")
    shown = console.send()
    assert "Result" in shown
    for part in ("2024-02-29T12:30:15", "content of a file", "seven", "Ünï"):
        assert part in shown
    assert ("&lt;5 &amp; so&gt;" if protocol == "xmlrpc" else "<5 & so>") in shown


def test_a_call_of_nested_objects(console: Opened) -> None:
    browser = console.browser
    console.show("try/shop.order", "Try a call")
    browser.fill(console.label("customer"), "Ada")
    browser.run("[...document.querySelectorAll('button')].find(b => b.innerText === 'Add an item').click()")
    browser.fill(console.label("article"), "A-1")
    browser.fill(console.label("count"), "3")
    shown = console.send()
    assert '"pieces": 3' in shown
    assert '"customer": "Ada"' in shown


def test_arguments_by_name_and_any_number_of_them(console: Opened) -> None:
    browser = console.browser
    console.show("try/kinds.named", "Try a call")
    browser.fill(console.label("left"), "5")
    assert '"result": 5' in console.send()
    browser.click("input[value=xmlrpc]")
    browser.click("button[type=submit]")
    assert "XML-RPC has no arguments by name" in browser.text("[role=alert]")
    console.show("try/kinds.rest", "Try a call")
    browser.fill(console.label("first"), "x")
    browser.click("input[type=checkbox]")
    browser.run("[...document.querySelectorAll('button')].find(b => b.innerText === 'Add an item').click()")
    browser.fill("input[aria-label='[0]']", "4")
    assert "4" in console.send()


def test_a_value_that_does_not_fit_its_type_is_shown_and_not_sent(console: Opened) -> None:
    browser = console.browser
    console.show("try/math.add", "Try a call")
    browser.fill(console.label("a"), "many")
    browser.click("button[type=submit]")
    assert browser.text("[role=alert]") == "a: enter an integer, like 42"
    assert browser.run("return document.querySelector('[aria-label=a]').getAttribute('aria-invalid')") == "true"
    assert browser.run("return document.activeElement.getAttribute('aria-label')") == "a"
    assert "Nothing was sent yet" in browser.text(OUTCOME)


@pytest.mark.parametrize("protocol", ["jsonrpc", "xmlrpc"])
def test_a_fault_is_shown_with_its_meaning(protocol: str, console: Opened) -> None:
    browser = console.browser
    console.show("try/fail.own", "Try a call")
    browser.click(f"input[value={protocol}]")
    shown = console.send()
    assert "Fault 17: the shelf is empty <b>really</b>" in shown
    assert "The method has chosen this code" in shown
    browser.fill("#method", "no.such")
    browser.click("input[value=raw]")
    shown = console.send()
    assert "Fault -32601" in shown
    assert "Compare the name with what system.listMethods returns" in shown


def test_a_raw_body_and_the_history(console: Opened) -> None:
    browser = console.browser
    console.show("try/echo", "Try a call")
    browser.click("input[value=raw]")
    browser.fill("#raw", '{"jsonrpc":"2.0","method":"echo","params":[{"__proto__":1e400}],"id":1}')
    assert "Fault" in console.send()
    browser.fill("#raw", '{"jsonrpc":"2.0","method":"echo","params":[{"__proto__":1}],"id":1}')
    assert '"__proto__": 1' in console.send()
    console.show("try", "Try a call")
    assert browser.run("return document.querySelectorAll('.history button').length") >= 2
    browser.click(".history button")
    assert "__proto__" in browser.run("return document.querySelector('#raw').value")
    browser.run("[...document.querySelectorAll('button')].find(b => b.innerText === 'Clear the history').click()")
    assert browser.run("return localStorage.getItem('history')") == "[]"


def test_a_refused_key_and_a_good_one_which_stays_in_the_tab(console: Opened) -> None:
    browser = console.browser
    console.show("try/guarded.who", "Try a call")
    assert "Fault -32005" in console.send()
    browser.fill("#key", "gw_wrong")
    shown = console.send()
    assert "HTTP 401" in shown
    assert "Send a valid key" in shown
    browser.fill("#key", KEY)
    assert '"ada"' in console.send()
    console.show("try/guarded.who", "Try a call")
    assert browser.run("return document.querySelector('#key').value") == KEY
    assert KEY not in browser.run("return JSON.stringify(localStorage)")
    for number in range(7):
        browser.fill("#language", str(number))
        assert KEY not in browser.text()
        assert "GATEWAY_KEY" in browser.text("section[aria-labelledby=as-code]")
    browser.fill("#key", "")


@pytest.mark.parametrize("language", range(3))
@pytest.mark.parametrize("protocol", ["jsonrpc", "xmlrpc"])
def test_the_call_in_another_language_is_the_same_call(language: int, protocol: str, console: Opened) -> None:
    browser = console.browser
    console.show("try/shop.order", "Try a call")
    browser.click(f"input[value={protocol}]")
    browser.fill(console.label("customer"), QUOTED)
    browser.fill("#language", str(language))
    browser.until("document.querySelector('section[aria-labelledby=as-code] code')", "the code")
    code = browser.run("return document.querySelector('section[aria-labelledby=as-code] code').textContent")
    assert LANGUAGES[language] in code
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONIOENCODING": "utf-8"}
    program = sys.executable if language else "bash"
    ran = subprocess.run(
        [program, "-c", code], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert "pieces" in ran.stdout, ran.stderr
    assert "Ünï" in ran.stdout or "\\xdcn\\xef" in ran.stdout
    assert "HOME" in ran.stdout


def test_the_keyboard_alone_is_enough(console: Opened) -> None:
    browser = console.browser
    console.show("methods", "Methods")
    browser.keys(TAB)
    assert browser.run("return document.activeElement.className") == "skip"
    browser.keys(TAB, TAB, ENTER)
    browser.until("document.querySelector('h1')?.innerText === 'Try a call'", "the view")
    browser.run("document.querySelector('#method').focus()")
    browser.keys(*"math.add")
    browser.until("document.querySelector('[aria-label=a]')", "the form")
    browser.run("document.querySelector('[aria-label=a]').focus()")
    browser.keys("1", TAB, SPACE, TAB, "2", ENTER)
    browser.until("document.querySelector(arguments[0])", "a response", f"{OUTCOME} .outcome")
    assert '"result": 3' in browser.text(OUTCOME)


def test_what_goes_on_is_drawn_and_updated(console: Opened) -> None:
    browser = console.browser
    console.show("live", "Live")
    for _ in range(3):
        post(console.server.port, b'{"jsonrpc":"2.0","method":"fail.own","params":["<b>secret</b>"],"id":1}')
    browser.until("document.body.innerText.includes('Failing calls') && document.querySelector('td')", "the tables")
    browser.until("[...document.querySelectorAll('td')].some(e => e.innerText === 'fail.own')", "the failing call")
    browser.until("document.querySelector('.chart .series')?.getAttribute('d').length > 5", "a curve")
    shown = browser.text()
    assert "Calls per second" in shown
    assert "p99" in shown
    assert "127.0.0.1" in shown
    assert "secret" not in shown
    assert "in the last hour; highest" in browser.run("return document.querySelector('svg.chart').ariaLabel")
    browser.click("main button")
    assert browser.text("main button") == "Continue"
    console.show("methods", "Methods")


def test_upstreams_and_their_instances_are_shown(console: Opened) -> None:
    browser = console.browser
    assert json.loads(
        post(console.server.port, b'{"jsonrpc":"2.0","method":"stock.count","params":["abc"],"id":1}').body
    )["result"] == 3  # fmt: skip
    console.show("fleet", "Fleet")
    browser.until("document.querySelectorAll('main td').length > 8", "the instances")
    browser.until("document.body.innerText.includes('serving')", "the one that was called")
    shown = browser.text()
    assert "jsonrpc+tcp://127.0.0.1" in shown
    assert "up" in browser.text("main .badge")
    console.show("methods/stock.count", "stock.count")
    assert "upstream store" in browser.text("article")


def test_the_versions_of_an_interface_are_shown_with_their_calls(console: Opened) -> None:
    browser = console.browser
    for method in ("ledger.v1.get", "ledger.v2.get", "ledger.v1.get"):
        post(console.server.port, json.dumps({"jsonrpc": "2.0", "method": method, "id": 1}).encode())
    console.show("fleet", "Fleet")
    browser.until("document.querySelector('section[aria-label=\"Interface ledger\"] td')", "the versions")
    browser.until("[...document.querySelectorAll('td')].some((each) => each.innerText.endsWith('.7%'))", "the share")
    shown = browser.text("section[aria-label='Interface ledger']")
    for part in ("25% of the clients, by their addresses", "X-RPC-Version", "since 2026-01-01", "66.7%", "33.3%"):
        assert part in shown


def test_each_code_leads_to_what_is_said_of_it(console: Opened) -> None:
    browser = console.browser
    console.show("try", "Try a call")
    browser.fill("#method", "no.such")
    browser.click("input[value=raw]")
    assert "More on -32601" in console.send()
    browser.click(f"{OUTCOME} .outcome a")
    browser.until("document.querySelector('h1').innerText === 'Fault -32601'", "the fault")
    assert "Compare the name with what system.listMethods returns" in browser.text("main")
    console.show("faults", "Faults")
    assert browser.run("return document.querySelectorAll('main section').length") == len(CATALOGUE)
    console.show("faults/17", "Fault 17")
    assert "is not one of the gateway's own" in browser.text("main")


def test_the_configuration_is_shown_with_its_places_and_without_secrets(console: Opened) -> None:
    browser = console.browser
    console.show("configuration", "Configuration")
    assert "[access]" in browser.text() or "default" in browser.text()
    browser.click("#defaults")
    shown = browser.text()
    assert "Seconds that a call may take" in shown or "max_batch" in shown
    assert "(hidden)" in shown
    assert "sha256" not in shown


def test_the_public_console_asks_for_a_key_and_shows_what_the_key_may_call(console: Opened) -> None:
    browser = console.browser
    needed = {"console.public": "true", "access.keys": SETTINGS["access.keys"]}
    with serving(registry, needed) as server:
        browser.go(f"http://127.0.0.1:{server.port}/console/#/live")
        browser.until("document.querySelector('#key')", "the form for the key")
        assert "401" in browser.text("[role=alert]")
        browser.press("#key", KEY + ENTER)
        browser.until("document.querySelector('.list li a')", "the methods")
        assert browser.run("return [...document.querySelectorAll('#views a')].map(e => e.innerText)") == ["Methods"]
        browser.run("location.hash = '#/methods/guarded.who'")
        browser.until("document.querySelector('h1').innerText === 'guarded.who'", "the method")
        assert "Try" not in browser.text()
        assert "Who may call" not in browser.text()


VIEWS = (
    ("methods", "Methods"),
    ("methods/shop.order", "shop.order"),
    ("try/shop.order", "Try a call"),
    ("live", "Live"),
    ("fleet", "Fleet"),
    ("faults", "Faults"),
    ("configuration", "Configuration"),
)


def prepare(console: Opened, view: str) -> None:
    """Bring a view into the state in which most of it is seen, but not of five hundred methods: axe would take long."""
    if "methods" in view:
        console.browser.fill("#search", "a" if SEEN else "math")
    if view in ("live", "fleet"):
        console.browser.until("document.querySelector('main td')", "the tables")
        console.browser.run("document.querySelector('main button')?.click()")  # it stays as it is
    if view.startswith("try"):
        console.browser.run(
            "document.querySelector('.item') || document.querySelector('form button[type=button]').click()"
        )
        console.browser.fill(console.label("customer"), "Ada")
        console.browser.fill(console.label("article"), "A-1")
        console.browser.fill(console.label("count"), "3")
        console.send()
        console.browser.fill("#language", "1")
        console.browser.run("document.activeElement.blur()")


@pytest.mark.parametrize(("view", "title"), VIEWS)
def test_each_view_fits_and_is_accessible(view: str, title: str, console: Opened) -> None:
    browser = console.browser
    console.show(view, title)
    prepare(console, view)
    browser.run(AXE)
    for width in (1600, 360):
        for scheme in ("light", "dark"):
            browser.look(width, scheme)
            assert browser.run("return document.documentElement.scrollWidth") <= width, "it scrolls sideways"
            rules = {} if scheme == "light" else {"runOnly": ["color-contrast"]}  # all that a theme changes
            found: list[Any] = browser.run("return axe.run(arguments[0]).then(r => r.violations)", rules)
            problems = [(each["id"], node["html"], node["failureSummary"]) for each in found for node in each["nodes"]]
            assert problems == [], f"{width} {scheme}"
            if SEEN:
                height = browser.run("return document.documentElement.scrollHeight")
                browser.look(width, scheme, min(height, 2400))
                browser.picture(Path(SEEN) / f"{view.replace('/', '-')}-{width}-{scheme}.png")
