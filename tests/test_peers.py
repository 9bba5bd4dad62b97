"""What docs/comparison.md says of other packages, tried with the versions that it names."""

import json
import logging
import warnings
import xmlrpc.client
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any
from xmlrpc.server import SimpleXMLRPCDispatcher

import flask
import pjrpc.server
import pytest
from aiohttp_xmlrpc import common, handler  # type: ignore[import-untyped]
from flask_jsonrpc.app import JSONRPC

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # its own
    import jsonrpcserver

pytestmark = pytest.mark.unmeasured

PAGE = (Path(__file__).parent.parent / "docs" / "comparison.md").read_text("utf-8")
ROWS = {
    row[0].strip(" `"): row
    for row in (line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| "))
    if len(row) == 7
}
VERSIONED = ("aiohttp-xmlrpc", "pjrpc", "jsonrpcserver", "Flask-JSONRPC", "django-modern-rpc")
REQUEST = {"jsonrpc": "2.0", "id": 1}


def fails() -> str:
    raise ValueError("a secret")


def takes(number: int) -> int:
    return number


def of_the_standard_library(name: str, *params: Any) -> str:
    dispatcher: Any = SimpleXMLRPCDispatcher()
    dispatcher.register_function(fails)
    dispatcher.register_function(takes)
    return str(dispatcher._marshaled_dispatch(xmlrpc.client.dumps(params, name)))


def of_aiohttp_xmlrpc(name: str, *params: Any) -> str:
    del params
    shown = handler.XMLRPCView._format_error(ValueError("a secret")) if name == "fails" else common.py2xml("no")
    return "".join(shown.itertext())


def of_pjrpc(name: str, *params: Any) -> str:
    methods = pjrpc.server.MethodRegistry()
    for function in (fails, takes):
        methods.add()(function)
    dispatcher: Any = pjrpc.server.Dispatcher()
    dispatcher.add_methods(methods)
    return str(dispatcher.dispatch(json.dumps(REQUEST | {"method": name, "params": params}), None))


def of_jsonrpcserver(name: str, *params: Any) -> str:
    methods: dict[str, Callable[..., Any]] = {"fails": fails, "takes": jsonrpcserver.Success}
    return str(jsonrpcserver.dispatch(json.dumps(REQUEST | {"method": name, "params": params}), methods))


def of_flask_jsonrpc(name: str, *params: Any) -> str:
    app = flask.Flask(__name__)
    rpc = JSONRPC(app, "/api")
    for function in (fails, takes):
        rpc.method(function.__name__)(function)
    return app.test_client().post("/api", json=REQUEST | {"method": name, "params": params}).get_data(as_text=True)


PEERS = {
    "SimpleXMLRPCServer": of_the_standard_library,
    "aiohttp-xmlrpc": of_aiohttp_xmlrpc,
    "pjrpc": of_pjrpc,
    "jsonrpcserver": of_jsonrpcserver,
    "Flask-JSONRPC": of_flask_jsonrpc,
}


@pytest.fixture(autouse=True)
def no_log() -> Any:
    """Keep the exceptions that some of them log out of the log."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", VERSIONED)
def test_the_versions_are_those_that_are_tried(name: str) -> None:
    assert ROWS[name][1] == metadata.version(name)


@pytest.mark.parametrize("name", PEERS)
def test_what_a_caller_is_told_of_an_exception(name: str) -> None:
    told = "its" in ROWS[name][6]
    assert ("a secret" in PEERS[name]("fails")) is told


def test_what_a_caller_is_told_by_one_that_cannot_be_imported_without_a_project_of_django() -> None:
    file = metadata.distribution("django-modern-rpc").locate_file("modernrpc/server.py")
    source = Path(str(file)).read_text("utf-8")
    assert "return RPCInternalError(message=str(exception))" in source
    assert ROWS["django-modern-rpc"][6] == "its text"


@pytest.mark.parametrize("name", ["SimpleXMLRPCServer", "pjrpc", "jsonrpcserver", "Flask-JSONRPC"])
def test_which_of_them_look_at_type_hints(name: str) -> None:
    was_refused = "many" not in PEERS[name]("takes", "many") or "-32602" in PEERS[name]("takes", "many")
    assert was_refused is (ROWS[name][5] == "checked")


def test_what_becomes_of_large_integers() -> None:
    dispatcher = SimpleXMLRPCDispatcher()
    dispatcher.register_function(lambda: 2**31, "large")
    assert "exceeds XML-RPC limits" in str(dispatcher._marshaled_dispatch(xmlrpc.client.dumps((), "large").encode()))
    assert common.py2xml(2**53 + 1).tag == "double"
