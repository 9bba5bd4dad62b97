"""The readers of usual documents against the one that reads all: what they read, that one reads likewise.

``FUZZ`` is the number of mutated documents, 5,000 without it; ``make fuzz`` takes 300,000.
"""

import os
import random
import xmlrpc.client
from collections import Counter
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given

from gateway.codecs.contract import at_once
from gateway.codecs.xmlrpc import XMLRPC, document, usual
from gateway.codecs.xmlrpc.text import read_text
from gateway.model.calls import Call, Reply
from gateway.model.faults import GatewayFault
from tests.codecs.compiled import COMPILED
from tests.codecs.test_properties import SEEDS, XML_VALUES, fixed

pytestmark = pytest.mark.unmeasured

DEPTH = 8
CODEC = XMLRPC(max_depth=DEPTH, max_batch=100)
PIECES = [
    *("<", ">", "&", "&amp;", "&#13;", "]]>", "\r", "\r\n", " ", "\t", "\0", "\x0b", "\x0c", "\x85", "\u2028"),
    *("<!--c-->", "<?p i?>", "<![CDATA[c]]>", "<nil/>", "<value/>", "<string/>", "<params/>", "<data/>", "<struct/>"),
    *("<int>", "</int>", "<i4>", "</i4>", "<i8>7</i8>", "<value>", "</value>", "<double>1e5</double>", "<nil></nil>"),
    *("<array><data>", "</data></array>", "<struct>", "</struct>", "<member><name>a</name>", "</member>", " a='b'"),
    *(
        '<?xml version="1.0"?>',
        "<?xml version='1.0' encoding=\"utf-8'?>",
        "<?xmlversion='1.0'?>",
        "1",
        "-",
        "+1",
        "1.5",
    ),
    *("\u0663", "\ufffe", "\ue000"),
]
READ = Counter[str]()  # how many documents the compiled reader has read
NESTED: list[Any] = [None, [], {}, [[1], {}], {"a": [{}]}]
CALLS = [
    *(xmlrpc.client.dumps(params, "a.b") for params in ((), (7, 3), ("a<&>\"'é\U0001f600", True, -1.5, b"bytes"))),
    *(xmlrpc.client.dumps((value,), "m", encoding="utf-8", allow_none=True) for value in NESTED),
    xmlrpc.client.dumps((datetime(2026, 11, 29, 12), {"<&>": "\n\t x "}), "m"),
    "<methodCall><methodName>m</methodName></methodCall>",
    "<methodCall><methodName> m </methodName><params/></methodCall>",
    "<methodCall><methodName>m</methodName><params><param><value>untyped</value></param>"
    "<param><value></value></param><param><value><i4>1</i4></value></param></params></methodCall>",
]
ANSWERS = [
    call.replace("methodCall", "methodResponse").replace("<methodName>m</methodName>", "")
    for call in CALLS
    if ">m<" in call and call.count("<param>") == 1
]


def read_by_both(text: str, max_depth: int = DEPTH) -> tuple[str | None, str | None]:
    """Return what the readers in Python make of a document, None for nothing, and hold the compiled one to it."""
    try:
        text = read_text(text.encode("utf-8", "surrogatepass"), "utf-8")
    except GatewayFault:
        return None, None
    read: Any = (lambda *of: at_once(document.read_call(*of)), usual.read_call)
    if "methodResponse>" in text:
        read = (lambda *of: [at_once(document.read_answer(*of)).value], usual.read_answer)
    try:
        whole = repr(read[0](text, max_depth))
    except GatewayFault:
        whole = None
    found = at_once(read[1](text, max_depth))
    if COMPILED is not None:
        same = (COMPILED.read_answer if "methodResponse>" in text else COMPILED.read_call)(text.encode(), max_depth)
        assert same is None or repr(same) == whole, text
        READ["compiled"] += same is not None
    return whole, None if found is None else repr(found)


def mutated(text: str, chance: random.Random) -> str:
    """Change a document in one to three places: half of the time behind a tag, by a character that may fit there."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        start = chance.randrange(len(text) + 1)
        if chance.random() < 0.5:
            start = text.find(">", start) + 1
            text = text[:start] + chance.choice(" \n019.-aT") + text[start:]
        else:
            end = min(len(text), start + chance.choice((0, 0, 1, 1, 2, 7, 20)))
            text = text[:start] + chance.choice([*PIECES, text[end : end + 12], ""]) + text[end:]
    return text


@pytest.mark.parametrize("text", [*CALLS, *ANSWERS])
def test_usual_documents_are_read(text: str) -> None:
    whole, found = read_by_both(text)
    assert found is not None
    assert found == whole


def test_what_the_corpus_has_is_read_likewise_or_not_at_all() -> None:
    texts = [body.decode("utf-8", "surrogateescape") for body in SEEDS["xmlrpc"]]
    results = [read_by_both(text.encode("utf-8", "replace").decode()) for text in texts]
    assert [found for whole, found in results if found not in (None, whole)] == []
    assert sum(found is not None for _, found in results) > 40


def test_mutated_documents_are_read_likewise_or_not_at_all() -> None:
    chance = random.Random(20261129)
    seeds = [*CALLS, *ANSWERS]
    read = 0
    READ.clear()
    for _ in range(int(os.environ.get("FUZZ", "5000"))):
        text = mutated(chance.choice(seeds), chance)
        whole, found = read_by_both(text)
        assert found in (None, whole), text
        read += found is not None
    assert read > 400
    assert COMPILED is None or READ["compiled"] > 0.9 * read


@fixed(100)
@given(XML_VALUES)
def test_what_we_write_is_usual(value: Any) -> None:
    codec = XMLRPC(max_depth=64, max_batch=1)
    answer = codec.single(codec.encode(Call(method="m", params=[]), Reply(value=value), 2**24)).decode()
    found = at_once(usual.read_answer(answer, 64))
    if "&#13;" in answer:
        assert found is None
    else:
        assert repr(found) == repr([at_once(document.read_answer(answer, 64)).value])


@pytest.mark.parametrize(("opened", "closed"), [("<array><data>", "</data></array>"), ("<struct>", "</struct>")])
@pytest.mark.parametrize("levels", [DEPTH - 2, DEPTH - 1, DEPTH, DEPTH + 1])
def test_depth_is_the_same(opened: str, closed: str, levels: int) -> None:
    member = ("<member><name>a</name>", "</member>") if "struct" in opened else ("", "")
    inner = "<value>x</value>"
    for _ in range(levels):
        inner = f"<value>{opened}{member[0]}{inner}{member[1]}{closed}</value>"
    text = f"<methodCall><methodName>m</methodName><params><param>{inner}</param></params></methodCall>"
    whole, found = read_by_both(text)
    assert found in (None, whole)
    assert (found is None) == (levels > DEPTH - 1)


def test_the_codec_reads_usual_calls_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xml.parsers.expat.ParserCreate", None)
    decoded = CODEC.decode(CALLS[1].encode(), None)
    assert isinstance(decoded, Call)
    assert (decoded.method, decoded.params) == ("a.b", [7, 3])
    answer = CODEC.single(CODEC.encode(decoded, Reply(value={"a": [1]}), 1000))
    assert CODEC.decode_answer(answer) == (None, Reply(value={"a": [1]}))


@pytest.mark.parametrize(
    "inside",
    [
        "<param><value><struct>{0}{0}</struct></value></param>".format(
            "<member><name>a</name><value>1</value></member>"
        ),
        "<param><value>1</value></param><param><value><array><data>",
        "<param><value><struct>",
        "<param><value>1</value>",
        "<param><value>1</value></param><param><value>2</value></param>",
        "",
    ],
)
def test_what_an_answer_cannot_be_is_left_to_the_other_reader(inside: str) -> None:
    text = f"<methodResponse><params>{inside}</params></methodResponse>"
    assert read_by_both(text) == (None, None)
