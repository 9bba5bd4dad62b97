"""The compiled codec against the one in Python: the same bytes, the same values, and no memory lost.

What is unusual or wrong it leaves to Python, whatever it is. test_usual.py has it read mutated documents.
"""

import gc
import os
import random
import struct
import sys
import tracemalloc
from collections import OrderedDict
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given

from gateway.codecs.contract import at_once
from gateway.codecs.xmlrpc import XMLRPC, _Parts, document
from gateway.codecs.xmlrpc.choice import Compiled
from gateway.model.calls import Call, InvalidCall, Reply
from gateway.model.faults import Fault
from tests.codecs.compiled import COMPILED
from tests.codecs.test_properties import ROOM, XML_VALUES, anything, fixed
from tests.codecs.test_usual import ANSWERS, CALLS, DEPTH, mutated

try:
    import _testcapi  # type: ignore[import-not-found]
except ImportError:  # a Python without its own tests
    _testcapi = None

pytestmark = pytest.mark.unmeasured

NIL = b"<value><nil/></value>"
TEXTS = [
    "",
    "a",
    "&",
    "<",
    ">",
    '"',
    "\r",
    "\n",
    "\t",
    "é",
    "\x7f",
    "\x80",
    "\u0663",
    "\ud7ff",
    "\ue000",
    "\ufffd",
    "\U0001f600",
]
ILLEGAL = ["\0", "\x08", "\x0b", "\x1f", "\ud800", "\udfff", "\ufffe", "\uffff"]
INTS = [0, 1, -1, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**63 - 1, -(2**63)]
DOUBLES = [
    0.0,
    -0.0,
    1.0,
    1.5,
    -2.25,
    0.1,
    1 / 3,
    1e-4,
    1e-5,
    9.999e-5,
    5e-324,
    1.7976931348623157e308,
    1e15,
    1e16,
    1e22,
]
DOUBLES += [999999999999999.9, 99999999999999.98, 0.3, 2.675, 123456.789012345, 1e14, 1.2345678901234567e20, 4.35, 1e23]
DATES = [datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999), datetime(2026, 11, 29, 12, 0, 1)]
PLAIN: list[Any] = [None, True, False, *TEXTS, *INTS, *DOUBLES, *DATES, b"", b"a", b"ab", b"abc", bytes(range(256))]


class Colour(IntEnum):
    RED = 1


class Text(str):
    __slots__ = ()


ODD: list[Any] = [
    *ILLEGAL,
    2**63,
    -(2**63) - 1,
    10**400,
    float("nan"),
    float("inf"),
    -float("inf"),
    datetime(1, 1, 1, tzinfo=UTC),
]
ODD += [(), (1,), {1}, Text("a"), Colour.RED, bytearray(b"a"), OrderedDict(a=1), object(), {1: 2}, {Text("a"): 1}, 1j]


def by_python(value: Any, room: int = ROOM, **options: Any) -> bytes | None:
    """Write a value in Python alone; None where it cannot be, or has more bytes than there is room for."""
    codec = XMLRPC(**{"max_depth": DEPTH, "max_batch": 1} | options)
    parts = _Parts()
    try:
        at_once(codec._say(value, parts, 0, ROOM))
        wire = "".join(parts).encode()
    except Exception:  # noqa: BLE001 - whatever it is, the compiled codec does not write it
        return None
    return wire if len(wire) <= room else None


def random_double(chance: random.Random) -> float:
    kind = chance.randrange(4)
    if kind == 0:
        found: float = struct.unpack("<d", chance.randbytes(8))[0]
        return found
    if kind == 1:
        return chance.randrange(-(10**6), 10**6) / 10.0 ** chance.randrange(7)
    if kind == 2:
        return float(f"{chance.randrange(-(10**17), 10**17)}e{chance.randrange(-30, 10)}")
    return chance.choice(DOUBLES)


def random_value(chance: random.Random, levels: int) -> Any:
    """Make a value that is plain nearly everywhere."""
    kind = chance.randrange(12)
    if levels and kind < 2:
        return [random_value(chance, levels - 1) for _ in range(chance.randrange(4))]
    if levels and kind < 4:
        return {random_text(chance): random_value(chance, levels - 1) for _ in range(chance.randrange(4))}
    if kind == 5:
        return random_double(chance)
    if kind == 6:
        return chance.randrange(-(2 ** chance.randrange(1, 65)), 2 ** chance.randrange(1, 65))
    if kind == 7:
        return chance.randbytes(chance.randrange(9))
    if kind == 8:
        return chance.choice(ODD) if chance.random() < 0.05 else chance.choice(PLAIN)
    return random_text(chance)


def random_text(chance: random.Random) -> str:
    text = "".join(chance.choices([*TEXTS, "plain text"], k=chance.randrange(5)))
    return text + chance.choice(ILLEGAL) if chance.random() < 0.01 else text


@pytest.mark.parametrize(
    "value",
    [*PLAIN, [], {}, [PLAIN], dict.fromkeys(TEXTS, 1), "é&" * 3000, [[[]]] * 500],
    ids=lambda value: type(value).__name__,
)
def test_plain_values_are_written_and_have_the_same_bytes(value: Any) -> None:
    if COMPILED is not None:
        for room in (ROOM, len(by_python(value) or b"")):
            wire = COMPILED.write_value(value, DEPTH, room, NIL, True)
            assert wire is not None
            assert wire == by_python(value)


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
def test_what_is_not_plain_is_left_to_python(value: Any) -> None:
    if COMPILED is not None:
        for inside in (value, [value], {"a": [1, value]}):
            assert COMPILED.write_value(inside, DEPTH, ROOM, NIL, True) is None
        for name in ILLEGAL:
            assert COMPILED.write_value({name: 1}, DEPTH, ROOM, NIL, True) is None


def test_options_are_kept() -> None:
    if COMPILED is not None:
        for value in ([None], [2**31], [-(2**31)], [None, 2**40]):
            for nil, none in ((NIL, "nil"), (b"<value><string></string></value>", "empty"), (None, "fault")):
                for i8 in (True, False):
                    wire = COMPILED.write_value(value, DEPTH, ROOM, nil, i8)
                    assert wire == by_python(value, none=none, i8=i8)


def test_no_more_is_written_than_there_is_room_for() -> None:
    if COMPILED is not None:
        many: Any = ["x" * 100] * 100
        for _ in range(5):
            many = [many] * 100
        for value in (1, "abc", "é&" * 4000, b"a" * 5000, [[1, {"a": "b"}]] * 300, [1.5, None, True]):
            whole = by_python(value)
            assert whole is not None
            assert COMPILED.write_value(value, DEPTH, len(whole), NIL, True) == whole
            for room in (len(whole) - 1, len(whole) // 2, 0, -1):
                assert COMPILED.write_value(value, DEPTH, room, NIL, True) is None
        for room in (ROOM, -(10**6)):
            assert COMPILED.write_value(many, DEPTH, room, NIL, True) is None


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {"a": value}])
def test_depth_is_the_same_and_takes_no_stack(wrap: Any) -> None:
    if COMPILED is None:
        return
    itself: list[Any] = []
    itself.append(itself)
    assert COMPILED.write_value(itself, 10**6, 2**24, NIL, True) is None
    value: Any = 1
    for level in range(1, 300):
        value = wrap(value)
        written = COMPILED.write_value(value, level + 1, ROOM, NIL, True)
        assert written is not None
        assert COMPILED.write_value(value, level, ROOM, NIL, True) is None
        assert by_python(value, max_depth=level + 1) == written
        assert by_python(value, max_depth=level) is None
        call = CALL_FRAME % written
        assert COMPILED.read_call(call, level + 1) == ("m", [value])
        assert COMPILED.read_call(call, level) is None


def test_random_values_have_the_same_bytes() -> None:
    if COMPILED is None:
        return
    chance = random.Random(20261130)
    written = 0
    for _ in range(int(os.environ.get("FUZZ", "5000"))):
        value = random_value(chance, 4)
        wire = COMPILED.write_value(value, DEPTH, ROOM, NIL, True)
        assert wire == by_python(value) or wire is None, value
        written += wire is not None
        if wire is not None:
            answer = b"<methodResponse><params><param>%b</param></params></methodResponse>" % wire
            found = COMPILED.read_answer(answer, DEPTH)
            assert found is None or repr(found) == repr([at_once(document.read_answer(answer.decode(), DEPTH)).value])
    assert written > 4000


@fixed(100)
@given(XML_VALUES)
def test_all_plain_values_are_written(value: Any) -> None:
    if COMPILED is not None:
        wire = COMPILED.write_value(value, 64, ROOM, NIL, True)
        assert wire is not None
        assert wire == by_python(value)


@fixed(100)
@given(anything)
def test_whatever_it_writes_has_the_same_bytes(value: Any) -> None:
    if COMPILED is not None:
        wire = COMPILED.write_value(value, DEPTH, ROOM, NIL, True)
        assert wire is None or wire == by_python(value)


READ = [  # scalars, and whether they are read without Python
    *(("int", text, True) for text in ("0", "-0", "007", "9223372036854775807", "-9223372036854775808")),
    *(
        ("i8", text, False)
        for text in ("9223372036854775808", "-9223372036854775809", "", "-", "+1", "18446744073709551617", " 1", "1 ")
    ),
    *(
        ("double", text, True)
        for text in ("1.5", "-0.0", "1e5", "1E-7", "0.1", "1" * 16, "123456789012345.6", "5e-324")
    ),
    *(
        ("double", text, False)
        for text in ("", "-", "1.", ".5", "1e", "1e+", "1e999", "nan", "inf", "1_0", "1" * 41, "0x1")
    ),
    *(("boolean", text, text in "01") for text in ("0", "1", "2", "true", "10")),
    *(("base64", text, True) for text in ("", "YQ==", "YWI=", "YWJj", "YW\nJj", " Y Q = = ", "YWJjZGVm")),
    *(
        ("base64", text, False)
        for text in ("YQ=", "YQ", "Y", "=", "Q===", "====", "YQ==YQ==", "YQ===", "YR==", "YWJ=", "Y!==", "é")
    ),
    *(("dateTime.iso8601", f"{text}12:30:59", True) for text in ("20261129T", "2026-11-29T", "00010101T", "20280229T")),
    *(("dateTime.iso8601", f"20261129T12:30:59{text}", True) for text in ("Z", ".5", ".123456", ".123456789", ".5Z")),
    *(("dateTime.iso8601", f"20261129T12:30:59{text}", False) for text in (".", "+01:00", "z", ".1234567890", " ")),
    *(
        ("dateTime.iso8601", text, False)
        for text in ("", "20260229T12:30:59", "00000101T00:00:00", "20261129T24:00:00")
    ),
    *(("dateTime.iso8601", text, False) for text in ("2026-1129T12:30:59", "202611-29T12:30:59", "20261129T123059")),
]


CALL_FRAME = b"<methodCall><methodName>m</methodName><params><param>%b</param></params></methodCall>"


def scalar_call(tag: str, text: str) -> bytes:
    return CALL_FRAME % f"<value><{tag}>{text}</{tag}></value>".encode()


@pytest.mark.parametrize(("tag", "text", "is_read"), READ)
def test_scalars_are_read_to_the_same_values(
    tag: str, text: str, is_read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = scalar_call(tag, text)
    if COMPILED is not None:
        found = COMPILED.read_call(body, DEPTH)
        monkeypatch.setattr("gateway.codecs.xmlrpc.compiled", None)
        decoded = XMLRPC(max_depth=DEPTH, max_batch=1).decode(body, None)
        assert (found is not None) == is_read
        if found is not None:
            assert isinstance(decoded, Call)
            assert repr(found) == repr((decoded.method, decoded.params))


@pytest.mark.parametrize(
    ("declaration", "is_read"),
    [
        *((f"<?xml version={version}{rest}?>", True) for version in ('"1.0"', "'1.0'") for rest in ("", " ")),
        *(
            (f'<?xml version="1.0" encoding={encoding}?>', True)
            for encoding in ('"utf-8"', "'UTF-8'", '"utf8"', '"UTF8" ')
        ),
        *(
            (f'<?xml version="1.0" encoding={encoding}?>', False)
            for encoding in ('"latin-1"', '"utf-88"', "\"utf-8'", '"utf8', "")
        ),
        *(
            (declaration, False)
            for declaration in ("<?xml ?>", '<?xml version="1.0" encoding="?>', '<?xml version="1.0" encoding="u', "<")
        ),
        *((declaration, False) for declaration in ("\ufeff", "<!DOCTYPE a>", "<!--c-->", "\0")),
        *((declaration, True) for declaration in (" \r\n\t", '\n<?xml version="1.0"?>\n')),
    ],
)
def test_declarations(declaration: str, is_read: bool) -> None:
    if COMPILED is not None:
        assert (COMPILED.read_call(f"{declaration}{CALLS[1][22:]}".encode(), DEPTH) is not None) == is_read


@pytest.mark.parametrize("charset", [None, "utf-8", "iso-8859-1", "utf-16"])
@pytest.mark.parametrize("named", ["", ' encoding="utf-8"', ' encoding="iso-8859-1"'])
def test_the_encoding_is_the_same(charset: str | None, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        f'<?xml version="1.0"{named}?><methodCall><methodName>m</methodName>'
        "<params><param><value>é</value></param></params></methodCall>"
    )
    codec = XMLRPC(max_depth=DEPTH, max_batch=1)
    for encoding in ("utf-8", "latin-1"):
        body = text.encode(encoding)
        first = codec.decode(body, charset)
        with monkeypatch.context() as patch:
            patch.setattr("gateway.codecs.xmlrpc.compiled", None)
            second = codec.decode(body, charset)
        assert first == second or (isinstance(first, InvalidCall) and repr(first) == repr(second))


def test_broken_utf8_and_forbidden_characters_are_left_to_python() -> None:
    frame = CALL_FRAME.replace(b"%b", b"<value>%b</value>")
    bad = [
        b"\xff",
        b"\xc3",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xef\xbf\xbe",
        b"a\xef\xbf\xbf&amp;",
        b"\x0c",
    ]
    if COMPILED is not None:
        for text in (*bad, b"&", b"&#65;", b"&nbsp;", b"&am", b">", b"]]>", b"\r"):
            assert COMPILED.read_call(frame % text, DEPTH) is None
        assert COMPILED.read_call(frame % "\ufffd\uffee&amp;é".encode(), DEPTH) == ("m", ["\ufffd\uffee&é"])


def test_every_beginning_of_a_document_is_left_to_python() -> None:
    if COMPILED is not None:
        for text in (*CALLS, *ANSWERS):
            body = text.strip().encode()
            read = COMPILED.read_answer if b"methodResponse" in body else COMPILED.read_call
            assert read(body, DEPTH) is not None
            for end in range(len(body)):
                assert read(body[:end], DEPTH) is None
            assert read(body + b"x", DEPTH) is None


def exercise(codec: Compiled) -> None:
    """Have the compiled codec read and write everything once, wrong things too."""
    chance = random.Random(7)
    for text in (*CALLS, *ANSWERS):
        for changed in (text, *(mutated(text, chance) for _ in range(20))):
            body = changed.encode("utf-8", "surrogatepass")
            codec.read_call(body, DEPTH)
            codec.read_answer(body, DEPTH)
            codec.read_call(body, 2)
    for tag, text, _ in READ:
        codec.read_call(scalar_call(tag, text), DEPTH)
    deep: Any = []
    for _ in range(60):
        deep = [deep]
    for depth in (100, 50):
        answer = codec.write_value(deep, depth, ROOM, NIL, True)
        codec.read_call(CALL_FRAME % (answer or b""), depth)
    for value in (*PLAIN, *ODD, "a" * 2000, ["a" * 2000, object()], [PLAIN], {"a": [ODD]}, {"a": {"b": ["é&" * 2000]}}):
        codec.write_value(value, DEPTH, ROOM, NIL, True)
        codec.write_value(value, DEPTH, 100, None, False)


def traced() -> int:
    """Return how many bytes there are that were taken by lines of this file, and not by other threads."""
    gc.collect()
    snapshot = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, __file__)])
    return sum(trace.size for trace in snapshot.traces)


def test_no_memory_is_lost() -> None:
    if COMPILED is None:
        return
    shared = (None, True, False, "", b"", ())
    tracemalloc.start()
    for _ in range(2):  # the first time is for what measures coverage: it notes each line
        before, references = traced(), [sys.getrefcount(each) for each in shared]
        for _ in range(20):
            exercise(COMPILED)
    after = traced()
    tracemalloc.stop()
    assert after - before < 400
    assert all(abs(sys.getrefcount(each) - old) < 20 for each, old in zip(shared, references, strict=True))


def test_a_call_needs_a_name() -> None:
    if COMPILED is not None:
        assert COMPILED.read_call(CALL_FRAME.replace(b"m</methodName>", b"</methodName>") % b"<value/>", DEPTH) is None
        assert COMPILED.read_call(b"<methodCall><methodName> </methodName></methodCall>", DEPTH) is None
        assert COMPILED.read_call(b"<methodCall><methodName> a </methodName></methodCall>", DEPTH) == ("a", [])


def test_no_memory_is_an_error_and_nothing_else() -> None:
    if COMPILED is None or _testcapi is None:
        return
    deep = b"<value><array><data>" * 60 + b"</data></array></value>" * 60
    value: Any = ["é&" * 2000, 1.1, 1 / 3, [[], {"a": b"b"}]]
    for _ in range(60):
        value = [value]
    work: list[tuple[Any, tuple[Any, ...]]] = [
        *((COMPILED.read_call, (text.strip().encode(), DEPTH)) for text in CALLS),
        *((COMPILED.read_answer, (text.strip().encode(), DEPTH)) for text in ANSWERS),
        (COMPILED.read_call, (CALL_FRAME % deep, 64)),
        (COMPILED.write_value, (value, 64, ROOM, NIL, True)),
    ]
    for function, arguments in work:
        expected, failures = repr(function(*arguments)), 0
        for allocation in range(100):
            _testcapi.set_nomemory(allocation, allocation + 1)
            try:
                found = function(*arguments)
            except MemoryError:
                failures += 1
                continue
            finally:
                _testcapi.remove_mem_hooks()
            assert repr(found) == expected
        assert failures > 0


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("read_call", ()),
        ("read_call", ("text", 1)),
        ("read_call", (b"", "1")),
        ("read_call", (b"", 2**70)),
        ("read_answer", (b"", 1, 1)),
        ("write_value", (1, 1, 1, "nil", True)),
        ("write_value", (1, 1, 1, None)),
        ("write_value", (1, "1", 1, None, True)),
        ("write_value", (1, 1, "1", None, True)),
    ],
)
def test_wrong_arguments_are_refused(function: str, arguments: tuple[Any, ...]) -> None:
    if COMPILED is not None:
        with pytest.raises((TypeError, OverflowError)):
            getattr(COMPILED, function)(*arguments)


def test_the_codec_reads_and_writes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    if COMPILED is None:
        return
    monkeypatch.setattr("gateway.codecs.xmlrpc.compiled", COMPILED)
    for module in ("read_text", "usual.read_call", "usual.read_answer", "XMLRPC._say"):
        monkeypatch.setattr(f"gateway.codecs.xmlrpc.{module}", None)
    codec = XMLRPC(max_depth=DEPTH, max_batch=1)
    call = codec.encode_call("a.b", [1, {"a": [None]}])
    assert codec.decode(call, None) == Call(method="a.b", params=[1, {"a": [None]}])
    answer = codec.single(codec.encode(Call(method="m", params=[]), Reply(value=[1.5]), ROOM))
    assert codec.decode_answer(answer, "utf-8") == (None, Reply(value=[1.5]))


def test_faults_are_those_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = XMLRPC(max_depth=DEPTH, max_batch=1, none="fault")
    for value in (None, {"a": [1, "\0"]}, [2**70], ["x" * 100] * 10):
        answers = []
        for chosen in (COMPILED, None):
            monkeypatch.setattr("gateway.codecs.xmlrpc.compiled", chosen)
            answer = codec.encode(Call(method="m", params=[]), Reply(value=value), 500)
            assert isinstance(answer.fault, Fault)
            answers.append((answer.wire, answer.fault.code, answer.fault.message))
        assert answers[0] == answers[1]
