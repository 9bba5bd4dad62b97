"""A load test for any XML-RPC or JSON-RPC server, for Locust.

    locust -f locustfile.py --host http://127.0.0.1:8000                               Locust's page, on port 8089
    locust -f locustfile.py --host http://127.0.0.1:8000 --headless -u 50 -t 30s       without it
    locust -f locustfile.py --host http://127.0.0.1:8000 --headless -u 50 XMLRPCUser   one kind of user

The path to POST to is that of ``--path``, or that of ``--host``, or else /api. Each user sends a request, reads the
answer, thinks for ``--think-time``, and sends the next. Requests are named by their method. An answer is right when it
is a document of its protocol, belongs to the request, is not a fault, and holds what is expected. Whatever is not right
is a failure of one of three kinds, in Locust's table and in the exit code:

    Fault(code)             the server's own answer
    TransportError(what)    refused, reset, timed out, or a status other than 200 without a fault in it
    WrongAnswer(what)       anything else

When every request of the first second fails in the same way, a line of the log says why, and what to change.

``--help`` lists the options from ``--path`` to ``--max-time``; ``--loglevel DEBUG`` shows the answers that failed.
"""

import functools
import itertools
import json
import logging
import reprlib
import ssl
import sys
import time
import xmlrpc.client
from argparse import ArgumentTypeError, Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NamedTuple
from urllib.parse import urlsplit
from xml.parsers.expat import ExpatError

from gevent import Timeout  # type: ignore[import-untyped]
from geventhttpclient.response import HTTPConnectionClosed, HTTPParseError
from locust import FastHttpUser, events, task
from locust.argument_parser import LocustArgumentParser
from locust.contrib.fasthttp import ResponseContextManager
from locust.env import Environment
from locust.exception import StopTest
from locust.runners import WorkerRunner

log = logging.getLogger("locustfile")

KNOWN_ANSWERS = {("add", "[2, 3]"): "5", ("sleep", "[1]"): '"done"'}  # of the methods that are called by default


class Fault(Exception):
    """The server answers with a fault: its code, and its text for the log."""

    text = ""


class TransportError(Exception):
    """There is no answer: what happened instead."""


class WrongAnswer(Exception):
    """There is an answer which is not the right one: what is wrong with it."""


class Shape(NamedTuple):
    """How requests of one kind are named and written, and their answers read.

    ``write`` takes the method, the arguments and the number of calls; it raises ValueError or OverflowError for what
    the protocol cannot write. ``read`` takes the answer's body and that number, and returns the results; it raises
    Fault where one of them is a fault, and WrongAnswer for what is not an answer to the request.
    """

    name: str
    protocol: str
    media_type: str
    write: Callable[[str, Any, int], str]
    read: Callable[[bytes, int], list[Any]]


def write_xml(method: str, arguments: Any, _: int) -> str:
    """Write a methodCall."""
    if not isinstance(arguments, list):
        raise ValueError("the arguments of XML-RPC must be an array")  # noqa: TRY004 - it is a value of the options
    return xmlrpc.client.dumps(tuple(arguments), method, allow_none=True)


def write_multicall(method: str, arguments: Any, number: int) -> str:
    """Write a system.multicall of equal calls."""
    return write_xml("system.multicall", [[{"methodName": method, "params": arguments}] * number], 1)


def write_json(method: str, arguments: Any, _: int) -> str:
    """Write a request object."""
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": arguments, "id": 1})


def write_batch(method: str, arguments: Any, number: int) -> str:
    """Write a batch of equal calls, with ids from 1."""
    return json.dumps(
        [{"jsonrpc": "2.0", "method": method, "params": arguments, "id": id_} for id_ in range(1, number + 1)]
    )


def read_xml(body: bytes, _: int) -> list[Any]:
    """Read a methodResponse."""
    try:
        results, method = xmlrpc.client.loads(body, use_builtin_types=True)
    except xmlrpc.client.Fault as fault:
        raise _fault(fault.faultCode, fault.faultString) from None
    except (ExpatError, xmlrpc.client.Error, ValueError, TypeError, LookupError) as error:
        raise WrongAnswer(f"not XML-RPC: {type(error).__name__}") from None
    if method is not None or len(results) != 1:
        raise WrongAnswer("not a methodResponse with one result")
    return list(results)


def read_multicall(body: bytes, number: int) -> list[Any]:
    """Read the answer to a system.multicall: a result in an array, or a fault in a struct, for each call."""
    (slots,) = read_xml(body, 1)
    if not isinstance(slots, list) or len(slots) != number:
        raise WrongAnswer(f"not an array of {number} results")
    for slot in slots:
        if isinstance(slot, dict) and "faultCode" in slot:
            raise _fault(slot["faultCode"], slot.get("faultString"))
        if not isinstance(slot, list) or len(slot) != 1:
            raise WrongAnswer("a slot that is neither a result nor a fault")
    return [slot[0] for slot in slots]


def read_json(body: bytes, _: int) -> list[Any]:
    """Read a response object."""
    return [_result(_document(body), 1)]


def read_batch(body: bytes, number: int) -> list[Any]:
    """Read the answers to a batch, in any order."""
    answers = _document(body)
    if isinstance(answers, dict):
        answers = [answers]  # a fault for the whole batch
    if not isinstance(answers, list) or not all(isinstance(answer, dict) for answer in answers):
        raise WrongAnswer("not an array of response objects")
    by_id = {str(answer.get("id")): answer for answer in answers}
    for answer in answers:
        if answer.get("error") is not None:
            _result(answer, answer.get("id"))
    if by_id.keys() != {str(id_) for id_ in range(1, number + 1)} or len(answers) != number:
        raise WrongAnswer(f"not the answers to {number} calls")
    return [_result(by_id[str(id_)], id_) for id_ in range(1, number + 1)]


def _document(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise WrongAnswer("not JSON") from None


def _result(answer: Any, id_: Any) -> Any:
    if not isinstance(answer, dict):
        raise WrongAnswer("not a response object")
    error = answer.get("error")
    if error is not None:
        raise _fault(error.get("code"), error.get("message")) if isinstance(error, dict) else Fault(error)
    if answer.get("id") != id_:
        raise WrongAnswer("the answer to another request")
    if "result" not in answer:
        raise WrongAnswer("a response object with neither result nor error")
    return answer["result"]


def _fault(code: Any, text: Any) -> Fault:
    fault = Fault(code)
    fault.text = str(text or "")
    return fault


XML = Shape("XML-RPC", "xmlrpc", "text/xml", write_xml, read_xml)
JSON = Shape("JSON-RPC", "jsonrpc", "application/json", write_json, read_json)
MULTICALL = Shape("multicall", "xmlrpc", "text/xml", write_multicall, read_multicall)
BATCH = Shape("batch", "jsonrpc", "application/json", write_batch, read_batch)


class RPCUser(FastHttpUser):
    """Someone who sends one request after the other; the classes below say of which shape."""

    abstract = True
    shapes: ClassVar[tuple[Shape, ...]]  # taken in turn, where there are two
    turns: ClassVar[Iterator[int]] = itertools.count()

    def __init__(self, environment: Environment) -> None:
        options = _options(environment)
        self.insecure = options.tls_verify == "no"
        self.ssl_context_factory = functools.partial(_ssl_context, options.tls_verify)
        super().__init__(environment)
        agent = self.client.client
        agent.valid_response_codes = frozenset(range(100, 600))  # type: ignore[misc]  # a fault can have any status
        agent.redirect_response_codes = frozenset()  # type: ignore[misc]  # a redirected POST would be a GET
        shapes = self.spoken(options)
        self.shape = shapes[next(self.turns) % len(shapes)] if len(shapes) > 1 else shapes[0]
        self.host, self.path = _address(self.host or "", options.path)
        self.client.base_url = self.host
        self.call_timeout, self.think_time = options.call_timeout, options.think_time
        self.headers = {"Content-Type": self.shape.media_type}
        if options.api_key:
            self.headers["Authorization"] = f"Bearer {options.api_key}"
        self.number = options.batch if self.shape in {MULTICALL, BATCH} else 1
        self.method, *_ = self.called(options)
        self.body, self.expected = self.written(options, self.shape)
        self.right_answer: bytes | None = None

    @classmethod
    def spoken(cls, options: Namespace) -> list[Shape]:
        """Return the shapes that are not left out."""
        return [shape for shape in cls.shapes if options.protocol in {"both", shape.protocol}]

    @classmethod
    def called(cls, options: Namespace) -> tuple[str, str, str]:
        """Return the method, its arguments and its result; the last two are JSON."""
        return options.method, options.arguments, options.expect

    @classmethod
    def written(cls, options: Namespace, shape: Shape) -> tuple[str, list[Any] | None]:
        """Return the request's body, and the right results if they are known.

        Raises:
            StopTest: an option makes no sense.

        """
        method, arguments, answer = cls.called(options)
        answer = answer or KNOWN_ANSWERS.get((method, arguments), "")
        number = options.batch if shape in {MULTICALL, BATCH} else 1
        try:
            body = shape.write(method, json.loads(arguments), number)
            return body, [json.loads(answer)] * number if answer else None
        except (ValueError, OverflowError) as error:
            raise StopTest(f"{shape.name} cannot call {method} with {arguments}: {error}") from None

    def wait_time(self) -> float:
        """Return how many seconds to think."""
        return float(self.think_time)

    @task
    def call(self) -> None:
        """Send the request, read the answer, and tell Locust what came of it."""
        with (
            Timeout(self.call_timeout),  # for the whole call, where the client's own are for each read
            self.client.post(
                self.path, data=self.body, headers=self.headers, name=self.method, catch_response=True
            ) as response,
        ):
            response.request_meta["request_type"] = self.shape.name
            try:
                self.check(response)
            except (Fault, TransportError, WrongAnswer) as error:
                log.debug("%r: %.1000r", error, response.content)
                FIRST.note(error, self)
                response.failure(error)
            else:
                FIRST.note(None, self)
                response.success()

    def check(self, response: ResponseContextManager) -> None:
        """Read an answer.

        Raises:
            Fault, TransportError, WrongAnswer: it is not the right one.

        """
        error = response.request_meta["exception"]
        if error is not None:
            raise TransportError(_what_happened(error))
        body = response.content or b""
        is_ok = response.status_code == 200
        if is_ok and body == self.right_answer:
            return  # it was read before, byte for byte
        try:
            results = self.shape.read(body, self.number)
        except WrongAnswer:
            if is_ok:
                raise
            results = None
        if not is_ok:
            raise TransportError(f"HTTP {response.status_code}")
        if self.expected is not None and results != self.expected:
            raise WrongAnswer(f"{reprlib.repr(self.expected[0])} was expected")
        self.right_answer = body


class XMLRPCUser(RPCUser):
    """Calls by XML-RPC."""

    shapes = (XML,)


class JSONRPCUser(RPCUser):
    """Calls by JSON-RPC 2.0."""

    shapes = (JSON,)


class MulticallUser(RPCUser):
    """Many calls in one XML-RPC request."""

    shapes = (MULTICALL,)


class BatchUser(RPCUser):
    """Many calls in one JSON-RPC request."""

    shapes = (BATCH,)


class BlockingUser(RPCUser):
    """Calls that take their time, by both protocols."""

    shapes = (XML, JSON)

    @classmethod
    def called(cls, options: Namespace) -> tuple[str, str, str]:
        """Return the method that blocks, its arguments and its result."""
        return options.blocking_method, options.blocking_arguments, options.blocking_expect


def _what_happened(error: BaseException) -> str:
    """Say in a word what became of a request without an answer."""
    cause = vars(error).get("original", error)  # of what the client calls RetriesExceeded
    for kind, word in WORDS.items():
        if isinstance(cause, kind):
            return word
    return f"{type(cause).__name__}: {cause}"


WORDS: dict[type[BaseException], str] = {
    ConnectionRefusedError: "refused",
    ConnectionResetError: "reset",
    BrokenPipeError: "reset",
    HTTPConnectionClosed: "reset",
    Timeout: "timed out",
    TimeoutError: "timed out",
    ssl.SSLCertVerificationError: "its certificate is not trusted",
    ssl.SSLError: "no TLS",
    HTTPParseError: "no HTTP",
}


@functools.cache
def _ssl_context(verify: str, cafile: str | None = None) -> ssl.SSLContext:
    """Make the one context that all connections share; ``cafile`` is the client's own proposal."""
    if verify == "no":
        return ssl._create_unverified_context()  # noqa: S323, SLF001 - it was asked for; Locust does the same
    return ssl.create_default_context(cafile=cafile if verify == "yes" else verify)


def _address(host: str, path: str) -> tuple[str, str]:
    """Return the server's URL without a path, and the path: the one that is given, or the URL's own, or /api."""
    url = urlsplit(host)
    own = url.path + (f"?{url.query}" if url.query else "")
    return f"{url.scheme}://{url.netloc}", path or own.rstrip("/") or own or _PATH


class First:
    """The requests of the first second, which often all fail for one reason."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin a run."""
        self.until: float | None = None
        self.reasons: set[str] = set()
        self.told = False

    def note(self, error: Exception | None, user: RPCUser) -> None:
        """Take notice of what became of a request."""
        if self.told:
            return
        self.reasons.add("" if error is None else remedy(error, user))
        now = time.monotonic()
        self.until = now + _FIRST if self.until is None else self.until
        if now >= self.until:
            self.tell()

    def tell(self) -> None:
        """Say once, after the first second or a shorter run, when all have failed in the same way."""
        if not self.told and len(self.reasons) == 1 and "" not in self.reasons:
            log.error("every request has failed so far: %s", *self.reasons)
        self.told = True


_FIRST = 1.0  # seconds
FIRST = First()
_PATH = "/api"


def remedy(error: Exception, user: RPCUser) -> str:
    """Say what an error means, and how to mend it."""
    url = f"{user.host}{user.path}"
    text = error.text if isinstance(error, Fault) else ""
    told = f"{error!r} at {url}" + (f" ({text})" if text else "")
    return f"{told}: {REMEDIES.get(str(error.args[0] if error.args else ''), _OTHERWISE[type(error)])}"


REMEDIES = {
    "refused": "nothing listens there; start the server, or correct --host",
    "timed out": "the server does not answer in time; raise --call-timeout, or try fewer users",
    "its certificate is not trusted": "give the file of the authority to --tls-verify, or --tls-verify no",
    "no TLS": "the port does not speak TLS; write http:// in --host",
    "no HTTP": "the port does not speak HTTP; correct --host",
    "HTTP 401": "the server wants an API key; give it with --api-key or LOCUST_API_KEY",
    "HTTP 403": "the server does not let this client in; look at its access rules, or give another --api-key",
    "HTTP 404": "the server has no such path; usual ones for --path are /api, /RPC2, /jsonrpc and /",
    "HTTP 405": "the path does not take POST; usual ones for --path are /api, /RPC2, /jsonrpc and /",
    "HTTP 415": "the server does not speak this protocol; try --protocol xmlrpc or --protocol jsonrpc",
    "HTTP 429": "the server limits the calls of a client; raise the limit there, or --think-time here",
    "-32601": "the server has no such method; name one with --method, --arguments and --expect",
    "-32602": "the method does not take these arguments; correct --arguments",
    "-32005": "the caller may not call the method; give another --api-key, or look at the server's access rules",
}
_OTHERWISE: dict[type[Exception], str] = {
    Fault: "the method itself fails; correct --method and --arguments, or look at the server's log",
    TransportError: "correct --host and --path, and look at the server's log",
    WrongAnswer: "correct --path, --protocol and --expect; --loglevel DEBUG shows the responses",
}


def _options(environment: Environment) -> Namespace:
    options: Namespace | None = environment.parsed_options
    assert options is not None  # noqa: S101 - it is None only where Locust is used as a library
    return options


def _between(kind: type[float], low: float, high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            raise ArgumentTypeError(f"{text} is not between {low:g} and {high:g}")
        return value

    number.__name__ = kind.__name__  # argparse names it where the text is no number at all
    return number


_SHARE = _between(float, 0, 1)
_SECONDS = _between(float, 0, 86400)


def add_options(parser: LocustArgumentParser) -> None:
    """Add the options of this load test to Locust's own; most of them are on its page, too."""
    add = parser.add_argument
    add("--path", default="", help="where to POST to: the path of --host, or /api; other usual ones are /RPC2 and /")
    add(
        "--protocol",
        choices=["both", "xmlrpc", "jsonrpc"],
        default="both",
        include_in_web_ui=False,  # the page starts what kinds of users there are
        help="leave out the users of the other protocol",
    )
    add("--method", default="add", help="what is called")
    add("--arguments", default="[2, 3]", help="its arguments: a JSON array; for JSON-RPC alone also an object")
    add("--expect", default="", help="its right result, as JSON; without it, any result is right")
    add("--blocking-method", default="sleep", help="what BlockingUser calls")
    add("--blocking-arguments", default="[1]", help="its arguments")
    add("--blocking-expect", default="", help="its right result")
    add("--batch", type=_between(int, 1, 100_000), default=10, help="calls in one batch or multicall")
    add("--think-time", type=_SECONDS, default=0.0, help="seconds between an answer and the next request")
    add("--call-timeout", type=_SECONDS, default=60.0, help="seconds to wait for an answer")
    add("--tls-verify", default="yes", help="yes, no, or the file of certificates to trust, in PEM")
    add("--api-key", default="", env_var="LOCUST_API_KEY", is_secret=True, help="sent as a bearer token")
    add(
        "--max-failures", type=_SHARE, default=0.0, help="the share of requests, 0 to 1, that may fail with exit code 0"
    )
    add("--percentile", type=_SHARE, default=0.95, help="which percentile of the times, 0 to 1, --max-time is for")
    add("--max-time", type=_SECONDS, default=0.0, help="seconds above which it makes the exit code 1; 0 for no limit")


def choose_users(environment: Environment, **_: Any) -> None:
    """Leave out the users who speak another protocol than the one that is asked for, and try the options once."""
    options, users = _options(environment), environment.user_classes
    ours = [user for user in users if issubclass(user, RPCUser)]
    users[:] = [user for user in users if user not in ours or user.spoken(options)]
    if not users:
        sys.exit(f"locustfile: no user speaks {options.protocol}: leave out --protocol, or name other users")
    try:
        _ssl_context(options.tls_verify)
        for user in ours:
            for shape in user.spoken(options):
                user.written(options, shape)
    except StopTest as error:
        sys.exit(f"locustfile: {error}")
    except OSError as error:
        sys.exit(f"locustfile: --tls-verify {options.tls_verify}: {error.strerror or error}")


def judge(environment: Environment, **_: Any) -> None:
    """Count the failures by kind, and set the exit code by the limits."""
    if isinstance(environment.runner, WorkerRunner):
        return  # only the master has seen them all
    FIRST.tell()
    options, total = _options(environment), environment.stats.total
    kinds: Counter[str] = Counter()
    for error in environment.stats.errors.values():
        text = error.error if isinstance(error.error, str) else repr(error.error)
        kinds[text.partition("(")[0]] += error.occurrences
    counted = ", ".join(
        f"{kind.__name__} {kinds.pop(kind.__name__, 0):,}" for kind in (Fault, TransportError, WrongAnswer)
    )
    log.info("%d requests, of which failed: %s", total.num_requests, counted)

    problems = []
    if not total.num_requests:
        problems.append("no request has come to an end")
    if total.fail_ratio > options.max_failures:
        problems.append(f"{total.fail_ratio:.2%} of the requests failed, and {options.max_failures:.2%} may")
    reached = total.get_response_time_percentile(options.percentile) / 1000
    if options.max_time and reached > options.max_time:
        problems.append(
            f"the percentile {options.percentile:g} is {reached:g} s, and {options.max_time:g} s is the limit"
        )
    for problem in problems:
        log.error("%s", problem)
    if not environment.runner or not environment.runner.exceptions:  # else a user broke down, and Locust exits so
        environment.process_exit_code = int(bool(problems))


events.init_command_line_parser.add_listener(add_options)  # type: ignore[no-untyped-call]
events.init.add_listener(choose_users)  # type: ignore[no-untyped-call]
events.test_start.add_listener(lambda **_: FIRST.begin())  # type: ignore[no-untyped-call]
events.quitting.add_listener(judge)  # type: ignore[no-untyped-call]
