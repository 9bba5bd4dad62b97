"""Both clients and servers that lie: slow, cut short, too long, closed, another protocol; and what is tried again."""

import asyncio
import gzip
import os
import pickle
import socket
import threading
import time
from typing import Any

import pytest

from gateway.client import (
    AsyncClient,
    BadResponse,
    CallTimeout,
    Client,
    ConnectionLost,
    StatusError,
    TLSError,
    Unreachable,
    core,
)
from gateway.client import blocking as blocking_sockets
from gateway.model.faults import Fault, MethodNotFound, Overloaded
from tests.client.asking import Ask, blocking, both, http, looping, lying, read_request, result

HTML = b"<html><body>It works!</body></html>"
VALUE = b"<methodResponse><params><param><value><int>1</int></value></param></params></methodResponse>"
BUSY = b'{"jsonrpc":"2.0","error":{"code":-32003,"message":"Overloaded","data":{"retry_after":0}},"id":1}'


def end(connection: socket.socket) -> None:
    """Close, so that the client sees it before its next call."""
    connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def reset(connection: socket.socket) -> None:
    """Read a request, and reset the connection."""
    read_request(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


def slowly(*pieces: bytes) -> Any:
    def send(connection: socket.socket) -> None:
        read_request(connection)
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.005)

    return send


WAYS = {
    "in pieces": slowly(*(bytes([byte]) for byte in http(result(b"1")))),
    "after 100": b"HTTP/1.1 100 Continue\r\n\r\n" + http(result(b"1")),
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    % (len(result(b"1")), result(b"1")),
    "gzip": http(gzip.compress(result(b"1")), b"Content-Encoding: gzip\r\n"),
    "until the end": b"HTTP/1.0 200 OK\r\n\r\n" + result(b"1"),
    "with an error status that means nothing": http(result(b"1"), status=b"206 Partial"),
}


@both
@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
def test_a_response_comes_in_any_way(ask: Ask, way: Any) -> None:
    with lying([way]) as liar:
        assert ask(liar.url, lambda c: c.add(1)) == [1]


BAD: dict[bytes, tuple[type[Exception], str]] = {
    http(HTML): (BadResponse, "it is an HTML page: is the path right?"),
    http(HTML, status=b"500 Oh no"): (StatusError, "responds with 500 Oh no: <html><body>It works!"),
    http(result(b"1"), status=b"500 Oh no"): (StatusError, "responds with 500 Oh no: "),
    http(b"", status=b"401 Unauthorized"): (StatusError, "401 Unauthorized; an API key is needed"),
    http(b"", status=b"413 Too Large"): (StatusError, "413 Too Large; send less"),
    http(b"", b"Location: https://b/\r\n", b"302 Found"): (StatusError, "(see https://b/); call https://b/ instead"),
    http(result(b"1", 2)): (BadResponse, "responds to another call than this one"),
    http(b'{"jsonrpc":"2.0","method":"x","id":1}'): (BadResponse, "responds to another call than this one"),
    http(b'{"jsonrpc":"2.0","result":1,"id":1'): (BadResponse, "the response is not JSON-RPC"),
    http(b"x", b"Content-Encoding: br\r\n"): (BadResponse, "unknown Content-Encoding: br"),
    http(b"x", b"Content-Encoding: gzip\r\n"): (BadResponse, "the response is damaged: it is not gzip"),
    http(gzip.compress(b" " * 2000, mtime=0), b"Content-Encoding: gzip\r\n"): (
        BadResponse,
        "more than 1000 bytes after unpacking",
    ),
    http(b" " * 1001): (BadResponse, "more than 1000 bytes; raise max_response"),
    b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70000: (BadResponse, "its head has more than 65536 bytes"),
    b"+OK POP3\r\n": (BadResponse, "it does not respond in HTTP: +OK POP3; is the port right?"),
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort": (ConnectionLost, "after 43 bytes of the response"),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nsh": (ConnectionLost, "of the response"),
    b"": (ConnectionLost, "it closed the connection without a response; the call may have run"),
}


@both
@pytest.mark.parametrize(("data", "expected"), BAD.items(), ids=str)
def test_a_response_that_is_none(ask: Ask, data: bytes, expected: tuple[type[Exception], str]) -> None:
    with lying([data, end]) as liar:
        (error,) = ask(liar.url, lambda c: c.add(1), max_response=1000)
    assert (type(error), error.url) == (expected[0], liar.url)
    assert liar.url in str(error)
    assert expected[1] in str(error)
    assert liar.accepted == 1  # it may have run, and is not tried again


@both
def test_a_fault_counts_whatever_the_status_is(ask: Ask) -> None:
    fault = b'{"jsonrpc":"2.0","error":{"code":-32601,"message":"No such method"},"id":null}'
    with lying([http(fault, status=b"404 Not Found")]) as liar:
        (absent,) = ask(liar.url, lambda c: c.add(1))
    assert (type(absent), absent.message, absent.data) == (MethodNotFound, "No such method", {})


@both
def test_a_connection_that_the_server_has_closed_is_no_attempt(ask: Ask) -> None:
    closed = threading.Event()

    def close(connection: socket.socket) -> None:
        end(connection)
        closed.set()

    def wait_and_call(client: Any) -> Any:
        closed.wait(10)
        return client.add(1)

    answers = [http(result(b"1")), http(result(b"2", 2))]
    with lying([answers[0], close], [answers[1]]) as liar:
        assert ask(liar.url, lambda c: c.add(1), wait_and_call, retries=0) == [1, 2]


@both
def test_a_connection_on_which_a_request_was_refused_is_not_used_again(ask: Ask) -> None:
    with lying([http(b"", status=b"404 Not Found"), http(result(b"9", 2))], [http(result(b"2", 2))]) as liar:
        _, second = ask(liar.url, lambda c: c.add(1), lambda c: c.add(1))
    assert second == 2


def rest(client: Any) -> Any:
    """Let a loop, or a socket, see what comes."""
    return asyncio.sleep(0.1) if isinstance(client, AsyncClient) else time.sleep(0.1)


@both
def test_a_connection_on_which_something_came_later_is_not_used_again(ask: Ask) -> None:
    def add_bytes(connection: socket.socket) -> None:
        time.sleep(0.02)
        connection.sendall(b"HTTP/1.1 200")

    with lying([http(result(b"1")), add_bytes, http(result(b"9", 2))], [http(result(b"2", 2))]) as liar:
        assert ask(liar.url, lambda c: c.add(1), rest, lambda c: c.add(1)) == [1, None, 2]


def test_a_connection_on_which_a_request_is_still_being_sent_is_not_used_again() -> None:
    def answer_early(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(http(result(b"1")))
        time.sleep(0.3)
        connection.sendall(http(result(b"9", 2)))

    with lying([answer_early], [http(result(b"2", 2))]) as liar:
        assert looping(liar.url, lambda c: c.add("x" * 8_000_000), lambda c: c.add(1)) == [1, 2]


@both
@pytest.mark.parametrize("behind", [b"{", result(b"8")])
def test_plain_tcp_with_more_than_a_response_is_not_used_again(ask: Ask, behind: bytes) -> None:
    with lying([result(b"1") + b"\n" + behind + b"\n", result(b"9", 2) + b"\n"], [result(b"2", 2) + b"\n"]) as liar:
        url = f"tcp://127.0.0.1:{liar.port}"
        assert ask(url, lambda c: c.add(1), lambda c: c.add(1)) == [1, 2]


@both
def test_an_old_connection_is_not_used_again(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "_KEPT", 0.0)
    with lying([http(result(b"1")), http(result(b"9", 2))], [http(result(b"2", 2))]) as liar:
        assert ask(liar.url, lambda c: c.add(1), lambda c: c.add(1)) == [1, 2]


def test_what_a_reset_connection_has_not_taken_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking_sockets._Socket, "is_clean", lambda _: True)  # as if it had just been reset
    gone = threading.Event()

    def reset_now(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
        gone.set()

    with lying([http(result(b"1")), reset_now], [http(result(b"2", 2))]) as liar, Client(liar.url) as client:
        assert client.add(1) == 1
        gone.wait(10)
        assert client.add(1) == 2


@both
def test_errors_can_be_pickled(ask: Ask) -> None:
    with lying([http(b"busy", b"Retry-After: 7\r\n", b"503 Unavailable")]) as liar:
        (error,) = ask(liar.url, lambda c: c.add(1))
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - of this test
    assert (type(again), str(again), again.__dict__) == (StatusError, str(error), error.__dict__)
    assert (again.status, again.retry_after, again.sent) == (503, 7, "yes")


@both
def test_a_connection_with_bytes_that_nobody_has_asked_for_is_not_used_again(ask: Ask) -> None:
    with lying([http(result(b"1")) + b"HTTP/1.1 200"], [http(result(b"2", 2))]) as liar:
        assert ask(liar.url, lambda c: c.add(1), lambda c: c.add(1), retries=0) == [1, 2]


@both
@pytest.mark.parametrize("way", [[b"", end], [reset]], ids=["closed", "reset"])
def test_what_may_have_run_is_tried_again_only_where_it_may(ask: Ask, way: list[Any]) -> None:
    with lying(way, [http(result(b"1"))]) as liar:
        assert ask(liar.url, lambda c: c.using(idempotent=True).add(1)) == [1]
        assert liar.accepted == 2
    with lying(way, way, way) as liar:
        (error,) = ask(liar.url, lambda c: c.add(1), idempotent=True)
        assert (type(error), error.sent, liar.accepted) == (ConnectionLost, "maybe", 3)
    with lying(way) as liar:
        (error,) = ask(liar.url, lambda c: c.add(1))
        assert (type(error), error.sent, liar.accepted) == (ConnectionLost, "maybe", 1)


@both
def test_what_was_certainly_not_sent_is_tried_again(ask: Ask) -> None:
    with socket.socket() as later:
        later.bind(("127.0.0.1", 0))
        port = later.getsockname()[1]

        def answer() -> None:
            time.sleep(0.2)
            later.listen()
            connection, _ = later.accept()
            with connection:
                read_request(connection)
                connection.sendall(http(result(b"1")))

        thread = threading.Thread(target=answer)
        thread.start()
        assert ask(f"http://127.0.0.1:{port}/", lambda c: c.add(1), retries=8) == [1]
        thread.join(10)


@both
def test_nobody_is_there(ask: Ask) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        (error,) = ask(url, lambda c: c.add(1), retries=1)
    assert (type(error), error.sent, error.remedy) == (Unreachable, "no", "is the server started, and the port right?")
    assert str(error) == f"no response from {url}: connection refused; {error.remedy}"


@both
def test_a_name_that_does_not_resolve(ask: Ask) -> None:
    (error,) = ask("http://name.invalid/", lambda c: c.add(1), retries=0)
    assert (type(error), error.sent, error.remedy) == (Unreachable, "no", "is the name of the host right?")


@both
def test_a_server_that_never_responds(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        (error,) = ask(url, lambda c: c.add(1), timeout=0.1, idempotent=True)
    assert (type(error), error.sent, str(error)) == (CallTimeout, "maybe", f"no response from {url}: timed out")
    assert isinstance(error, TimeoutError)


@both
@pytest.mark.parametrize("status", [b"429 Too Many", b"502 Bad Gateway", b"503 Unavailable", b"504 Timeout"])
def test_a_status_that_passes_is_waited_for(ask: Ask, status: bytes) -> None:
    busy = http(b"busy", b"Retry-After: 0\r\n", status)
    with lying([busy], [http(result(b"1"))]) as liar:
        assert ask(liar.url, lambda c: c.add(1), idempotent=True) == [1]
    with lying([busy]) as liar:
        (error,) = ask(liar.url, lambda c: c.add(1))
    assert (type(error), error.retry_after) == (StatusError, 0)
    assert error.sent == ("maybe" if status[:3] in (b"502", b"504") else "yes")


@both
def test_a_fault_that_does_not_pass_is_not_waited_for(ask: Ask) -> None:
    absent = BUSY.replace(b"-32003", b"-32601").replace(b"Overloaded", b"Method not found")
    with lying([http(absent), http(result(b"1"))]) as liar:
        (error,) = ask(liar.url, lambda c: c.add(1), idempotent=True)
    assert type(error) is MethodNotFound


@both
def test_a_status_that_does_not_pass_is_not_waited_for(ask: Ask) -> None:
    with lying([http(b"", status=b"500 Oh no")], [http(result(b"1"))]) as liar:
        (error,) = ask(liar.url, lambda c: c.add(1), idempotent=True)
    assert (type(error), error.status) == (StatusError, 500)


@both
def test_a_connection_is_not_waited_for_as_long_as_a_call(ask: Ask) -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}/"
        (error,) = ask(url, lambda c: c.add(1), connect_timeout=0.1, timeout=1000, retries=0)
    assert (type(error), error.sent) == (Unreachable, "no")
    assert str(error).endswith("timed out; is the address right, and does a firewall drop packets?")


@both
def test_a_fault_that_passes_is_waited_for_and_no_other(ask: Ask) -> None:
    own = BUSY.replace(b"Overloaded", b"Transaction rejected")
    with lying([http(BUSY), http(result(b"1"))]) as liar:
        assert ask(liar.url, lambda c: c.add(1), idempotent=True) == [1]
    with lying([http(BUSY)]) as liar:
        (busy,) = ask(liar.url, lambda c: c.add(1))
    with lying([http(own)]) as liar:
        (other,) = ask(liar.url, lambda c: c.add(1), idempotent=True)
    assert (type(busy), busy.retry_after) == (Overloaded, 0)
    assert not isinstance(other, Overloaded)
    assert (other.code, other.message) == (-32003, "Transaction rejected")


@both
def test_there_is_no_further_attempt_behind_the_deadline(ask: Ask) -> None:
    with lying([http(b"busy", b"Retry-After: 30\r\n", b"503 Unavailable")]) as liar:
        (error,) = ask(liar.url, lambda c: c.add(1), idempotent=True, timeout=5)
    assert (type(error), error.retry_after) == (StatusError, 30)


def test_a_refusal_is_read_though_the_request_is_not() -> None:
    def refuse(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(http(b"no more", b"Connection: close\r\n", b"413 Too Large"))
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.1)

    with lying([refuse]) as liar:
        (error,) = blocking(liar.url, lambda c: c.add("x" * 8_000_000))
    assert (type(error), error.status) == (StatusError, 413)


@both
def test_https_where_http_is_spoken(ask: Ask) -> None:
    with lying([lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")]) as liar:
        (error,) = ask(liar.url.replace("http:", "https:"), lambda c: c.add(1))
    assert (type(error), error.sent) == (TLSError, "no")
    assert str(error).endswith("does the server use http, without s?")


def batch_of(count: int) -> Any:
    def send(client: Any) -> Any:
        batch = client.batch()
        for number in range(count):
            batch.add(number)
        return batch.send()

    return send


@both
def test_a_batch_is_read_by_its_ids(ask: Ask) -> None:
    body = b"[%b,%b,%b]" % (result(b'"c"', 3), result(b'"a"', 1), result(b'"x"', 9))
    with lying([http(body)]) as liar:
        (outcomes,) = ask(liar.url, batch_of(3))
    assert [outcome.value for outcome in outcomes] == ["a", None, "c"]
    assert type(outcomes[1].error) is BadResponse
    assert "has none to this call" in str(outcomes[1].error)


WHOLE_BATCHES: dict[bytes, tuple[type[Exception], str]] = {
    http(BUSY): (Overloaded, "Overloaded"),
    http(b"[]"): (BadResponse, "the response is not JSON-RPC"),
    http(result(b"1")): (BadResponse, "a batch is answered by an array"),
    http(b'{"jsonrpc":"2.0","method":"m"}'): (BadResponse, "it is a request"),
    http(HTML): (BadResponse, "is the path right?"),
    http(b"[]", status=b"500 Oh no"): (StatusError, "500 Oh no"),
    http(b"[%b]" % result(b"1"), status=b"500 Oh no"): (StatusError, "500 Oh no"),
}


@both
@pytest.mark.parametrize(("data", "expected"), WHOLE_BATCHES.items(), ids=str)
def test_a_batch_without_outcomes(ask: Ask, data: bytes, expected: tuple[type[Exception], str]) -> None:
    with lying([data]) as liar:
        (error,) = ask(liar.url, batch_of(2))
    assert type(error) is expected[0]
    assert expected[1] in str(error)


@both
def test_a_multicall_with_slots_that_are_none(ask: Ask) -> None:
    slots = b"<array><data><value><array><data><value>a</value></data></array></value><value>b</value></data></array>"
    with lying([http(VALUE.replace(b"<int>1</int>", slots)), http(VALUE)]) as liar:
        outcomes, error = ask(liar.url, batch_of(3), batch_of(1), protocol="xmlrpc")
    assert outcomes[0].result() == "a"
    assert "is an array of one value, or a fault" in str(outcomes[1].error)
    assert "has none to this call" in str(outcomes[2].error)
    assert "the result of system.multicall is an array" in str(error)


@both
@pytest.mark.parametrize(
    "answer", [http(b""), http(b"", status=b"204 No Content"), http(b"accepted", status=b"202 OK")]
)
def test_a_notification_is_taken_with_any_status_of_success(ask: Ask, answer: bytes) -> None:
    with lying([answer]) as liar:
        assert ask(liar.url, lambda c: c.notify("note", 1)) == [None]
    assert b'"id"' not in liar.requests[0]


@both
def test_a_notification_that_is_refused(ask: Ask) -> None:
    with lying([http(BUSY, status=b"503 Busy")], [http(b"no", status=b"404 Not Found")]) as liar:
        busy, absent = ask(liar.url, lambda c: c.notify("note", 1), lambda c: c.notify("note", 1))
    assert (type(busy), type(absent)) == (Overloaded, StatusError)


def line(connection: socket.socket) -> None:
    """Read a line, and say more than a response."""
    read_request(connection)
    connection.sendall(b'{"jsonrpc":"2.0","method":"news"}\n' + result(b"1") + b"\n")


BAD_LINES: dict[bytes, tuple[type[Exception], str]] = {
    b"hello\n": (BadResponse, "the response is not framed as configured: hello"),
    result(b"1", 2): (BadResponse, "responds to another call than this one"),
    b"": (ConnectionLost, "it closed the connection without a response"),
    b'{"jsonrpc":"2.0","result":': (BadResponse, "the response is not JSON-RPC"),
    b'"' + b"x" * 1100: (BadResponse, "more than 1000 bytes; raise max_response"),
    b'{"jsonrpc":"2.0","error":{"code":5,"message":"no"},"id":null}': (Fault, "no"),
}


@both
def test_plain_tcp_passes_over_calls_of_the_server(ask: Ask) -> None:
    with lying([line, result(b"2", 2) + b"\n"]) as liar:
        url = f"tcp://127.0.0.1:{liar.port}"
        assert ask(url, lambda c: c.add(1), lambda c: c.add(1), retries=0) == [1, 2]


@both
@pytest.mark.parametrize(("data", "expected"), BAD_LINES.items(), ids=str)
def test_plain_tcp_that_lies(ask: Ask, data: bytes, expected: tuple[type[Exception], str]) -> None:
    with lying([data, end]) as liar:
        (error,) = ask(f"tcp://127.0.0.1:{liar.port}", lambda c: c.add(1), max_response=1000)
    assert isinstance(error, expected[0])
    assert expected[1] in str(error)


@both
def test_a_last_response_may_lack_its_newline(ask: Ask) -> None:
    with lying([result(b"7"), end]) as liar:
        url = f"tcp://127.0.0.1:{liar.port}"
        assert ask(url, lambda c: c.add(1), framing="newline") == [7]


def test_a_forked_process_makes_connections_of_its_own() -> None:
    with (
        lying([http(result(b"1")), http(result(b"2", 2))], [http(result(b"3", 2))]) as liar,
        Client(liar.url) as client,
    ):
        assert client.add(1) == 1
        child = os.fork()
        if child == 0:
            os._exit(client.add(1))
        assert client.add(1) == 2
        client.close()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
