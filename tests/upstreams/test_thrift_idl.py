"""Our reader of .thrift files: the whole language, what is wrong told with its place, and bounds."""

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstreams import Signature, UpstreamConfigError
from gateway.upstreams.thrift.hints import signature
from gateway.upstreams.thrift.idl import load
from gateway.upstreams.thrift.lexing import IdlError
from gateway.upstreams.thrift.linking import Linker, functions
from gateway.upstreams.thrift.parsing import parse
from gateway.upstreams.thrift.scopes import Program
from gateway.upstreams.thrift.types import Enum, Record, ThriftMethod
from tests.codecs.test_properties import fuzzed

HERE = Path(__file__).parent
LANGUAGE = HERE / "language.thrift"
INCLUDED = str(HERE / "included")


@pytest.fixture(scope="module")
def methods() -> dict[str, ThriftMethod]:
    return load(str(LANGUAGE), "Second", (INCLUDED,))


def test_apaches_compiler_reads_the_file_of_the_tests(tmp_path: Path) -> None:
    subprocess.run(
        [shutil.which("thrift") or "", "-I", INCLUDED, "--gen", "json", "-out", str(tmp_path), str(LANGUAGE)],
        check=True,
    )


def test_methods_with_those_of_the_services_above(methods: dict[str, ThriftMethod]) -> None:
    own = ["nothing", "leave", "leave_again", "add", "said", "undescribed", "color", "everything", "chosen"]
    assert list(methods) == ["counted", *own, "point", "alive"]
    assert [name for name, method in methods.items() if method.oneway] == ["leave", "leave_again"]
    assert shape(methods["add"].args) == {1: ("a", "i64", True), 2: ("b", "i64", False)}
    assert shape(methods["said"].args) == {1: ("name", "string", True), 2: ("often", "i32", False)}
    assert shape(methods["undescribed"].args) == {-1: ("one", "i32", True), -2: ("two", "i32", True)}
    assert {number: field.type.word for number, field in methods["add"].reply.fields.items()} == {
        0: "i64",
        1: "Trouble",
        2: "Worse",
    }
    assert methods["nothing"].reply.fields == {}
    assert shape(methods["counted"].args) == {1: ("choice", "Choice", True)}


def test_a_method_that_is_defined_again_replaces_that_of_the_service_above() -> None:
    read = read_text("service S extends T { i32 f() } service T { void f() }")
    assert list(read["f"].reply.fields) == [0]


def shape(record: Record) -> dict[int, tuple[str, str, bool]]:
    return {number: (field.name, field.type.word, field.required) for number, field in record.fields.items()}


def struct(methods: dict[str, ThriftMethod], name: str = "") -> Record:
    everything = methods["everything"].args.fields[1].type
    assert isinstance(everything, Record)
    found = next((field.type for field in everything.fields.values() if field.name == name), everything)
    assert isinstance(found, Record)
    return found


def test_types_of_fields(methods: dict[str, ThriftMethod]) -> None:
    everything = struct(methods)
    words = {field.name: field.type.word for field in everything.fields.values()}
    assert list(everything.fields) == list(range(1, 33))
    assert words == {
        "must": "i32",
        "may": "i64",
        "real": "double",
        "text": "string",
        "data": "binary",
        "truth": "bool",
        "tiny": "i8",
        "old": "i8",
        "small": "i16",
        "old_text": "string",
        "color": "Color",
        "number": "Color",
        "mood": "Mood",
        "aliased": "Mood",
        "mapped": "map<i32,string>",
        "members": "set<string>",
        "items": "list<i32>",
        "itself": "Everything",
        "later": "Later",
        "alias_text": "string",
        "children": "list<Everything>",
        "named": "map<string,Everything>",
        "choice": "Choice",
        "xsd": "i32",
        "kept": "string",
        "laters": "list<Later>",
        "nested": "map<string,list<set<i32>>>",
        "braces": "set<i32>",
        "by_color": "map<Color,bool>",
        "by_truth": "map<bool,double>",
        "by_list": "map<list<i32>,i32>",
        "whole": "double",
    }
    assert struct(methods, "itself") is everything
    assert [field.name for field in everything.fields.values() if field.required] == ["must", "kept"]
    assert struct(methods, "choice").union
    assert struct(methods, "later").fields[2].type.word == "i32"


def test_defaults(methods: dict[str, ThriftMethod]) -> None:
    defaults = {field.name: field.default for field in struct(methods).fields.values() if field.default is not ...}
    assert repr(defaults) == repr(
        {
            "may": 2**63 - 1,
            "real": 2.0,
            "text": "t",
            "data": b"bytes",
            "truth": False,
            "tiny": -8,
            "old": 9,
            "small": -31,
            "color": "RED",
            "number": "RED",
            "mood": "CALM",
            "aliased": "WILD",
            "mapped": {"1": "one"},
            "members": ["a", 'it\'s "here"\n\t\\'],
            "items": [1, 7, 3],
            "later": {"name": "x", "id": 9},
            "alias_text": "one",
            "children": [],
            "named": {},
            "choice": {"number": 3},
            "kept": "spoken",
            "braces": [],
            "by_color": {"RED": True, "BLUE": False},
            "by_truth": {"true": 1.0, "false": -0.0015},
            "by_list": [[[1], 2]],
            "whole": 3.0,
        }
    )
    assert methods["everything"].args.fields[1].default == {"must": 1}
    assert methods["point"].args.fields[1].default == "WILD"


def test_enums_count_on_and_the_first_name_of_a_number_counts(methods: dict[str, ThriftMethod]) -> None:
    color = methods["color"].args.fields[1].type
    assert isinstance(color, Enum)
    assert color.numbers == {"NONE": 0, "RED": 16, "GREEN": 17, "BLUE": -3, "BELOW": -2, "CRIMSON": 16}
    assert color.names[16] == "RED"


def test_fields_without_numbers_count_down_as_the_compiler_does() -> None:
    read = read_text(
        "struct U { string a; 7: bool b; required bool c -4: i32 d 0: i32 e } service S { void f(1: U u) }"
    )
    assert shape(record(read["f"].args.fields[1].type)) == {
        -1: ("a", "string", False),
        7: ("b", "bool", False),
        -2: ("c", "bool", True),
        -3: ("d", "i32", False),
        -4: ("e", "i32", False),
    }


def record(kind: Any) -> Record:
    assert isinstance(kind, Record)
    return kind


def read_text(text: str) -> dict[str, ThriftMethod]:
    program = Program(parse("a.thrift", text), {}, {})
    linker = Linker()
    service = program.document.services.get("S")
    found = functions(program, service) if service is not None else {}
    return {name: linker.method(*function) for name, function in found.items()}


def test_comments(methods: dict[str, ThriftMethod]) -> None:
    docs = {name: method.doc for name, method in methods.items() if method.doc}
    assert docs == {
        "add": "Adds two numbers.\n\n  Indented, as it is.",
        "said": "Says it\nin two lines.",
        "everything": "In a block.",
        "alive": "Lives.",
    }
    assert [field.doc for field in methods["said"].args.fields.values()] == ["The name of somebody.", "How often"]
    where = record(methods["add"].reply.fields[2].type).fields[1].type
    assert record(where).doc == "A place."


def test_a_row_of_stars_is_not_a_comment() -> None:
    read = read_text("service S {\n/** Real. */\n/***/ void f()\n/* ----\n * Boxed.\n * ---- */\nvoid g()\n}")
    assert [method.doc for method in read.values()] == ["Real.", "Boxed."]


def test_tags_are_a_paragraph_of_their_own() -> None:
    read = read_text("service S {\n/** Adds.\n * @param a - one\n * @return both */\ni32 f(1: i32 a)\n}")
    assert signature(read["f"]).doc == "Adds.\n\n@param a - one\n@return both"


def test_comments_and_defaults_are_part_of_the_signature(methods: dict[str, ThriftMethod]) -> None:
    said: Signature = signature(methods["said"])
    assert said.doc == "Says it\nin two lines."
    assert said.params is not None
    assert [param.required for param in said.params] == [True, False]
    assert said.params[0].hint.__metadata__[0].description == "The name of somebody."
    assert signature(methods["add"]).doc == "Adds two numbers.\n\n  Indented, as it is.\n\nRaises Trouble, Worse."
    (value,) = signature(methods["everything"]).params or ()
    schema = value.hint.__metadata__[0].extra_json_schema
    assert schema["required"] == ["must"]
    assert schema["properties"]["data"] == {"type": "string", "contentEncoding": "base64", "default": "Ynl0ZXM="}
    (point,) = signature(methods["point"]).params or ()
    assert (point.required, point.default) == (False, "WILD")


def test_no_field_of_a_union_is_required() -> None:
    read = read_text("union U { 1: required i32 a 2: i32 b } service S { void f(1: U u) }")
    assert shape(record(read["f"].args.fields[1].type)) == {1: ("a", "i32", False), 2: ("b", "i32", False)}


def test_words_of_the_language_may_be_names() -> None:
    read = read_text(
        "struct service { 1: i32 namespace 2: required string required 3: list<i32> list = [] 4: bool optional }"
        "service S { service include(1: service struct) }"
    )
    assert [field.name for field in record(read["include"].args.fields[1].type).fields.values()] == [
        "namespace",
        "required",
        "list",
        "optional",
    ]


def test_defaults_may_name_constants_that_the_compiler_does_not_look_up() -> None:
    read = read_text(
        "struct R { 1: E e } enum E { A, B }"
        " const E BE = E.B const R IT = {'e': BE} const i32 ONE = BE const list<i32> L = [1; ONE 2]"
        " service S { void f(1: R a = IT, 2: E b = BE, 3: E c = B, 4: i32 d = E.B, 5: i32 e = ONE, 6: E f = 7,"
        " 7: list<i32> g = L) }"
    )
    assert [field.default for field in read["f"].args.fields.values()] == [{"e": "B"}, "B", "B", 1, 1, 7, [1, 1, 2]]


def test_types_of_old_files_are_strings() -> None:
    read = read_text("senum Old { 'one', \"two\"; } service S { void f(1: Old a = 'one', 2: slist b) }")
    assert shape(read["f"].args) == {1: ("a", "string", False), 2: ("b", "string", True)}


def test_headers_of_old_files_are_passed_over() -> None:
    headers = "cpp_namespace a.b php_namespace c py_module d.e xsd_namespace 'http://x' smalltalk_prefix F-g;"
    assert list(read_text(headers + "service S { void f() }; const i32 X = 1; include 'after.thrift'")) == ["f"]


def test_text_that_is_not_ascii(tmp_path: Path) -> None:
    file = tmp_path / "a.thrift"
    file.write_bytes(b"\xef\xbb\xbf// \xe9 in Latin-1\r\nservice S {\r\n /** gr\xc3\xbcn */\r\n void f()\r\n}")
    assert load(str(file), "")["f"].doc == "grün"


def test_escapes_that_the_compiler_does_not_know_stay() -> None:
    (field,) = read_text(r'service S { void f(1: string a = "\d\\n") }')["f"].args.fields.values()
    assert field.default == r"\d\n"


IN_S = "service S { void f(%s) }"
WRONG: dict[str, str] = {
    "struct A { 1: i32 a ": "1:21: expected a field, or '}', found the end of the file",
    "struct A {\n  1: i32\n}": "3:1: expected the name of a field, found '}'",
    "struct A { 1 i32 a }": "1:14: expected ':', found 'i32'",
    "struct A { 1: 5 a }": "1:15: expected a type, found '5'",
    "struct A { 1: list a }": "1:20: expected '<', found 'a'",
    "struct A { 1: map<i32> a }": "1:22: expected ',', found '>'",
    "struct A { 1: list cpp_type 5 <i32> a }": "1:29: expected a C++ type in quotes, found '5'",
    "struct A { 1: i32 a = } }": "1:23: expected a value, found '}'",
    "struct A { 1: i32 a (b = ) }": "1:26: expected the value of an annotation",
    "struct A { 1: i32 a ( }": "1:23: expected the name of an annotation, or ')', found '}'",
    "struct A { 1: i32 a.b }": "1:19: expected the name of a field: letters, digits and _, found 'a.b'",
    "struct A { 1: i32 a 1: i32 b }": "1:21: the number 1 is used for two fields: give b another one",
    "struct A { 1: i32 a 2: i32 a }": "1:28: the field a is defined twice: rename or remove one",
    "struct A { 32768: i32 a }": "1:12: the number 32768 of a field has more than 16 bits",
    "struct A { } enum A { }": "1:19: the type A is defined twice: rename or remove one",
    "const i32 A = 1 const i32 A = 1": "1:27: the constant A is defined twice: rename or remove one",
    "enum A { B, B }": "1:13: the value B is defined twice: rename or remove one",
    "enum A { B = 2147483648 }": "1:10: the value of B has more than 32 bits",
    "enum A { B = 2147483647, C }": "1:26: the value of C has more than 32 bits",
    "enum A { B = C }": "1:14: expected an int, found 'C'",
    "enum A { 5 }": "1:10: expected the name of a value, or '}', found '5'",
    "senum A { b }": "1:11: expected a text in quotes, or '}', found 'b'",
    "service S { void f() i32 f() }": "1:26: the method f is defined twice: rename or remove one",
    "service S { } service S { }": "1:23: the service S is defined twice: rename or remove one",
    "service S { 5 }": "1:13: expected the type of a method, or '}', found '5'",
    "service S extends { }": "1:19: expected the name of a service, found '{'",
    "x" * 41: f"1:1: expected a definition such as struct or service, found '{'x' * 40}'",
    "servise S { }": "1:1: expected a definition such as struct or service, found 'servise'",
    "}": "1:1: expected a definition such as struct or service, found '}'",
    "include nowhere": "1:9: expected the name of a file in quotes, found 'nowhere'",
    "namespace py 5": "1:1: expected a name after namespace",
    "namespace": "1:10: expected a language, found the end of the file",
    "const i64 A = 9223372036854775808": "1:15: the number 9223372036854775808 has more than 64 bits",
    "const i64 A = -0x8000000000000001": "1:15: the number -0x8000000000000001 has more than 64 bits",
    f"const i64 A = {'9' * 5000}": f"1:15: the number {'9' * 40} has more than 64 bits",
    "const double A = 1e999": "1:18: the number 1e999 is too large for a double",
    "const string A = 'open\n'": "1:18: the text has no end: close it with ' on the same line",
    '\n  /* "': "2:3: the comment has no end: close it with */",
    "struct A { 1: i32 é }": "1:19: the character 'é' is not allowed here",
    "const i32 A = -": "1:15: the character '-' is not allowed here",
    "service S extends T { }": "1:19: there is no service 'T'",
    "service S extends T { } service T extends S { }": "1:43: the service 'S' extends itself: remove one ",
    "service S extends S { }": "1:19: the service 'S' extends itself: remove one extends of the circle",
    IN_S % "1: Colour c" + "enum Color { RED }": "1:23: there is no type 'Colour'; did you mean Color?",
    IN_S % "1: other.Thing t": "1:23: 'other.Thing' is unknown: no included file has the name other.thrift",
    IN_S % "1: void v": "1:23: there is no type 'void'",
    IN_S % "1: A a" + "typedef B A typedef A B": "1:39: the typedef 'A' is defined by itself",
    IN_S % "1: A a" + "typedef list<A> A": "1:45: the typedef 'A' is defined by itself",
    "service S { void f() throws (1: i32 a) }": "1:33: i32 cannot be thrown: define it as an exception",
    "struct A { } service S { void f() throws (1: A a) }": "1:46: A cannot be thrown: define it as an exception",
    IN_S % "1: i32 a = 'x'": "1:31: the value ''x'' does not fit its type i32",
    IN_S % "1: i32 a = [1]": "1:31: the value '[' does not fit its type i32",
    IN_S % "1: i32 a = 1.0": "1:31: the value '1.0' does not fit its type i32",
    IN_S % "1: bool a = 'x'": "1:32: the value ''x'' does not fit its type bool",
    IN_S % "1: double a = 'x'": "1:34: the value ''x'' does not fit its type double",
    IN_S % "1: string a = 5": "1:34: the value '5' does not fit its type string",
    IN_S % "1: uuid a = 'x'": "1:32: the value ''x'' does not fit its type uuid",
    IN_S % "1: list<i32> a = {1: 2}": "1:37: the value '{' does not fit its type list<i32>",
    IN_S % "1: map<i32,i32> a = [1]": "1:40: the value '[' does not fit its type map<i32,i32>",
    IN_S % "1: E a = 'x'" + "enum E { A }": "1:29: the value ''x'' does not fit its type E",
    IN_S % "1: R a = 5" + "struct R { }": "1:29: the value '5' does not fit its type R",
    IN_S % "1: R a = {'b': 5}" + "struct R { }": "1:30: R has no field ''b''",
    IN_S % "1: i32 a = MANY" + "const i32 MANI = 1": "1:31: there is no constant 'MANY'; did you mean MANI?",
    IN_S % "1: E a = E.B" + "enum E { A }": "1:29: there is no constant 'E.B'",
    IN_S % "1: i32 a = R.B" + "struct R { }": "1:31: there is no constant 'R.B'",
    IN_S % "1: i32 a = A" + "const i32 A = B const i32 B = A": "nested too deeply: at most 64 levels are read",
}  # fmt: skip


@pytest.mark.parametrize(("text", "problem"), WRONG.items(), ids=range(len(WRONG)))
def test_what_is_wrong_is_told_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(IdlError) as raised:
        read_text(text)
    told = str(raised.value)
    assert told.startswith("a.thrift:")
    assert problem in told if problem.startswith("nested") else told.removeprefix("a.thrift:").startswith(problem)


def doubled(count: int, first: str, line: str) -> str:
    """Write definitions each of which has the one before twice."""
    return first + " ".join(line.format(new=index, old=index - 1) for index in range(1, count))


TOO_DEEP = "nested too deeply: at most 64 levels"
TOO_MUCH: list[tuple[str, str]] = [
    (IN_S % f"1: {'list<' * 65}i32{'>' * 65} a", TOO_DEEP),
    (IN_S % f"1: i32 a = {'[' * 100_000}", TOO_DEEP),
    ("struct A { " + "1: i32 a xsd_attrs { " * 65, TOO_DEEP),
    (IN_S % "1: A99 a" + doubled(100, "typedef i32 A0 ", "typedef list<A{old}> A{new}"), TOO_DEEP),
    (
        IN_S % "1: A30 a" + doubled(31, "typedef i32 A0 ", "typedef map<A{old},A{old}> A{new}"),
        "the type has more than 200 parts",
    ),
    (
        IN_S % "1: R a = A25"
        + "struct R { 1: R l 2: R r }"
        + doubled(26, "const R A0 = {} ", "const R A{new} = {{'l': A{old}, 'r': A{old}}}"),
        "the defaults have more than 100000 values",
    ),
]


@pytest.mark.parametrize(("text", "problem"), TOO_MUCH, ids=range(len(TOO_MUCH)))
def test_small_files_that_would_become_large(text: str, problem: str) -> None:
    with pytest.raises(IdlError) as raised:
        read_text(text)
    assert problem in str(raised.value)


def test_a_type_with_many_parts_may_be_many_times_in_a_file() -> None:
    fields = " ".join(f"{index}: map<i32, list<i32>> f{index}" for index in range(1, 300))
    assert len(record(read_text(IN_S % "1: A a" + f"struct A {{ {fields} }}")["f"].args.fields[1].type).fields) == 299


def test_a_long_chain_of_structs_is_read() -> None:
    chain = " ".join(f"struct A{index} {{ 1: A{index + 1} next }}" for index in range(3000))
    assert list(read_text(chain + "struct A3000 { } service S { void f(1: A0 a) }")) == ["f"]


def test_an_included_file_is_found_by_the_option_and_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "a.thrift").write_text('include "b.thrift"\nservice S { void f(1: b.B b) }')
    (tmp_path / "shared" / "b.thrift").write_text("struct B { 1: i32 x }")
    with pytest.raises(UpstreamConfigError) as raised:
        load(str(tmp_path / "a.thrift"), "")
    assert str(raised.value) == (
        f'{tmp_path}/a.thrift:1:9: the included file b.thrift is not in {tmp_path}: name its folder, includes = ["..."]'
    )
    (field,) = load(str(tmp_path / "a.thrift"), "", (str(tmp_path / "shared"),))["f"].args.fields.values()
    assert shape(record(field.type)) == {1: ("x", "i32", False)}
    (tmp_path / "b.thrift").write_text("struct B { 1: i64 y }")
    (field,) = load(str(tmp_path / "a.thrift"), "", (str(tmp_path / "shared"),))["f"].args.fields.values()
    assert shape(record(field.type)) == {1: ("y", "i64", False)}


def test_an_included_file_that_is_not_needed_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "a.thrift").write_text(
        f'include "b.thrift" include "{"c" * 5000}" include "d\0" service S {{ void f() }}'
    )
    assert list(load(str(tmp_path / "a.thrift"), "")) == ["f"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("c.C", "1:51: 'c.C' is unknown: no included file has the name c.thrift"),
        ("D", "1:51: there is no type 'D'"),
        ("b.B", "1:9: the included file b.thrift is not in "),
    ],
)
def test_a_missing_file_is_blamed_for_its_own_names_only(name: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "a.thrift").write_text(f'include "b.thrift" service S {{ void f() void g(1: {name} a) }}')
    with pytest.raises(IdlError) as raised:
        load(str(tmp_path / "a.thrift"), "")
    assert str(raised.value).startswith(f"{tmp_path}/a.thrift:{problem}")


def test_a_file_that_is_included_often_is_read_once(tmp_path: Path) -> None:
    for index in range(20):
        (tmp_path / f"{index}.thrift").write_text(f'include "{index + 1}.thrift" include "{index + 1}.thrift"')
    (tmp_path / "20.thrift").write_text("struct A { }")
    (tmp_path / "a.thrift").write_text('include "0.thrift" service S { void f() }')
    assert list(load(str(tmp_path / "a.thrift"), "")) == ["f"]


def test_of_two_files_with_one_name_the_last_counts_and_the_first_helps_out(tmp_path: Path) -> None:
    for folder, text in (("one", "struct A { 1: i32 a } struct B { }"), ("two", "struct A { 1: i32 b }")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.y.thrift").write_text(text)
    (tmp_path / "a.thrift").write_text(
        'include "one/x.y.thrift" include "two/x.y.thrift" service S { void f(1: x.y.A a, 2: x.y.B b) }'
    )
    read = load(str(tmp_path / "a.thrift"), "")["f"]
    assert shape(record(read.args.fields[1].type)) == {1: ("b", "i32", False)}


def test_includes_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "a.thrift").write_text('include "b.thrift" service S { }')
    (tmp_path / "b.thrift").write_text('include "a.thrift"')
    with pytest.raises(IdlError) as raised:
        load(str(tmp_path / "a.thrift"), "")
    assert str(raised.value) == (
        f"{tmp_path}/b.thrift:1:9: the includes go in a circle, a.thrift > b.thrift > a.thrift:"
        " move what they share to another file"
    )


def test_includes_that_go_too_deep_or_are_too_large(tmp_path: Path) -> None:
    for index in range(60):
        (tmp_path / f"{index}.thrift").write_text(f'include "{index + 1}.thrift"')
    with pytest.raises(IdlError) as raised:
        load(str(tmp_path / "0.thrift"), "")
    assert str(raised.value).endswith("49.thrift:1:9: includes are nested too deeply: at most 50 levels are read")
    (tmp_path / "1.thrift").write_text("#" * (4 << 20))
    with pytest.raises(UpstreamConfigError) as raised_too:
        load(str(tmp_path / "0.thrift"), "")
    assert str(raised_too.value) == f"{tmp_path}/1.thrift: the .thrift files have more than 4 MiB together"


def _words(text: str) -> list[str]:
    return text.split()


PIECES = (
    *"{}()[]<>,;:=*&\n\"'-.#/\\é\0",
    *_words("/* */ /** // 0x 1 -2 32768 1e5 't' true A A.B b i32 list< map< set< string uuid void A,"),
    *_words("struct union exception enum senum const typedef include namespace extends oneway required optional"),
    *("service S {", "throws (", "xsd_attrs {", "cpp_type", "1: A a", "= A", "= [A, A]", "= {'a': A}", "void f("),
    *("struct A {", "typedef A A", "9" * 25, '"\\"'),
)


@fuzzed(500)
@given(st.lists(st.sampled_from(PIECES), max_size=60).map(" ".join))
def test_no_text_raises_anything_but_our_own_error(text: str) -> None:
    survives(text)


@fuzzed(200)
@given(st.data())
def test_no_change_of_a_file_raises_anything_but_our_own_error(data: st.DataObject) -> None:
    text = LANGUAGE.read_text().replace("service First extends more.Middle", "service S")
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 30)))
    survives(text[:start] + data.draw(st.sampled_from(PIECES)) + text[end:])


def survives(text: str) -> None:
    with suppress(IdlError):
        for method in read_text(text).values():
            signature(method)
