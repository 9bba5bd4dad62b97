"""The repository's own handlers: called as the plain functions that they are, and over both protocols."""

import asyncio
import functools
import sqlite3
import tempfile
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway import Context, Fault, InvalidParams
from gateway.methods.loading import load_registry
from gateway.model.calls import Caller
from handlers import calculator, greeting, objects, phonebook, sleeping, validator1
from tests.raw_http import post
from tests.serving import Server, serving

pytestmark = pytest.mark.unmeasured

HUGE = 10**400
STOOGES = {"moe": 1, "larry": -2, "curly": 3}
DATE = datetime(2024, 2, 29, 12, 34, 56)
CALENDAR = {"2000": {"04": {"01": STOOGES, "02": {}}, "05": {}}, "1999": {}}
ENTITIES = {"ctLeftAngleBrackets": 2, "ctRightAngleBrackets": 1, "ctAmpersands": 3, "ctApostrophes": 0, "ctQuotes": 1}
STRUCT = "params[0].2000.04.01: expected a struct with moe, larry and curly"
NOT_A_NUMBER = "params[1]: expected int | float, got "

# name, function, arguments, and the result or the fault that comes of them
CALLS: list[tuple[str, Callable[..., Any], list[Any], Any]] = [
    ("add", calculator.add, [10, 5], 15),
    ("add", calculator.add, [1.5, 1], 2.5),
    ("subtract", calculator.subtract, [10, 5], 5),
    ("multiply", calculator.multiply, [10, 5], 50),
    ("divide", calculator.divide, [10, 5], 2.0),
    ("divide", calculator.divide, [7, 3], 7 / 3),
    ("divide", calculator.divide, [7, 0], Fault(1, "division by zero")),
    ("divide", calculator.divide, [7, 0.0], Fault(1, "division by zero")),
    ("square", calculator.square, [9], 3.0),
    ("square", calculator.square, [2.25], 1.5),
    ("square", calculator.square, [-1], Fault(2, "a negative number has no real square root")),
    ("woca", greeting.woca, [], "Hello, world!"),
    ("woca", greeting.woca, ["Ada"], "Hello, Ada!"),
    ("woca", greeting.woca, [""], Fault(1, "a name is needed")),
    ("echo", greeting.echo, ["hello world"], "hello world"),
    ("echo", greeting.echo, [[1, {"a": None}]], [1, {"a": None}]),
    ("sleep", sleeping.sleep, [0], "done"),
    ("sleep", sleeping.sleep, [0.01], "done"),
    ("validator1.arrayOfStructsTest", validator1.array_of_structs, [[STOOGES, STOOGES | {"shemp": 4}]], 6),
    ("validator1.arrayOfStructsTest", validator1.array_of_structs, [[]], 0),
    ("validator1.countTheEntities", validator1.count_the_entities, ['<<a>&&&"'], ENTITIES),
    ("validator1.easyStructTest", validator1.easy_struct, [STOOGES], 2),
    ("validator1.echoStructTest", validator1.echo_struct, [{"a": [1], "": {}}], {"a": [1], "": {}}),
    ("validator1.moderateSizeArrayCheck", validator1.moderate_size_array, [["a", "b", "c"]], "ac"),
    ("validator1.moderateSizeArrayCheck", validator1.moderate_size_array, [["a"]], "aa"),
    (
        "validator1.moderateSizeArrayCheck",
        validator1.moderate_size_array,
        [[]],
        InvalidParams("params[0]: expected at least one string"),
    ),
    ("validator1.nestedStructTest", validator1.nested_struct, [CALENDAR], 2),
    ("validator1.nestedStructTest", validator1.nested_struct, [{"2000": {"04": {}}}], InvalidParams(STRUCT)),
    (
        "validator1.nestedStructTest",
        validator1.nested_struct,
        [{"2000": {"04": {"01": {"moe": "1", "larry": "2", "curly": "3"}}}}],
        InvalidParams(STRUCT),
    ),
    (
        "validator1.simpleStructReturnTest",
        validator1.simple_struct_return,
        [7],
        {"times10": 70, "times100": 700, "times1000": 7000},
    ),
]
REFUSED: list[tuple[str, list[Any], str]] = [
    ("add", [1, "2"], f"{NOT_A_NUMBER}str"),
    ("divide", [1, True], f"{NOT_A_NUMBER}bool"),
    ("multiply", [1, None], f"{NOT_A_NUMBER}null"),
    ("subtract", [1], "params.b: missing"),
    ("square", [1, 2], "params[1]: one too many, it takes 1 at most"),
    ("woca", [None], "params[0]: expected str, got null"),
    ("echo", [], "params.value: missing"),
    ("sleep", [-0.001], "params[0]: expected float >= 0.0"),
    ("sleep", [-1], "params[0]: expected float >= 0.0"),
    ("sleep", [20.001], "params[0]: expected float <= 20.0"),
    ("sleep", [21], "params[0]: expected float <= 20.0"),
    ("sleep", ["1"], "params[0]: expected float, got str"),
    ("sleep", [True], "params[0]: expected float, got bool"),
    ("sleep", [], "params.seconds: missing"),
    ("asyncSleep", [-0.001], "params[0]: expected float >= 0.0"),
    ("asyncSleep", [-1], "params[0]: expected float >= 0.0"),
    ("asyncSleep", [20.001], "params[0]: expected float <= 20.0"),
    ("asyncSleep", [21], "params[0]: expected float <= 20.0"),
    ("asyncSleep", ["1"], "params[0]: expected float, got str"),
    ("asyncSleep", [True], "params[0]: expected float, got bool"),
    ("asyncSleep", [], "params.seconds: missing"),
    ("timeLeft", [1], "params[0]: one too many, it takes 0 at most"),
    ("getObj", [1], "params[0]: one too many, it takes 0 at most"),
    ("sendObj", [], "params.data: missing"),
    ("search", [1843], "params[0]: expected str | null, got int"),
    ("search", [], "give at least one of number, last_name and first_name"),
    ("search", [None, None, None], "give at least one of number, last_name and first_name"),
    ("validator1.easyStructTest", [{"moe": 1, "larry": 2}], "params[0]: object missing required field curly"),
    ("validator1.arrayOfStructsTest", [[STOOGES, {"moe": "1"}]], "params[0][1].moe: expected int, got str"),
    ("validator1.echoStructTest", [[]], "params[0]: expected object, got array"),
    ("validator1.manyTypesTest", [1, 1], "params[1]: expected bool, got int"),
]


@pytest.fixture(scope="module")
def phonebook_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("phonebook") / "people.sqlite"
        patch.setenv("PHONEBOOK", str(path))
        yield path


@pytest.fixture(scope="module")
def server(phonebook_file: Path) -> Iterator[Server]:
    with serving(load_registry(["handlers"])) as server:
        yield server


def call_jsonrpc(server: Server, name: str, params: list[Any] | dict[str, Any]) -> Any:
    body = msgspec.json.encode({"jsonrpc": "2.0", "method": name, "params": params, "id": 1})
    answer = msgspec.json.decode(post(server.port, body).body)
    if "error" in answer:
        error = answer["error"]
        detail = error["data"]["detail"] if "data" in error else error["message"]
        raise xmlrpc.client.Fault(error["code"], detail)
    return answer["result"]


def call_xmlrpc(server: Server, name: str, params: list[Any]) -> Any:
    body = xmlrpc.client.dumps(tuple(params), name, allow_none=True).encode()
    try:
        (result,), _ = xmlrpc.client.loads(post(server.port, body, "text/xml").body, use_builtin_types=True)
    except xmlrpc.client.Fault as fault:
        fault.faultString = fault.faultString.removeprefix("Invalid params: ")
        raise
    return result


BOTH = [call_jsonrpc, call_xmlrpc]


@pytest.mark.parametrize(("name", "function", "params", "expected"), CALLS)
def test_a_handler_is_a_plain_function(
    name: str, function: Callable[..., Any], params: list[Any], expected: Any
) -> None:
    if isinstance(expected, Fault):
        with pytest.raises(type(expected)) as raised:
            function(*params)
        assert (raised.value.code, raised.value.detail) == (expected.code, expected.detail)
    else:
        assert function(*params) == expected


@pytest.mark.parametrize("call", BOTH)
@pytest.mark.parametrize(
    ("name", "params", "expected"), [(name, params, expected) for name, _, params, expected in CALLS]
)
def test_a_handler_answers_both_protocols(
    server: Server, name: str, params: list[Any], expected: Any, call: Callable[..., Any]
) -> None:
    if isinstance(expected, Fault):
        with pytest.raises(xmlrpc.client.Fault) as raised:
            call(server, name, params)
        assert (raised.value.faultCode, raised.value.faultString) == (expected.code, expected.detail)
    else:
        assert call(server, name, params) == expected


@pytest.mark.parametrize("call", BOTH)
@pytest.mark.parametrize(("name", "params", "message"), REFUSED)
def test_what_does_not_fit_never_reaches_a_handler(
    server: Server, name: str, params: list[Any], message: str, call: Callable[..., Any]
) -> None:
    with pytest.raises(xmlrpc.client.Fault) as raised:
        call(server, name, params)
    assert (raised.value.faultCode, raised.value.faultString) == (-32602, message)


@pytest.mark.parametrize(
    ("function", "params", "message"),
    [
        (calculator.divide, [HUGE, 3], "the quotient is too large for a double"),
        (calculator.square, [HUGE], "the number is too large for a double"),
    ],
)
def test_numbers_beyond_a_double_are_a_fault(
    server: Server, function: Callable[..., Any], params: list[Any], message: str
) -> None:
    with pytest.raises(Fault, match=message):
        function(*params)
    with pytest.raises(xmlrpc.client.Fault, match=message):
        call_jsonrpc(server, function.__name__, params)


def test_every_handler_is_served(server: Server) -> None:
    listed = {
        name for name in call_xmlrpc(server, "system.listMethods", []) if not name.startswith(("system.", "rpc."))
    }
    unlisted = {"asyncSleep", "timeLeft", "getObj", "sendObj", "search", "validator1.manyTypesTest"}
    assert listed == {name for name, *_ in CALLS} | unlisted
    assert all(call_jsonrpc(server, "system.methodHelp", [name]) for name in listed)


def test_many_types_come_back_in_an_array(server: Server) -> None:
    params = [1, True, "a", 1.5, DATE, b"raw"]
    assert validator1.many_types(1, True, "a", 1.5, DATE, b"raw") == params
    assert call_xmlrpc(server, "validator1.manyTypesTest", params) == params
    said = [1, True, "a", 1.5, "2024-02-29T12:34:56", "cmF3"]
    assert call_jsonrpc(server, "validator1.manyTypesTest", said) == said


# ---- waiting ---------------------------------------------------------------------------------------------------------


def test_waiting_is_a_plain_function_too() -> None:
    assert asyncio.run(sleeping.async_sleep(0)) == "done"
    context = Context(
        protocol="jsonrpc",
        method="timeLeft",
        caller=Caller(client=""),
        headers={},
        request_id="",
        position=None,
        arrival=0,
        deadline=time.monotonic() + 50,
    )
    assert 0 < sleeping.time_left(context) <= 50


@pytest.mark.parametrize("call", BOTH)
def test_waiting_answers_both_protocols(server: Server, call: Callable[..., Any]) -> None:
    assert call(server, "asyncSleep", [0.01]) == "done"
    assert 0 < call(server, "timeLeft", []) <= 30


# ---- one object for all ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [None, 5, "a", [1, [2]], {"a": {"b": None}}])
def test_an_object_that_is_sent_by_one_protocol_is_got_by_the_other(server: Server, data: Any) -> None:
    assert call_xmlrpc(server, "sendObj", [data]) is True
    assert call_jsonrpc(server, "getObj", []) == data == objects.get_object()
    assert objects.send_object([data]) is True
    assert call_xmlrpc(server, "getObj", []) == [data]


# ---- the phone book --------------------------------------------------------------------------------------------------

GUIDO = {"id": 1, "last_name": "Python", "first_name": "Guido", "number": "1991"}
MONTY = {"id": 2, "last_name": "Python", "first_name": "Monty", "number": "1969"}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"last_name": "Python"}, [GUIDO, MONTY]),
        ({"last_name": "Python", "first_name": "Monty"}, [MONTY]),
        ({"number": "1991"}, [GUIDO]),
        ({"number": "1991", "last_name": None, "first_name": None}, [GUIDO]),
        ({"number": "1991", "first_name": "Monty"}, []),
        ({"last_name": "python"}, []),
        ({"last_name": ""}, []),
    ],
)
def test_a_search_finds_who_has_all_of_it(server: Server, wanted: dict[str, Any], found: list[Any]) -> None:
    assert [msgspec.to_builtins(person) for person in phonebook.search(**wanted)] == found
    assert call_jsonrpc(server, "search", wanted) == found
    by_position = [wanted.get(name) for name in ("number", "last_name", "first_name")]
    assert call_jsonrpc(server, "search", by_position) == found
    assert call_xmlrpc(server, "search", by_position) == found


@pytest.mark.parametrize(
    "text",
    [
        "' OR '1'='1",
        "' OR 1=1 --",
        "Python' --",
        "Python'; DROP TABLE people; --",
        "'; UPDATE people SET number = '0' WHERE '1'='1",
        "' UNION SELECT id, sql, name, type FROM sqlite_master --",
        '" OR ""="',
        "Python\\",
        ":last_name",
        "?",
        "%",
        "P_thon",
        "*",
    ],
)
def test_what_looks_like_sql_is_only_a_name_that_nobody_has(server: Server, text: str, phonebook_file: Path) -> None:
    before = rows(phonebook_file)
    for place in range(3):
        params = [text if place == each else None for each in range(3)]
        assert phonebook.search(*params) == call_jsonrpc(server, "search", params) == []
        assert call_xmlrpc(server, "search", params) == []
    with pytest.raises(xmlrpc.client.Fault) as raised:
        call_jsonrpc(server, "search", {f"last_name = '' {text}": "Python"})
    assert raised.value.faultCode == -32602
    assert rows(phonebook_file) == before
    assert len(before) == 4


def rows(path: Path) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT * FROM people ORDER BY id").fetchall()
    finally:
        connection.close()


def test_a_new_phone_book_is_filled_once_in_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PHONEBOOK", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(phonebook, "_folder", functools.cache(phonebook._folder.__wrapped__))
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: phonebook.search(last_name="Python"), range(24)))
    assert [len(people) for people in found] == [2] * 24
    (folder,) = tmp_path.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    assert len(rows(folder / "phonebook.sqlite")) == 4
