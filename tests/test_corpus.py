"""Every case of the corpus, over a real socket. In tests/test_corpus_in_pieces.py they come in pieces.

The categories ``allowlist`` and ``browser`` need configurations of their own and are in tests/core/test_access.py,
``slow`` needs patience and is in tests/test_slow_corpus.py. CLASSES tells how the detail of each class of fault begins.
"""

import base64
import functools
import gzip
import json
import xmlrpc.client
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.conftest import Logged
from tests.raw_http import Response, Wire, request
from tests.serving import Server

pytestmark = pytest.mark.unmeasured

FILES = ("xmlrpc_valid", "xmlrpc_invalid", "jsonrpc_valid", "jsonrpc_invalid", "hostile")
CLASSES: dict[str, str | tuple[str, ...]] = {
    "not-well-formed": "not well-formed",
    "not-json": "not JSON",
    "bad-utf8": ("not UTF-8", "not JSON"),
    "lone-surrogate": "a string has a lone surrogate",
    "duplicate-member": ("duplicate member", "an object has two members of the same name"),
    "number-range": "a number is out of range",
    "too-deep": "too deep",
    "unsupported-encoding": "supported are UTF-8",
    "invalid-char-for-encoding": "byte ",
    "dtd": "a DOCTYPE is not allowed",
    "wrong-root": "wrong root",
    "unknown-element": "unknown element",
    "misplaced-element": "misplaced element",
    "too-many-children": "too many children",
    "mixed-content": "mixed content",
    "stray-text": "stray text",
    "empty-param": "empty param",
    "bad-member": "bad member",
    "no-method-name": "no method name",
    "bad-int": "bad int",
    "bad-double": "bad double",
    "bad-decimal": "bad decimal",
    "bad-boolean": "bad boolean",
    "bad-base64": "bad base64",
    "bad-datetime": "bad dateTime",
    "bad-nil": "bad nil",
    "int-range": "int out of range",
    "double-range": "double out of range",
    "decimal-range": "decimal out of range",
    "limit": "limit: ",
    "recursion": "recursion",
    "bad-multicall-entry": "bad multicall entry",
    "method-not-found": "",
    "invalid-params": ("params", "system.multicall takes"),
    "internal": "",
    "unserialisable-result": ("the result cannot be encoded as XML-RPC", "the result cannot be encoded as JSON"),
    "timeout": "no answer within 2 s",
    "application": "application failed",
    "invalid-request": ("a call is", "id is", "jsonrpc is", "method is", "params is", "a batch has"),
}
THEN: dict[str, tuple[int | None, ...]] = {  # what may come after the response; None is a closed connection
    "connection closed or 400 for the leftover bytes": (400, None),
    "400 and close": (400,),
}
TITLES = {
    -32700: "Parse error",
    -32701: "Unsupported encoding",
    -32702: "Invalid character for encoding",
    -32600: "Invalid Request",
    -32601: "Method not found",
    -32602: "Invalid params",
    -32603: "Internal error",
    -32001: "Deadline exceeded",
}


def cases() -> Iterator[dict[str, Any]]:
    for name in FILES:
        for line in (Path(__file__).parent / "corpus" / f"{name}.jsonl").read_text("utf-8").splitlines():
            case = json.loads(line)
            if case.get("category") not in ("allowlist", "slow", "browser") and "config" not in case:
                yield case


def raw_bytes(case: dict[str, Any]) -> bytes | None:
    return base64.b64decode(case["raw_b64"]) if "raw_b64" in case else None


def body_of(case: dict[str, Any]) -> bytes:
    sent = case["request"]
    if "body_b64" in sent:
        return base64.b64decode(sent["body_b64"])
    if "body_parts" in sent:
        return parts(sent["body_parts"])
    if "body_gzip_parts" in sent:
        return gzip.compress(parts(sent["body_gzip_parts"]))
    return str(sent.get("body", "")).encode()


@functools.lru_cache(maxsize=2)
def _repeated(text: str, count: int) -> str:
    return text * count


def parts(described: list[Any]) -> bytes:
    texts = []
    for part in described:
        if isinstance(part, list):
            texts.append(_repeated(part[0], part[1]))
        else:
            texts += [part["fmt"].replace("{i}", str(i)).replace("{i1}", str(i + 1)) for i in range(part["n"])]
    return "".join(texts).encode()


CASES = list(cases())
RAW = [case for case in CASES if "raw_b64" in case]
PLAIN = [case for case in CASES if "raw_b64" not in case]
POSTED = [case for case in PLAIN if case["request"]["method"] == "POST" and "body_gzip_parts" not in case["request"]]
SMALL = [case for case in POSTED if len(body_of(case)) <= 4000]


def named(case: dict[str, Any]) -> str:
    return str(case["id"])


@pytest.mark.parametrize("case", PLAIN, ids=named)
def test_case(case: dict[str, Any], corpus_server: Server, logged: Logged) -> None:
    sent = case["request"]
    data = request(sent["path"], sent["headers"], body_of(case), sent["method"])
    with Wire(corpus_server.port) as wire:
        wire.send(data)
        response = wire.read(head=sent["method"] == "HEAD")
    check(case, response)
    logged.take("secret-internal-detail")
    logged.take("cannot be encoded as")


@pytest.mark.parametrize("case", RAW, ids=named)
def test_raw_case(case: dict[str, Any], corpus_server: Server) -> None:
    with Wire(corpus_server.port) as wire:
        wire.send(raw_bytes(case) or b"")
        response = wire.read()
        for status in case.get("expect_interim", []):
            assert response is not None
            assert response.status == status
            response = wire.read()
        if "forbid_interim" in case:
            assert response is None or response.status not in case["forbid_interim"]
        check(case, response)
        for _ in range(case.get("expect_responses", 1) - 1):
            check(case, wire.read())
        if "then" in case["expect"]:
            check_then(case["expect"]["then"], wire)
        if case.get("expect_close") or case["expect"].get("close"):
            while wire.read() is not None:
                pass
            assert wire.is_closed()


def check(case: dict[str, Any], response: Response | None) -> None:
    """Hold a response against what a case expects."""
    expect = case["expect"]
    statuses = [expect["http"], *expect.get("also_http", [])]
    if response is None:
        assert None in statuses, "closed without a response"
        return
    assert response.status in statuses
    text = response.body.decode("utf-8")
    for forbidden in (*case.get("forbid_in_response", []), "Traceback", "site-packages", "/gateway/"):
        assert forbidden not in text
    for forbidden in case.get("forbid_header", []):
        assert forbidden.lower() not in response.headers
    for name, value in case.get("require_header", {}).items():
        assert response.headers[name.lower()] == value
    assert len(response.body) <= case.get("max_response_bytes", 2**24)
    if response.status != expect["http"] or expect["kind"] == "http":
        return
    assert "transfer-encoding" not in response.headers
    if expect["kind"] == "nobody":
        assert response.body == b""
    elif case["proto"] == "xmlrpc":
        assert response.headers["content-type"] == "text/xml; charset=utf-8"
        check_xmlrpc(expect, response.body)
    else:
        assert response.headers["content-type"] == "application/json"
        check_jsonrpc(expect, msgspec.json.decode(response.body))


def check_then(then: str, wire: Wire) -> None:
    """Hold what comes after the response against what a case expects; the connection is closed in the end."""
    response = wire.read()
    assert (None if response is None else response.status) in THEN[then]
    assert response is None or wire.read() is None
    assert wire.is_closed()


def check_xmlrpc(expect: dict[str, Any], body: bytes) -> None:
    try:
        (result,), _ = xmlrpc.client.loads(body, use_builtin_types=True)
    except xmlrpc.client.Fault as fault:
        check_fault(expect, fault.faultCode, fault.faultString)
        return
    assert expect["kind"] == "result", f"a result instead of a fault: {result!r}"
    assert_value(result, expect["result"])


def check_fault(expect: dict[str, Any], code: int, text: str) -> None:
    codes = expect.get("also_fault", []) if expect["kind"] == "result" else [expect["code"], *expect.get("also", [])]
    assert code in codes, f"{code} {text}"
    if code == expect.get("code"):
        detail = text.removeprefix(f"{TITLES.get(code, '')}: ").removeprefix(TITLES.get(code, ""))
        assert detail.startswith(CLASSES[expect["class"]]), text


def check_jsonrpc(expect: dict[str, Any], answer: Any) -> None:
    if expect["kind"] == "batch":
        assert isinstance(answer, list)
        assert len(answer) == len(expect["batch"])
        for expected, given in zip(expect["batch"], answer, strict=True):
            check_jsonrpc(expected, given)
        return
    assert answer["jsonrpc"] == "2.0"
    ids = [expect["id"], *expect.get("also_id", [])]
    assert any(is_value(answer["id"], call_id) for call_id in ids), answer["id"]
    if expect["kind"] == "result":
        assert set(answer) == {"jsonrpc", "result", "id"}, answer
        assert_value(answer["result"], expect["result"])
        return
    assert set(answer) == {"jsonrpc", "error", "id"}, answer
    error = answer["error"]
    if error["code"] in (-32700, -32600, -32601, -32602, -32603):
        assert error["message"] == TITLES[error["code"]]
        detail = error.get("data", {}).get("detail", "")
    else:
        detail = error["message"]
    check_fault(expect, error["code"], detail)


def assert_value(given: Any, expected: Any) -> None:
    assert is_value(given, expected), f"{given!r} instead of {expected!r}"


def is_value(given: Any, expected: Any) -> bool:
    """Compare with a tagged value of the corpus; types count."""
    if isinstance(expected, dict) and len(expected) == 1:
        ((tag, value),) = expected.items()
        tagged: dict[str, Callable[[], bool]] = {
            "$float": lambda: repr(given) == value,
            "$int": lambda: type(given) is int and str(given) == value,
            "$bytes": lambda: bool(given == base64.b64decode(value)),
            "$dt": lambda: bool(given == datetime.fromisoformat(value)),
            "$dec": lambda: str(given) == value,
            "$any": lambda: True,
            "$contains": lambda: set(value) <= set(given),
        }
        if tag in tagged:
            return tagged[tag]()
    if isinstance(expected, dict):
        return (
            type(given) is dict
            and given.keys() == expected.keys()
            and all(is_value(given[name], value) for name, value in expected.items())
        )
    if isinstance(expected, list):
        return type(given) is list and len(given) == len(expected) and all(map(is_value, given, expected))
    return type(given) is type(expected) and bool(given == expected)


def test_every_case_is_run_or_named() -> None:
    lines = sum(len((Path(__file__).parent / "corpus" / f"{name}.jsonl").read_text().splitlines()) for name in FILES)
    assert lines - len(CASES) == 13 + 11 + 2  # allowlist, slow, browser: see above
