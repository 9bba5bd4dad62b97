"""A program for SimpleXMLRPCServer keeps its calls: what it does with the original, it does with ours.

CPython's own tests of the original run against it, too, but for what ORIGINAL leaves out.
"""

import contextlib
import importlib
import os
import socket
import socketserver
import subprocess
import sys
import threading
import unittest
import xmlrpc.client
import xmlrpc.server
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway import Client, RegistrationError
from gateway.compat import SimpleXMLRPCRequestHandler, SimpleXMLRPCServer
from gateway.config import load
from tests.conftest import Logged
from tests.raw_http import Wire, exchange, request
from tests.serving import eventually

LOCAL = ("127.0.0.1", 0)


class Threading(socketserver.ThreadingMixIn, SimpleXMLRPCServer):
    pass


@contextlib.contextmanager
def serving(server: SimpleXMLRPCServer) -> Iterator[xmlrpc.client.ServerProxy]:
    """Serve in a thread, as programs do."""
    thread = threading.Thread(target=server.serve_forever, name="serving")
    with server:
        thread.start()
        with proxy(server) as client:
            client.system.listMethods()
            yield client
        server.shutdown()
        thread.join(10)
        assert not thread.is_alive()


def proxy(server: SimpleXMLRPCServer, path: str = "/RPC2", **options: Any) -> xmlrpc.client.ServerProxy:
    return xmlrpc.client.ServerProxy(f"http://127.0.0.1:{server.server_address[1]}{path}", **options)


def fault(call: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(xmlrpc.client.Fault) as raised:
        call()
    return raised.value.faultCode, raised.value.faultString


def test_the_example_of_the_standard_library_s_page() -> None:
    class RequestHandler(SimpleXMLRPCRequestHandler):
        rpc_paths = ("/RPC2",)

    class MyFuncs:
        def mul(self, x: int, y: int) -> int:
            return x * y

        def _hidden(self) -> None: ...

    server = SimpleXMLRPCServer(LOCAL, requestHandler=RequestHandler)
    server.register_introspection_functions()
    server.register_multicall_functions()
    server.register_function(pow)

    @server.register_function(name="add")  # type: ignore[untyped-decorator]  # as the original is
    def adder(x: int, y: int) -> int:
        return x + y

    server.register_function(lambda x, y: x // y, "div")
    server.register_instance(MyFuncs())
    with serving(server) as client:
        assert [client.pow(2, 3), client.add(2, 3), client.mul(5, 2), client.div(7, 2)] == [8, 5, 10, 3]
        names: Any = client.system.listMethods()
        assert {"add", "div", "mul", "pow"} < set(names)
        assert "_hidden" not in names
        multicall = xmlrpc.client.MultiCall(client)
        multicall.add(7, 3)
        multicall.pow(2, 10)
        results = multicall()
        assert [results[0], results[1]] == [10, 1024]
        with pytest.raises(xmlrpc.client.ProtocolError) as refused, proxy(server, "/") as other:
            other.add(1, 2)
        assert refused.value.errcode == 404
        with Client(f"http://127.0.0.1:{server.server_address[1]}/RPC2") as modern:
            assert modern.add(1, 2) == 3


@pytest.mark.parametrize("kind", [SimpleXMLRPCServer, Threading])
def test_functions_run_where_they_would(kind: type[SimpleXMLRPCServer]) -> None:
    server = kind(LOCAL)
    server.register_function(lambda: threading.current_thread().name == "serving", "is_here")

    class Instance:
        def is_here_too(self) -> bool:
            return threading.current_thread().name == "serving"

    server.register_instance(Instance())
    with serving(server) as client:
        assert client.is_here() == client.is_here_too() == (kind is SimpleXMLRPCServer)


def test_a_later_function_replaces_one_of_the_same_name_and_goes_before_an_instance() -> None:
    class Instance:
        def name(self) -> str:
            return "instance"

        def other(self) -> str:
            return "instance"

    server = SimpleXMLRPCServer(LOCAL)
    server.register_function(lambda: 1, "name")
    server.register_function(lambda: 2, "name")
    server.register_instance(Instance())
    server.register_instance(Instance())
    server.register_function(lambda: "function", "other")
    with serving(server) as client:
        assert (client.name(), client.other()) == (2, "function")


@pytest.mark.parametrize("is_builtin", [False, True])
def test_dates_and_bytes_have_the_types_that_the_program_has_chosen(*, is_builtin: bool) -> None:
    def types(a: Any, b: datetime, *rest: Any) -> list[str]:
        return [type(each).__name__ for each in (a, b, *rest)]

    def plain(a, b):  # type: ignore[no-untyped-def]  # what is tested
        return [type(a).__name__, type(b["x"][0]).__name__]

    server = SimpleXMLRPCServer(LOCAL, use_builtin_types=is_builtin)
    server.register_function(types)
    server.register_function(plain)
    now = datetime(2024, 2, 29, 12)
    binary, date = ("bytes", "datetime") if is_builtin else ("Binary", "DateTime")
    with serving(server) as client:
        assert client.types(b"1", now, b"2", now) == [binary, "datetime", binary, date]
        assert client.plain(now, {"x": [b"1"]}) == [date, binary]


@pytest.mark.parametrize(("threshold", "coding"), [(1400, None), (100, "gzip"), (None, None)])
def test_responses_are_compressed_above_the_threshold_of_the_request_handler(
    threshold: int | None, coding: str | None
) -> None:
    class Handler(xmlrpc.server.SimpleXMLRPCRequestHandler):
        encode_threshold = threshold  # type: ignore[assignment]  # None is allowed

        def log_message(self, *_: Any) -> None: ...

    server = SimpleXMLRPCServer(LOCAL, requestHandler=Handler)
    server.register_function(lambda: "x" * (5000 if threshold is None else 1000), "large")
    with serving(server):
        body = xmlrpc.client.dumps((), "large").encode()
        headers = {"Content-Type": "text/xml", "Accept-Encoding": "gzip"}
        response = exchange(server.server_address[1], request("/RPC2", headers, body))
        assert response.headers.get("content-encoding") == coding


def test_none_is_a_result_only_where_it_is_allowed(logged: Logged) -> None:
    for allowed in (False, True):
        server = SimpleXMLRPCServer(LOCAL, allow_none=allowed)
        server.register_function(lambda: None, "nothing")
        with serving(server) as client:
            if allowed:
                assert client.nothing() is None
            else:
                assert fault(client.nothing)[0] == -32603
                assert logged.take("cannot be encoded as XML-RPC")


def raising(server: SimpleXMLRPCServer) -> SimpleXMLRPCServer:
    @server.register_function
    def fail() -> None:
        raise ValueError("the text")

    @server.register_function
    def refuse() -> None:
        raise xmlrpc.client.Fault(42, "no")

    server.register_function(lambda a: a, "take")
    return server


def test_faults_are_the_gateway_s_or_the_original_s(logged: Logged) -> None:
    with serving(raising(SimpleXMLRPCServer(LOCAL))) as client:
        assert fault(client.fail)[0] == -32603
        assert fault(client.refuse) == (42, "no")
        assert fault(client.missing)[0] == -32601
    assert logged.take("the text")
    with serving(raising(SimpleXMLRPCServer(LOCAL, faults="stdlib"))) as client:
        assert fault(client.fail) == (1, "<class 'ValueError'>:the text")
        assert fault(client.refuse) == (42, "no")
        assert fault(client.missing) == (1, "<class 'Exception'>:method \"missing\" is not supported")
        code, text = fault(client.take)
        assert code == 1
        assert text.startswith("<class 'TypeError'>:")
        assert client.take(5) == 5


@pytest.mark.parametrize("faults", ["gateway", "stdlib"])
def test_handle_request_answers_one_request_each(faults: Any) -> None:
    with raising(SimpleXMLRPCServer(LOCAL, faults=faults)) as server:
        server.timeout = 20
        server.register_function(lambda _: "x" * 10_000_000, "large")  # more than the kernel holds
        done: list[object] = []

        def ask(method: str) -> None:
            with proxy(server) as client:
                try:
                    done.append(client.__getattr__(method)("x" * 500_000))
                except (xmlrpc.client.Fault, xmlrpc.client.ProtocolError) as error:
                    done.append(type(error))

        for method in ("large", "missing", "take"):
            asking = threading.Thread(target=ask, args=(method,))
            asking.start()
            server.handle_request()
            asking.join(20)
        assert done == ["x" * 10_000_000, xmlrpc.client.Fault, "x" * 500_000]
        several = [threading.Thread(target=ask, args=("take",)) for _ in range(3)]
        for each in several:
            each.start()
        for _ in several:
            server.handle_request()
        for each in several:
            each.join(20)
        assert len(done) == 6
        with Wire(server.server_address[1]) as wire:  # what is refused is a request, too
            wire.send(request("/nowhere", {"Content-Type": "text/xml"}, b""))
            server.handle_request()
            answered = wire.read()
            assert answered is not None
            assert answered.status == 404


def test_handle_request_gives_up_after_its_timeout() -> None:
    class Patient(SimpleXMLRPCServer):
        timeout = 0.01
        waited = 0

        def handle_timeout(self) -> None:
            self.waited += 1

    with Patient(LOCAL) as server:
        server.handle_request()
        server.timeout = 30
        server.socket.settimeout(0.01)
        server.handle_request()
        assert server.waited == 2


def test_a_function_may_end_the_server_and_it_may_serve_again() -> None:
    server = SimpleXMLRPCServer(LOCAL)

    @server.register_function
    def stop() -> bool:
        server.shutdown()
        return True

    server.shutdown()  # it does not serve
    with server:
        for _ in range(2):
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            with proxy(server) as client:
                assert client.stop() is True
            thread.join(10)
            assert not thread.is_alive()
    with socket.socket() as tried:
        assert tried.connect_ex(server.server_address) != 0


def test_a_program_that_fails_while_it_serves_ends() -> None:
    server = SimpleXMLRPCServer(LOCAL)
    thread = threading.Thread(target=server.serve_forever)
    with contextlib.suppress(ZeroDivisionError), server:
        thread.start()
        with proxy(server) as client:
            client.system.listMethods()
        1 / 0  # noqa: B018 - the program's bug
    thread.join(10)
    assert not thread.is_alive()


def test_what_is_configured_holds(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text('[access]\nallow = ["192.0.2.1"]\n[metrics]\nbind = ""\n')
    for config in (tmp_path / "gateway.toml", load(None, {}, ["access.allow=192.0.2.1", "metrics.bind="])):
        server = SimpleXMLRPCServer(LOCAL, config=config)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with proxy(server) as client, pytest.raises((xmlrpc.client.ProtocolError, xmlrpc.client.Fault)):
            client.anything()
        eventually(partial(getattr, server, "_leaving"), "it does not serve")
        server.shutdown()
        thread.join()
        server.server_close()


def test_what_cannot_be_kept_is_refused_with_the_remedy() -> None:
    class Dispatching(SimpleXMLRPCServer):
        def _dispatch(self, method: str, params: Any) -> None: ...

    with pytest.raises(TypeError, match=r"server\.registry\.middleware"):
        Dispatching(LOCAL)

    class Handler(SimpleXMLRPCRequestHandler):
        def do_POST(self) -> None: ...  # noqa: N802 - the original's

    with pytest.raises(TypeError, match=r"Handler\.do_POST would not be called: use server\.registry\.middleware"):
        SimpleXMLRPCServer(LOCAL, requestHandler=Handler)
    with pytest.raises(ValueError, match="always in UTF-8"):
        SimpleXMLRPCServer(LOCAL, encoding="iso-8859-15")
    with SimpleXMLRPCServer(LOCAL, encoding="utf-8") as server:
        with pytest.raises(RegistrationError, match=r"namespace\('orders'\)"):
            server.register_instance(object(), allow_dotted_names=True)
        assert server.fileno() == server.socket.fileno()
        with pytest.raises(OSError, match="in use"):
            SimpleXMLRPCServer(server.server_address)


def test_under_cgi_the_program_of_the_page_answers(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "compat.md").read_text("utf-8")
    program = page.partition("<!-- beside: add.cgi -->\n```python\n")[2].partition("```")[0]
    body = xmlrpc.client.dumps((2, 3), "add").encode()
    asked = {"REQUEST_METHOD": "POST", "PATH_INFO": "/RPC2", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1"}
    asked |= {"SERVER_NAME": "localhost", "SERVER_PORT": "80", "HTTP_HOST": "localhost", "CONTENT_TYPE": "text/xml"}
    ended = subprocess.run(
        [sys.executable, "-c", program],
        input=body,
        cwd=tmp_path,
        env={**os.environ, **asked, "CONTENT_LENGTH": str(len(body))},
        stdout=subprocess.PIPE,
        check=True,
    )
    head, _, answer = ended.stdout.partition(b"\r\n\r\n")
    assert head.startswith(b"Status: 200 OK\r\n")
    assert xmlrpc.client.loads(answer)[0] == (5,)


# ---- CPython's own tests ---------------------------------------------------------------------------------------------

CASES = ("SimpleServerTestCase", "FailingServerTestCase")
ORIGINAL = {  # what of test_xmlrpc's tests of servers is not asked for, and why
    "test_introspection1": "a class is not served as a method, and there are more methods of introspection",
    "test_introspection4": "signatures are told",
    "test_allow_dotted_names_true": "dotted names are refused",
    "test_partial_post": "a request that is cut off is none: handle_request goes on to wait",
    "test_fail_no_info": "the request handler has no MessageClass to break",
    "test_fail_with_info": "no traceback is sent to callers",
}
ELSEWHERE = {  # test cases of servers, none of which can run, and why
    "SimpleServerEncodingTestCase": "responses are in UTF-8",
    "MultiPathServerTestCase": "there is no MultiPathXMLRPCServer (docs/compat.md)",
    "KeepaliveServerTestCase1": "their request handler counts in handle_one_request, which is not called",
    "KeepaliveServerTestCase2": "likewise",
    "GzipServerTestCase": "their request handler has a do_POST, which is refused",
    "HeadersServerTestCase": "likewise",
    "BaseServerTestCase": "it has no tests",
    "BaseKeepaliveServerTestCase": "likewise",
}
_opened: list[SimpleXMLRPCServer] = []


class Original(SimpleXMLRPCServer):
    """As the tests make theirs; these close no more than the socket."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options, faults="stdlib")
        _opened.append(self)

    def register_instance(self, instance: object, allow_dotted_names: bool = False) -> None:
        super().register_instance(instance)


test_xmlrpc = importlib.import_module("test.test_xmlrpc")  # typeshed knows nothing of it


def original_tests() -> list[tuple[str, str]]:
    loader = unittest.TestLoader()
    return [
        (case, name)
        for case in CASES
        for name in loader.getTestCaseNames(getattr(test_xmlrpc, case))
        if name not in ORIGINAL
    ]


def test_all_of_the_original_s_tests_of_servers_are_known() -> None:
    cases = {name for name, case in vars(test_xmlrpc).items() if _is_of_a_server(case)}
    assert cases == {*CASES, *ELSEWHERE}


def _is_of_a_server(case: object) -> bool:
    bases = (test_xmlrpc.BaseServerTestCase, test_xmlrpc.FailingServerTestCase)
    return isinstance(case, type) and issubclass(case, bases)


@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)  # their clients
@pytest.mark.parametrize(("case", "name"), original_tests())
def test_the_original_s_own_test(case: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xmlrpc.server, "SimpleXMLRPCServer", Original)
    result = unittest.TestResult()
    getattr(test_xmlrpc, case)(name).run(result)
    while _opened:
        _opened.pop().server_close()
    assert [*result.errors, *result.failures, *result.skipped] == []
    assert result.testsRun == 1
