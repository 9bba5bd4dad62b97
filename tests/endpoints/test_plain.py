"""The plain way and the full way: whatever is sent, both give the same bytes, and report the same.

Two gateways of the same configuration get the same requests in the same order. One always takes the full way, the other
the plain way where it can. Only dates, error ids, the seconds until a refused caller may come again, and the part of
request ids that is of a process differ. Heads are kept as a host keeps them: equal but for what varies.
"""

import asyncio
import json
import os
import random
import re
import signal
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from tornado.httputil import HTTPHeaders

from gateway import Context, Fault, InvalidParams, Registry, app, current_context
from gateway.codecs.jsonrpc import JSONRPC
from gateway.codecs.xmlrpc import XMLRPC
from gateway.config import load
from gateway.core.access import make_key
from gateway.endpoints.observers import Observers
from gateway.model.calls import CURRENT, CallRecord
from gateway.model.http import HTTPRequest, HTTPResponse, Plain
from gateway.wire.http_responses import response_head
from tests import corpus_methods
from tests.cli.running import serving
from tests.conftest import Logged
from tests.raw_http import Wire, request
from tests.serving import children, eventually
from tests.test_corpus import CASES, body_of, named

pytestmark = [pytest.mark.unmeasured, pytest.mark.slow]

KEY, STORED = make_key()
registry = Registry()
registry.mount(corpus_methods.registry)
RAISED: dict[str, BaseException] = {
    "fault": Fault(77, "a fault", {"its": "data"}),
    "odd": Fault("odd", data={1, object()}),
    "exit": SystemExit(1),
}


class Point(Struct):
    x: int
    y: float = 0.5


@registry.register(run="inline")
def move(point: Point, by: int = 1) -> Point:
    return Point(point.x + by, point.y)


@registry.register(run="inline", aliases=("admin.other",))
def told(context: Context) -> list[Any]:
    seconds = round(context.deadline - context.arrival, 3)
    names = sorted(map(str.lower, context.headers))
    told = {name: context.headers[name.upper()] for name in names}
    own = [context.protocol, context.method, context.client, context.key, context.caller.is_proxied]
    return [told, len(context.headers), own, seconds, context.connection is not None, context is current_context()]


@registry.register(run="inline", name="admin.stop")
def stop() -> str:
    return "stopped"


@registry.register(run="inline", protocols="jsonrpc")
def only_json(*, name: str) -> str:
    return name


@registry.register(run="inline")
def many(size: int) -> Any:
    return ["x" * 10] * size


@registry.register(run="inline")
def raise_it(kind: str) -> None:
    raise RAISED[kind]


@registry.register(run="inline", timeout=5)
def rest(*rest: int, **others: str) -> Any:
    return [list(rest), others]


released = threading.Event()
cancelled: list[str] = []


def _raising(kind: type[BaseException]) -> dict[str, Any]:
    def in_thread() -> None:
        raise kind

    async def at_once() -> None:
        raise kind

    async def in_a_while() -> None:
        await asyncio.sleep(0.001)
        raise kind

    return {"thread": in_thread, "at_once": at_once, "in_a_while": in_a_while}


KINDS = [SystemExit, KeyError, GeneratorExit, StopIteration, asyncio.CancelledError, Exception, LookupError]
for _kind in KINDS:
    for _way, _function in _raising(_kind).items():
        registry.register(_function, name=f"raise.{_way}.{_kind.__name__}")


@registry.register
async def wait(seconds: float, context: Context) -> list[Any]:
    async with asyncio.timeout(30):  # which needs a task from the beginning
        await asyncio.sleep(seconds)
    task = asyncio.current_task()
    return [context is current_context(), context.method, task is not None and task.cancelling()]


@registry.register
def here(context: Context) -> list[Any]:
    return [context is current_context(), context.method, threading.current_thread() is threading.main_thread()]


@registry.register(timeout=0.05)
async def hang() -> None:
    try:
        await asyncio.sleep(30)
    except asyncio.CancelledError:
        cancelled.append("hang")
        raise


@registry.register(timeout=0.05)
def block() -> None:
    released.wait(30)


@registry.register(timeout=0.05)
async def end_late() -> str:
    time.sleep(0.1)  # noqa: ASYNC251 - so that its time is over when the loop looks again
    for _ in range(3):
        await asyncio.sleep(0)
    return "late"


@registry.register(timeout=20)
async def forever() -> None:
    try:
        await asyncio.sleep(30)
    finally:
        cancelled.append("forever")


@registry.register(timeout=20, concurrency=1)
def hold() -> str:
    released.wait(30)
    return "held"


LENGTHY = ("hang", "block", "end_late", "forever", "hold", "wait", "slow")
METHODS = [
    *(name for name in registry if name not in LENGTHY),
    "nothing",
    "system.listMethods",
    "system.multicall",
    "rpc.discover",
    "größe",
]
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "rules": {"access.rules": [{"methods": ["admin.*"], "keys": ["ours"]}], "access.keys": {"ours": STORED}}
    | {"access.anonymous": True},
    "keys": {"access.keys": {"ours": STORED}, "access.anonymous": False},
    "rates": {
        "limits.client_rate": 0.00015,
        "limits.client_burst": 20,
        "limits.key_rate": 0.00015,
        "limits.key_burst": 5,
        "access.keys": {"ours": STORED},
        "access.anonymous": True,
        "access.trusted_proxies": ["127.0.0.2"],
    },
    "proxies": {"access.trusted_proxies": ["127.0.0.2"], "access.allow": ["127.0.0.0/24"]},
    "pages": {"access.origins": ["http://a.example"], "access.hosts": ["localhost"], "limits.compress_above": 100},
    "tight": {"limits.max_depth": 4, "limits.max_reply": 1024, "limits.max_batch": 2, "limits.compress_above": 0},
    "codecs": {"jsonrpc.int64": "text", "xmlrpc.none": "fault", "xmlrpc.i8": False, "server.paths": ["/other", "/api"]},
}


class Sent(Struct, frozen=True):
    """A request, without what its body says of it."""

    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    peer: str = "127.0.0.1"
    target: str = "/api"
    verb: str = "POST"
    request_id: str | None = None
    wish: str | None = None
    trace: str | None = None

    def head(self) -> HTTPRequest:
        headers = HTTPHeaders({"Host": "localhost", "Content-Length": str(len(self.body))})
        for name, value in self.headers:
            headers.add(name, value)
        if self.request_id is not None:
            headers["X-Request-ID"] = self.request_id
        if self.wish is not None:
            headers["X-Request-Timeout"] = self.wish
        if self.trace is not None:
            headers["traceparent"] = self.trace
        return HTTPRequest(method=self.verb, target=self.target, headers=headers, peer=self.peer, connection=self)


class Observed(Struct):
    """What the observers of a gateway are told."""

    calls: list[CallRecord] = []
    refusals: list[Any] = []
    traffic: list[tuple[str, int, int]] = []

    def size(self) -> int:
        return len(self.calls) + len(self.refusals) + len(self.traffic)

    def take(self) -> list[Any]:
        """Take what was told, without times, and without the part of ids that is of a process."""
        calls = [msgspec.structs.replace(call, seconds=0, request_id=_known(call.request_id)) for call in self.calls]
        refusals = [msgspec.structs.replace(one, request_id=_known(one.request_id)) for one in self.refusals]
        said = [*calls, *refusals, *self.traffic]
        self.calls.clear()
        self.refusals.clear()
        self.traffic.clear()
        return said


class Gateway:
    """A gateway without sockets, and the heads that are kept for it."""

    def __init__(self, chosen: Mapping[str, Any], served: Registry = registry) -> None:
        written = {name: value if type(value) is str else json.dumps(value) for name, value in chosen.items()}
        options = [f"{name}={value}" for name, value in written.items()]
        self.gateway = app.build(load(None, {}, ["server.bind=127.0.0.1:0", "limits.timeout=30", *options]), served)
        self.told = Observed()
        self.gateway.rpc.observers = Observers(
            (self.told.calls.extend,), (self.told.refusals.append,), (lambda *row: self.told.traffic.append(row),)
        )
        self.kept: dict[Any, Plain | None] = {}
        self.plain = 0

    async def full(self, sent: Sent) -> bytes:
        admitted = self.gateway.rpc.admit(sent.head())
        response = admitted if isinstance(admitted, HTTPResponse) else await admitted.answer(sent.body)
        return response_head(response) + response.body

    async def short(self, sent: Sent) -> bytes:
        key = sent.headers, sent.peer, sent.target, sent.verb
        if key not in self.kept:
            self.kept[key] = self.gateway.know(sent.head())
        plain = self.kept[key]
        responded: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        before = self.told.size()
        answered = None
        if plain is not None:
            answered = plain.answer(sent.body, sent.request_id, sent.wish, sent, responded.set_result, sent.trace)
        assert CURRENT.get(None) is None
        if answered is None:
            assert self.told.size() == before
            return await self.full(sent)
        self.plain += 1
        if isinstance(answered, bytes):
            return answered
        try:
            return await responded
        except asyncio.CancelledError:
            answered.cancel()
            raise


class Pair:
    """Two gateways, one for each way."""

    def __init__(self, chosen: Mapping[str, Any]) -> None:
        self.left, self.right = Gateway(chosen), Gateway(chosen)
        self.runner = asyncio.Runner()

    def compare(self, requests: Iterable[Sent]) -> None:
        self.runner.run(self._compare(requests))

    async def _compare(self, requests: Iterable[Sent]) -> None:
        for sent in requests:
            one, other = masked(await self.left.full(sent)), masked(await self.right.short(sent))
            assert one == other, sent
            for _ in range(3):
                await asyncio.sleep(0)
            assert self.left.told.take() == self.right.told.take(), sent


def _known(request_id: str) -> str:
    return re.sub(r"^[0-9a-f]{6}-", "-", request_id)


def masked(response: bytes) -> bytes:
    """Put constants in the place of what may differ."""
    head, _, body = response.partition(b"\r\n\r\n")
    assert b"Content-Length: %d\r\n" % len(body) in head
    if b"Content-Encoding: " in head:
        body = zlib.decompressobj(47).decompress(body)
        head = re.sub(rb"Content-Length: \d+", b"", head)
    head = re.sub(rb"Date: [^\r]*", b"Date", head)
    head = re.sub(rb"X-Request-ID: [0-9a-f]{6}-", b"X-Request-ID: -", head)
    head = re.sub(rb"Retry-After: \d+", b"Retry-After", head)
    body = re.sub(rb"error_id\W{1,3}[0-9a-f]{12}", b"error_id", body)
    return head + b"\r\n\r\n" + re.sub(rb"retry_after\W{1,3}\d+", b"retry_after", body)


@pytest.fixture(scope="module")
def pairs() -> Iterator[dict[str, Pair]]:
    made = {name: Pair(chosen) for name, chosen in SETTINGS.items()}
    yield made
    for pair in made.values():
        pair.runner.close()


@pytest.fixture(autouse=True)
def crashes_are_expected(logged: Logged) -> Iterator[None]:
    yield
    logged.take("gateway.errors")


XML, JSON = ("Content-Type", "text/xml"), ("Content-Type", "application/json")
HEADS: list[tuple[tuple[str, str], ...]] = [
    (("Accept-Encoding", "gzip"),),
    (("Accept-Encoding", "br, deflate;q=0.5"),),
    (("Accept-Encoding", "gzip;q=0"),),
    (("Origin", "http://a.example"),),
    (("Origin", "http://b.example"),),
    (("Authorization", f"Bearer {KEY}"),),
    (("Authorization", "Bearer nonsense"),),
    (("X-Forwarded-For", "127.0.0.3"),),
    (("X-Forwarded-For", "10.0.0.1, 127.0.0.2"),),
    (("X-Forwarded-For", "nobody"),),
    (("Host", "b.example"),),
    (("Content-Encoding", "identity"),),
    (("Content-Encoding", "gzip"),),
    (("Content-Encoding", "br"),),
    (("traceparent", "00-1-2-3"), ("User-Agent", "a"), ("Cookie", "b")),
]
OWN = (("Authorization", f"Bearer {KEY}"),)
PEERS = [f"127.0.0.{number}" for number in range(1, 9)]
TYPES = ["text/xml", "application/xml; charset=latin-1", "text/xml; charset=utf-8", "application/json"]
TYPES += ["application/json; charset=utf-16", "application/json-rpc; charset=utf-8", "text/html", ""]


@pytest.mark.parametrize("chosen", ["default", "tight", "codecs"])
def test_the_corpus(chosen: str, pairs: dict[str, Pair]) -> None:
    requests = [
        Sent(body_of(case), tuple(map(tuple, case["request"]["headers"])), verb=case["request"]["method"])
        for case in CASES
        if "raw_b64" not in case and b"slow" not in body_of(case)
    ]
    assert len(requests) > 300
    before = pairs[chosen].right.plain
    pairs[chosen].compare(requests)
    assert pairs[chosen].right.plain - before > 50


@pytest.mark.parametrize("seed", range(10))
def test_mutated_documents(seed: int, pairs: dict[str, Pair]) -> None:
    chance = random.Random(seed)
    documents = [(body_of(case), case) for case in CASES if "raw_b64" not in case]
    documents = [(body, case) for body, case in documents if len(body) < 2000 and "slow" not in named(case)]
    requests = []
    for _ in range(150):
        body, case = chance.choice(documents)
        if b"slow" not in body:
            kind = tuple(map(tuple, case["request"]["headers"]))
            requests.append(Sent(mutated(body, chance, documents[chance.randrange(len(documents))][0]), kind))
    pairs[chance.choice(["default", "tight", "codecs"])].compare(requests)


def mutated(body: bytes, chance: random.Random, other: bytes) -> bytes:
    for _ in range(chance.randrange(3)):
        at, end = sorted(chance.randrange(len(body) + 1) for _ in range(2))
        end = min(end, at + chance.randrange(12))
        begin = chance.randrange(len(other) + 1)
        pieces = [b"", body[at:end] * 2, other[begin : begin + 10], bytes([chance.randrange(256)])]
        body = body[:at] + chance.choice([*pieces, b" ", b"\x0b", b"&lt;"]) + body[end:]
    return body


scalars = st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars | st.binary(max_size=4) | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
FITTING: list[Any] = [[], [1, 2], [{"x": 1}], [{"x": 2, "y": 1.5}, 3], {"name": "n"}, {"a": 1, "b": 2}, [3], [200]]
FITTING += [[text] for text in [*RAISED, *corpus_methods.MADE, "app"]]
XMLRPC_WRITER, JSONRPC_WRITER = XMLRPC(max_depth=60, max_batch=9), JSONRPC(max_depth=60, max_batch=9)


@st.composite
def calls(draw: Any) -> tuple[bytes, str]:
    """Write a call, and tell its media type."""
    name, params = draw(st.sampled_from(METHODS)), draw(st.lists(values, max_size=3) | st.sampled_from(FITTING))
    if draw(st.booleans()):
        with suppress(InvalidParams):
            return XMLRPC_WRITER.encode_call(name, params), XML[1]
    with suppress(InvalidParams):
        return JSONRPC_WRITER.encode_call(name, params, draw(st.none() | st.integers() | st.text(max_size=5))), JSON[1]
    return repr(params).encode("utf-8", "replace"), JSON[1]  # what cannot be written


@st.composite
def requests(draw: Any, usual: tuple[tuple[str, str], ...]) -> Sent:
    body, kind = draw(calls())
    kind = draw(st.sampled_from([kind] * 6 + TYPES))
    extra = [pair for head in draw(st.lists(st.sampled_from(HEADS) | st.just(OWN), max_size=2)) for pair in head]
    extra += usual if "Authorization" not in dict(extra) else ()
    return Sent(
        body,
        (*((("Content-Type", kind),) if kind else ()), *extra),
        peer=draw(st.sampled_from([*PEERS, "127.0.0.2", "127.0.0.2", "10.0.0.1", "::1", "fe80::1%eth0"])),
        target=draw(st.sampled_from(["/api"] * 8 + ["/api?x=1", "/", "/RPC2", "/other", "/healthz"])),
        verb=draw(st.sampled_from(["POST"] * 12 + ["GET", "OPTIONS", "PUT"])),
        request_id=draw(st.sampled_from([None, None, "id-1", "other:id.2", "not an id", "x" * 65, ""])),
        wish=draw(st.sampled_from([None] * 4 + ["5", "20.5", "0", "-1", "1e3", "0.000001", "9999999"])),
        trace=draw(st.sampled_from([None, None, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x"])),
    )


@pytest.mark.parametrize("chosen", SETTINGS)
def test_random_calls(chosen: str, pairs: dict[str, Pair]) -> None:
    usual = OWN if chosen == "keys" else ()

    @settings(
        max_examples=1000 if "FUZZ" in os.environ else 40,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(requests(usual), min_size=1, max_size=4), st.booleans())
    def run(sent: list[Sent], closing: bool) -> None:
        pair = pairs[chosen]
        pair.left.gateway.rpc.closing = pair.right.gateway.rpc.closing = closing
        pair.compare(sent)

    before = pairs[chosen].right.plain
    run()
    assert pairs[chosen].right.plain - before > 5


def xml(name: str, *params: Any) -> bytes:
    return XMLRPC_WRITER.encode_call(name, list(params))


def test_what_varies_between_equal_heads_is_that_of_each_request(pairs: dict[str, Pair]) -> None:
    pair = pairs["default"]
    before = pair.right.plain
    varying = [
        ("one", "2", "00-1"),
        ("", None, None),
        (None, None, "00-2"),
        ("one", None, None),
        (None, "2", "00-2"),
        ("two", "3.5", "00-2"),
        ("two", "3.5", None),
        (None, None, None),
    ]
    pair.compare(
        Sent(body, (XML,), request_id=request_id, wish=wish, trace=trace)
        for request_id, wish, trace in varying
        for body in (xml("told"), xml("told") + b" \n")
    )
    assert pair.right.plain - before == 2 * len(varying)


def test_a_rate_holds_for_both_ways_together() -> None:
    """A judgement that was made before the bucket was emptied does not let anybody in, and no call is charged twice."""

    async def run(gateway: Gateway) -> list[int]:
        sent = Sent(xml("rest"), (XML,))
        ways = [gateway.short, gateway.full, gateway.short, gateway.short, gateway.full, gateway.short, gateway.full]
        return [int((await way(sent)).split(b" ")[1]) for way in ways]

    gateway = Gateway({"limits.client_rate": 0.00015, "limits.client_burst": 4})
    assert asyncio.run(run(gateway)) == [200, 200, 200, 200, 429, 429, 429]
    assert gateway.plain == 3


def test_what_is_not_plain_is_charged_once_and_what_is_refused_not_at_all() -> None:
    async def run(gateway: Gateway) -> None:
        for body in (xml("nothing"), b"<nonsense>", xml("admin.stop"), xml("rest")):
            await gateway.short(Sent(body, (XML,)))

    chosen: dict[str, Any] = {"limits.client_rate": 0.00015, "limits.client_burst": 4}
    chosen |= {"access.rules": [{"methods": ["admin.*"], "networks": ["10.0.0.1"]}]}
    gateway = Gateway(chosen)
    asyncio.run(run(gateway))
    assert [call.outcome for call in gateway.told.calls] == [-32601, -32600, -32005, None]
    assert gateway.plain == 1


def test_a_method_that_is_replaced_is_judged_again() -> None:
    """An upstream may be asked again, and other methods take the places of those that it had."""
    gateway = Gateway({"access.rules": [{"methods": ["stop"], "networks": ["10.0.0.1"]}]})

    async def run(name: str) -> bytes:
        return await gateway.short(Sent(xml(name), (XML,)))

    other = Registry()
    other.register(lambda: "other", name="rest", run="inline")
    assert b"other" not in asyncio.run(run("rest"))
    gateway.gateway.registry.replace(next(found for _, found in other.methods()))
    assert b"other" in asyncio.run(run("rest"))
    assert gateway.plain == 2


def test_large_bodies_take_the_full_way(pairs: dict[str, Pair]) -> None:
    pair = pairs["default"]
    before = pair.right.plain
    pair.compare([Sent(xml("echo", "x" * 2**16), (XML,)), Sent(xml("echo", "x" * 2**15), (XML,))])
    assert pair.right.plain - before == 1


def test_no_head_keeps_its_connection_alive() -> None:
    import weakref

    class Client:
        pass

    client = Client()
    gone = weakref.ref(client)
    gateway = Gateway({})
    head = msgspec.structs.replace(Sent(b"", (XML,)).head(), connection=client)
    kept = gateway.gateway.know(head)
    del head, client
    assert kept is not None
    assert gone() is None


def test_what_users_put_around_calls_holds_on_both_ways(logged: Logged) -> None:
    """Middleware may wait, so its methods take the full way; handlers of exceptions and the state do not."""
    served, seen = Registry(), list[str]()

    @served.exception_handler(ZeroDivisionError)
    def explain(error: Exception, context: Context) -> Fault:
        return Fault(5, f"divided by zero: {error}")

    @served.register(run="inline")
    def divide(a: int, b: int) -> float:
        return a / b

    async def noting(call: Any, context: Context, handler: Any) -> Any:
        seen.append(call.method)
        return await handler(call, context)

    async def run(gateway: Gateway) -> list[bytes]:
        sent = [Sent(xml("divide", 1, 0), (XML,)), Sent(xml("divide", 1, 2), (XML,))]
        return [masked(await gateway.short(each)) for each in sent]

    gateway = Gateway({}, served)
    fault, value = asyncio.run(run(gateway))
    assert b"divided by zero" in fault
    assert b"0.5" in value
    assert gateway.plain == 2
    served.middleware(noting)
    gateway = Gateway({}, served)
    assert asyncio.run(run(gateway)) == [fault, value]
    assert (seen, gateway.plain) == (["divide"] * 2, 0)


def test_no_head_is_kept_where_a_function_of_the_users_decides_who_calls() -> None:
    served, asked = Registry(), list[str]()
    served.mount(registry)

    @served.authenticate
    def who(head: HTTPRequest, caller: Any) -> Any:
        asked.append(head.target)
        return caller

    gateway = Gateway({}, served)
    assert gateway.gateway.know(Sent(xml("rest"), (XML,)).head()) is None
    assert not asked


ALL_WAYS = [f"raise.{way}.{kind.__name__}" for kind in KINDS for way in ("thread", "at_once", "in_a_while")]


@pytest.mark.parametrize("name", [*ALL_WAYS, "wait", "here", "add", "end_late"])
def test_methods_that_may_wait(name: str, pairs: dict[str, Pair]) -> None:
    pair = pairs["default"]
    before = pair.right.plain
    fitting = {"wait": [0.001], "here": [], "end_late": []}.get(name, [])
    pair.compare([Sent(xml(name, *fitting), (XML,)), Sent(xml(name, 1, "2"), (XML,))])
    assert pair.right.plain - before == 2


def test_a_task_is_there_from_the_beginning_and_the_end_may_come_a_few_turns_late() -> None:
    async def run(name: str, *params: Any) -> bytes:
        return await Gateway({}).short(Sent(JSONRPC_WRITER.encode_call(name, list(params), 1), (JSON,)))

    assert asyncio.run(run("wait", 0.001)).endswith(b'"result":[true,"wait",0],"id":1}')
    assert asyncio.run(run("here")).endswith(b'"result":[true,"here",false],"id":1}')
    assert asyncio.run(run("end_late")).endswith(b'"result":"late","id":1}')


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what a thread does is no event
        await asyncio.sleep(0.001)


def test_calls_whose_time_is_over_are_answered_and_keep_their_places_until_they_end() -> None:
    released.clear()
    gateway = Gateway({})
    pool, limiters = gateway.gateway.pool, gateway.gateway.limiters

    async def late(name: str, after: float) -> bytes:
        await asyncio.sleep(after)
        return await gateway.short(Sent(xml(name), (XML,)))

    async def run() -> None:
        answers = await asyncio.gather(*(late(name, after) for name in ("hang", "block") for after in (0, 0.02, 0.04)))
        assert all(b"no answer within 0.05 s" in answer for answer in answers)
        await asyncio.sleep(0)
        assert cancelled == ["hang"] * 3
        assert (limiters["async"][0].running, limiters["thread"][0].running) == (0, 3)
        assert (pool.busy, pool.overdue) == (3, 3)
        released.set()
        await until(lambda: not pool.busy)
        assert (pool.overdue, limiters["thread"][0].running) == (0, 0)
        await asyncio.sleep(0)

    cancelled.clear()
    asyncio.run(run())
    assert gateway.plain == 6
    assert [call.outcome for call in gateway.told.calls] == [-32001] * 6


@pytest.mark.parametrize("name", ["forever", "hold"])
def test_a_caller_that_hangs_up_gets_no_response_and_is_told_of_once(name: str) -> None:
    released.clear()
    cancelled.clear()
    gateway = Gateway({})
    responses: list[bytes] = []

    async def run() -> None:
        plain = gateway.gateway.know(Sent(b"", (XML,)).head())
        assert plain is not None
        running = plain.answer(xml(name), None, None, None, responses.append)
        assert running is not None
        assert not isinstance(running, bytes)
        await asyncio.sleep(0.01)
        running.cancel()
        running.cancel()
        await asyncio.sleep(0)
        assert [call.outcome for call in gateway.told.calls] == ["cancelled"]
        assert gateway.gateway.pool.overdue == (name == "hold")
        released.set()
        kind = "thread" if name == "hold" else "async"
        await until(lambda: not gateway.gateway.limiters[kind][0].running)
        running.cancel()
        assert gateway.gateway.pool.overdue == 0

    asyncio.run(run())
    assert cancelled == (["forever"] if name == "forever" else [])
    assert [call.outcome for call in gateway.told.calls] == ["cancelled"]
    assert responses == []


@pytest.mark.parametrize("chosen", [{"limits.waiting": 0}, {"limits.waiting": 0, "limits.threads": 1}])
def test_what_would_have_to_wait_for_a_place_takes_the_full_way(chosen: dict[str, Any]) -> None:
    """``hold`` has one place of its own; ``here`` shares those of all threads with it."""
    released.clear()
    gateway = Gateway(chosen)

    async def run() -> list[bytes]:
        first = asyncio.ensure_future(gateway.short(Sent(xml("hold"), (XML,))))
        await asyncio.sleep(0)
        others = [await gateway.short(Sent(xml(name), (XML,))) for name in ("hold", "here")]
        released.set()
        return [await first, *others, await gateway.short(Sent(xml("hold"), (XML,)))]

    first, second, here, again = asyncio.run(run())
    assert b"held" in first
    assert b"held" in again
    assert b"Overloaded" in second
    assert (b"Overloaded" in here) is ("limits.threads" in chosen)
    assert gateway.plain == 4 - (b"Overloaded" in second) - (b"Overloaded" in here)


def test_many_threads_hand_their_results_back_together() -> None:
    gateway = Gateway({})

    async def run() -> set[bytes]:
        sent = [Sent(JSONRPC_WRITER.encode_call("add", [number, 1], 1), (JSON,)) for number in range(300)]
        return {response.rpartition(b"\r\n")[2] for response in await asyncio.gather(*map(gateway.short, sent))}

    assert asyncio.run(run()) == {b'{"jsonrpc":"2.0","result":%d,"id":1}' % number for number in range(1, 301)}
    assert gateway.plain == 300


def test_a_response_that_cannot_be_made_is_500_and_costs_no_other_its_own(
    logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = Gateway({})

    async def run() -> list[bytes]:
        first = asyncio.ensure_future(gateway.short(Sent(xml("here"), (XML,))))
        await asyncio.sleep(0)
        with monkeypatch.context() as patch:
            patch.setattr(XMLRPC, "single", None)
            return [await first, await gateway.short(Sent(JSONRPC_WRITER.encode_call("here", [], 1), (JSON,)))]

    failed, other = asyncio.run(run())
    assert failed.startswith(b"HTTP/1.1 500 ")
    assert other.startswith(b"HTTP/1.1 200 ")
    assert logged.take("the endpoint raised an exception, which is a bug")


def test_a_call_with_a_wish_does_not_wait_for_the_time_of_others() -> None:
    gateway = Gateway({})

    async def run() -> bytes:
        first = asyncio.ensure_future(gateway.short(Sent(xml("forever"), (XML,))))
        await asyncio.sleep(0)
        try:
            async with asyncio.timeout(5):
                return await gateway.short(Sent(xml("forever"), (XML,), wish="0.05"))
        finally:
            first.cancel()

    assert b"no answer within 0.05 s" in asyncio.run(run())
    over = asyncio.run(gateway.short(Sent(xml("here"), (XML,), wish="0.000001")))
    assert b"no answer within 1e-06 s" in over
    assert gateway.plain == 3
    assert not gateway.gateway.pool.busy, "it has not even begun"


def test_a_reload_with_other_rules_lets_nobody_in_by_an_old_judgement(tmp_path: Path) -> None:
    """What was judged is kept by a worker, and the next one begins with nothing."""
    (tmp_path / "handlers.py").write_text("from gateway import method\n\n@method(run='inline')\ndef add(): return 1\n")
    rules = tmp_path / "gateway.toml"
    rules.write_text("")
    sent = request("/api", {"Content-Type": "text/xml"}, xml("add"))
    with serving(tmp_path, GATEWAY_CONFIG=str(rules)) as running, Wire(running.port) as wire:

        def ask(connection: Wire) -> bytes:
            connection.send(sent)
            response = connection.read()
            return b"closed" if response is None else response.body

        for _ in range(4):
            assert b"<int>1</int>" in ask(wire)
        before = children(running.process.pid)
        rules.write_text('[access]\nrules = [{ methods = ["add"], networks = ["10.0.0.1"] }]\n')
        running.process.send_signal(signal.SIGHUP)
        running.until_logged("reloaded")
        ask(wire)  # what is connected has one more answer of its worker, and then that ends
        eventually(lambda: before.isdisjoint(children(running.process.pid)), "the old worker does not end")
        for _ in range(4):
            with Wire(running.port) as another:
                for _ in range(4):
                    assert b"-32005" in ask(another)
