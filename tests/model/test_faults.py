"""The catalogue of faults, typed a second time by hand, and what their constructors refuse."""

import copy
import pickle
import re
import weakref
from pathlib import Path
from typing import Any

import pytest

from gateway.model.explained import EXPLAINED, explanations
from gateway.model.faults import (
    CATALOGUE,
    BadUpstream,
    DeadlineExceeded,
    Denied,
    Fault,
    ForeignFault,
    GatewayFault,
    InternalError,
    InvalidCharacter,
    InvalidParams,
    InvalidRequest,
    MethodNotFound,
    Overloaded,
    ParseError,
    RateLimited,
    RequestTooLarge,
    ResponseTooLarge,
    Unavailable,
    UnsupportedEncoding,
    detached,
)

TABLE: list[tuple[type[GatewayFault], int, str, int]] = [
    (ParseError, -32700, "Parse error", 200),
    (UnsupportedEncoding, -32701, "Unsupported encoding", 200),
    (InvalidCharacter, -32702, "Invalid character for encoding", 200),
    (InvalidRequest, -32600, "Invalid Request", 200),
    (MethodNotFound, -32601, "Method not found", 200),
    (InvalidParams, -32602, "Invalid params", 200),
    (InternalError, -32603, "Internal error", 200),
    (DeadlineExceeded, -32001, "Deadline exceeded", 200),
    (Unavailable, -32002, "Unavailable", 503),
    (Overloaded, -32003, "Overloaded", 503),
    (RateLimited, -32003, "Rate limited", 429),
    (BadUpstream, -32004, "Bad upstream", 200),
    (Denied, -32005, "Denied", 403),
    (RequestTooLarge, -32006, "Request too large", 413),
    (ResponseTooLarge, -32007, "Response too large", 200),
]


def subclasses(kind: type[Fault]) -> set[type[Fault]]:
    own = {inner for inner in kind.__subclasses__() if inner.__module__ == "gateway.model.faults"}
    return own.union(*map(subclasses, own))


def test_every_fault_stands_in_the_catalogue() -> None:
    assert subclasses(Fault) == {ForeignFault, GatewayFault, *(kind for kind, *_ in TABLE)}
    assert set(CATALOGUE) == {Fault, *(kind for kind, *_ in TABLE)}


@pytest.mark.parametrize(("kind", "code", "title", "status"), TABLE)
def test_a_fault_of_the_gateway_carries_its_row(kind: type[GatewayFault], code: int, title: str, status: int) -> None:
    fault = kind("what", retry_after=1)
    assert (fault.code, fault.title, fault.status) == (code, title, status)
    assert (fault.detail, fault.data, fault.message) == ("what", {"retry_after": 1}, f"{title}: what")
    assert (kind().detail, kind().data, kind().message) == ("", {}, title)


@pytest.mark.parametrize(
    ("fault", "code", "data"),
    [
        (Fault("no"), -32000, None),
        (Fault("no", data=[1]), -32000, [1]),
        (Fault(7, "no"), 7, None),
        (Fault(0, "no", {"k": 1}), 0, {"k": 1}),
        (Fault(-31999, "no", data=0), -31999, 0),
        (Fault(-32000, "no"), -32000, None),
        (Fault(-32008, "no"), -32008, None),
        (Fault(-32050, "no", {"k": 1}), -32050, {"k": 1}),
        (Fault(-32099, "no"), -32099, None),
        (Fault(-32769, "no"), -32769, None),
        (Fault(2**31 - 1, "no"), 2**31 - 1, None),
        (Fault(-(2**31), "no"), -(2**31), None),
    ],
)
def test_a_method_chooses_text_code_and_data(fault: Fault, code: int, data: Any) -> None:
    assert (fault.code, fault.title, fault.status) == (code, "", 200)
    assert (fault.detail, fault.message, fault.data) == ("no", "no", data)


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        *((code, "is one of the gateway's own") for code in (-32001, -32007, -32603, -32700, -32701)),
        *((code, "is reserved by JSON-RPC and XML-RPC") for code in (-32100, -32604, -32768)),
        *((code, "has more than 32 bits") for code in (2**31, -(2**31) - 1)),
    ],
)
def test_our_codes_reserved_codes_and_codes_beyond_32_bits_are_refused(code: int, problem: str) -> None:
    class Own(Fault):
        def __init__(self) -> None:
            super().__init__(code, "no")

    makers: list[Any] = [lambda: Fault(code, "no"), lambda: Own()]  # noqa: PLW0108 - for its line
    for make in makers:
        line = f"{__file__}:{make.__code__.co_firstlineno}"
        with pytest.raises(ValueError, match=f"{re.escape(line)}: Fault code {code} {problem}; choose one from "):
            make()


def test_a_fault_reads_well_as_text() -> None:
    assert str(Fault(3, "text")) == "text (code 3)"
    assert str(Fault("text")) == "text"
    assert str(InvalidParams("params[0]: missing")) == "Invalid params: params[0]: missing (code -32602)"


@pytest.mark.parametrize(
    "args",
    [
        (),
        (7,),
        (None,),
        (b"no",),
        (True, "no"),
        ("7", "no"),
        (7.0, "no"),
        (7, None),
        (7, b"no"),
        (None, "no"),
        (7, "no", 1, 2),
    ],
)
def test_what_is_no_text_or_code_and_text_is_refused(args: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="Fault takes a text, or a code and a text, not "):
        Fault(*args)


def test_a_subclass_may_forget_the_constructor() -> None:
    class Forgetful(Fault):
        def __init__(self, item: str) -> None:
            self.item = item

    fault = Forgetful("it")
    assert (fault.code, fault.message, fault.data, fault.status) == (-32000, "", None, 200)


def test_a_subclass_of_a_catalogued_fault_has_its_row() -> None:
    class SoldOut(InvalidParams):
        pass

    assert (SoldOut("it").code, SoldOut("it").message) == (-32602, "Invalid params: it")
    assert GatewayFault("it").code == -32000


@pytest.mark.parametrize("fault", [Fault("no", data=[1]), Fault(7, "no", {"k": 1}), InvalidParams("no", k=1)])
def test_a_fault_can_be_copied_and_pickled(fault: Fault) -> None:
    for other in (copy.copy(fault), pickle.loads(pickle.dumps(fault))):  # noqa: S301 - our own bytes
        assert type(other) is type(fault)
        assert (other.code, other.message, other.data) == (fault.code, fault.message, fault.data)


def test_a_detached_exception_holds_no_frame() -> None:
    class Value:
        """Something whose life can be followed."""

    def fail() -> None:
        value = Value()
        seen.append(weakref.ref(value))
        try:
            int("first")
        except ValueError as error:
            raise Fault(3, "text") from error

    seen: list[weakref.ref[Value]] = []
    kept: list[Fault] = []
    for forget in (False, True):
        try:
            fail()
        except Fault as fault:
            kept.append(detached(fault) if forget else fault)
    assert [reference() is None for reference in seen] == [False, True]
    assert (kept[1].__traceback__, kept[1].__cause__, kept[1].__context__) == (None, None, None)


def test_each_fault_is_explained_and_the_page_of_faults_says_it_with_these_words() -> None:
    assert list(EXPLAINED) == list(CATALOGUE)
    page = " ".join((Path(__file__).parents[2] / "docs" / "faults.md").read_text("utf-8").replace("&lt;", "<").split())
    for kind, row in CATALOGUE.items():
        cause, remedy = EXPLAINED[kind]
        assert f"## {row.code} {row.title} {cause} **What to do:** {remedy} ``` " in page


def test_a_code_is_explained_with_the_place_on_the_page_of_faults() -> None:
    page = (Path(__file__).parents[2] / "docs" / "faults.md").read_text("utf-8")
    headings = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}  # as code hosts do
    for kind, row in CATALOGUE.items():
        told = explanations(row.code)
        assert any(EXPLAINED[kind].cause in text and f"{row.code} {row.title}\n" in text for text in told)
        assert {text.rpartition("#")[2] for text in told} <= anchors
    assert len(explanations(-32003)) == 2
    assert explanations(17) == []
