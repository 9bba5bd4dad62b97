"""A real browser, driven by the WebDriver protocol of the W3C, which is JSON over HTTP and needs no library."""

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.serving import free_port

_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # the tests may run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
)
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's own name for a reference to one
_MISSING = "the console is tested with Chromium: install it (Debian's packages are chromium and chromium-driver)"


class Browser:
    """One window of a browser."""

    def __init__(self, url: str) -> None:
        self._url = url

    def command(self, method: str, path: str, **arguments: Any) -> Any:
        """Send a command, and return its value."""
        data = json.dumps(arguments).encode() if method == "POST" else None
        request = Request(self._url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urlopen(request, timeout=60) as response:
                return json.load(response)["value"]
        except HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None

    def go(self, url: str) -> None:
        """Load a page."""
        self.command("POST", "/url", url=url)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page, and return what it returns; a promise is awaited."""
        return self.command("POST", "/execute/sync", script=script, args=list(arguments))

    def until(self, expression: str, what: str, *arguments: Any) -> Any:
        """Wait until an expression is true in the page, and return it."""
        end = time.monotonic() + 20
        while not (found := self.run(f"return {expression}", *arguments)):
            assert time.monotonic() < end, f"{what}:\n{self.text()}"
            time.sleep(0.02)
        return found

    def text(self, selector: str = "body") -> str:
        """Return the text of an element as it is shown."""
        return str(self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector))

    def click(self, selector: str) -> None:
        """Click an element, as a person would."""
        self.command("POST", f"/element/{self._element(selector)}/click")

    def press(self, selector: str, keys: str) -> None:
        """Type into an element; into a file field, the path of a file."""
        self.command("POST", f"/element/{self._element(selector)}/value", text=keys)

    def fill(self, selector: str, value: str) -> None:
        """Put a value into a field, as if it had been entered."""
        self.run(
            "const e = document.querySelector(arguments[0]); e.value = arguments[1];"
            "for (const kind of ['input', 'change']) e.dispatchEvent(new Event(kind, {bubbles: true}))",
            selector,
            value,
        )

    def keys(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.command("POST", "/actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def look(self, width: int, scheme: str, height: int = 900) -> None:
        """Choose the width of the window, and the theme that the person prefers: light or dark."""
        self.tool("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.tool("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def tool(self, name: str, **arguments: Any) -> Any:
        """Send a command of the browser's own protocol for tools."""
        return self.command("POST", "/goog/cdp/execute", cmd=name, params=arguments)

    def picture(self, file: Path) -> None:
        """Write a picture of what is shown."""
        file.write_bytes(base64.b64decode(self.command("GET", "/screenshot")))

    def complaints(self) -> list[str]:
        """Take what the browser has to complain about, like a script that was not allowed to run."""
        return [entry["message"] for entry in self.command("POST", "/se/log", type="browser")]

    def _element(self, selector: str) -> str:
        found = self.command("POST", "/element", using="css selector", value=selector)
        return str(found[_ELEMENT])


@contextmanager
def browsing() -> Iterator[Browser]:
    """Start a browser, and end it."""
    driver = shutil.which("chromedriver")
    assert driver is not None, _MISSING
    process, port = _started(driver)
    try:
        url = f"http://127.0.0.1:{port}/session"
        wanted = {
            "goog:chromeOptions": {"args": list(_ARGUMENTS)},
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"script": 50_000},
        }
        started = Browser(url).command("POST", "", capabilities={"alwaysMatch": wanted})
        browser = Browser(f"{url}/{started['sessionId']}")
        try:
            yield browser
        finally:
            browser.command("DELETE", "")
    finally:
        process.terminate()
        process.communicate(timeout=15)


def _started(driver: str) -> tuple[subprocess.Popen[str], str]:
    """Start a driver on a free port; a port of its own choice is often one that an ended connection still keeps."""
    said = ""
    for _ in range(5):
        command = [driver, f"--port={free_port()}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if found := re.search(r"successfully on port (\d+)", line):
                return process, found[1]
        process.communicate()
    raise AssertionError(f"chromedriver does not start:\n{said}")
