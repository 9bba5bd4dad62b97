"""The methods that the transcripts of agents call, and how they are offered."""

from typing import Any

import tornado.web

from gateway import Fault, Registry

SETTINGS = {
    "mcp.expose": "add,echo,shop.*,broken,hidden.*,rpc.*",
    "mcp.hide": "hidden.*,rpc.*",
    "mcp.read_only": "add",
    "mcp.instructions": "Add first.",
}
registry = Registry()


@registry.register(run="inline")
def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


@registry.register
def echo(value: Any) -> Any:
    return value


@registry.register(name="shop.find", aliases=["find"])
async def find(name: str = "") -> list[str]:
    return [name] if name else []


@registry.register
def broken(item: str) -> None:
    raise Fault(1001, f"no {item} left", {"item": item})


@registry.register(name="hidden.one")
def hidden() -> str:
    return "hidden"


@registry.register
def unexposed() -> str:
    return "not exposed"


class Home(tornado.web.RequestHandler):
    def get(self) -> None:
        self.write("home")

    def post(self) -> None:
        self.write("posted")


application = tornado.web.Application([(".*", Home)])
