"""XML-RPC, case by case: a table of what is read as it is written; of what is only read; only written; refused.

Values are compared by their repr, which tells 1 from True and 1.0, and 0.0 from -0.0.
"""

import enum
import math
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest

from gateway.codecs.contract import at_once
from gateway.codecs.xmlrpc import XMLRPC
from gateway.codecs.xmlrpc.document import read_call
from gateway.codecs.xmlrpc.encodings import ENCODINGS
from gateway.model.calls import Batch, Call, InvalidCall, Reply
from gateway.model.faults import Fault, InternalError, InvalidParams, InvalidRequest, Overloaded, ResponseTooLarge

CODEC = XMLRPC(max_depth=64, max_batch=100)
CALL = Call(method="m", params=[])
ROOM = 2**20
PROLOG = '<?xml version="1.0" encoding="utf-8"?>'
APACHE = "http://ws.apache.org/xmlrpc/namespaces/extensions"
ANY = "".join(map(chr, [*range(32, 0x250), 0x2028, 0xD7FF, 0xE000, 0xFFFD, 0x10000, 0x10FFFF]))
ANY_TEXT = ANY.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

BOTH: list[tuple[Any, str]] = [
    (None, "<nil/>"),
    (False, "<boolean>0</boolean>"),
    (True, "<boolean>1</boolean>"),
    (0, "<int>0</int>"),
    (-1, "<int>-1</int>"),
    (2**31 - 1, "<int>2147483647</int>"),
    (-(2**31), "<int>-2147483648</int>"),
    (2**31, "<i8>2147483648</i8>"),
    (-(2**31) - 1, "<i8>-2147483649</i8>"),
    (2**63 - 1, "<i8>9223372036854775807</i8>"),
    (-(2**63), "<i8>-9223372036854775808</i8>"),
    (0.0, "<double>0.0</double>"),
    (-0.0, "<double>-0.0</double>"),
    (0.1, "<double>0.1</double>"),
    (3.14159, "<double>3.14159</double>"),
    (1e22, "<double>10000000000000000000000</double>"),
    (5e-324, f"<double>0.{'0' * 323}5</double>"),
    (1e-7, "<double>0.0000001</double>"),
    (1.7976931348623157e308, f"<double>17976931348623157{'0' * 292}</double>"),
    ("", "<string></string>"),
    ("  two blanks  ", "<string>  two blanks  </string>"),
    ("a\tb\nc", "<string>a\tb\nc</string>"),
    ("a\rb\r\nc", "<string>a&#13;b&#13;\nc</string>"),
    ("<&>\"'", "<string>&lt;&amp;&gt;\"'</string>"),
    ("]]>", "<string>]]&gt;</string>"),
    ("\u00e9\u0416\u4e2d\U0001f600", "<string>\u00e9\u0416\u4e2d\U0001f600</string>"),
    (ANY, f"<string>{ANY_TEXT}</string>"),
    (b"", "<base64></base64>"),
    (b"\0", "<base64>AA==</base64>"),
    (bytes(range(256))[-3:], "<base64>/f7/</base64>"),
    (b"x" * 100, "<base64>" + "eHh4" * 33 + "eA==</base64>"),
    (datetime(1, 1, 1), "<dateTime.iso8601>00010101T00:00:00</dateTime.iso8601>"),
    (datetime(9999, 12, 31, 23, 59, 59), "<dateTime.iso8601>99991231T23:59:59</dateTime.iso8601>"),
    (datetime(2024, 2, 29, 12, 34, 56), "<dateTime.iso8601>20240229T12:34:56</dateTime.iso8601>"),
    ([], "<array><data></data></array>"),
    ([None, ""], "<array><data><value><nil/></value><value><string></string></value></data></array>"),
    ([[[]]], "<array><data><value>" * 2 + "<array><data></data></array>" + "</value></data></array>" * 2),
    ({}, "<struct></struct>"),
    ({"": 1}, "<struct><member><name></name><value><int>1</int></value></member></struct>"),
    (
        {" b ": {}, "a": []},
        "<struct><member><name> b </name><value><struct></struct></value></member>"
        "<member><name>a</name><value><array><data></data></array></value></member></struct>",
    ),
    (
        {"<\r&\u00e9": 1},
        "<struct><member><name>&lt;&#13;&amp;\u00e9</name><value><int>1</int></value></member></struct>",
    ),
]

READ: list[tuple[str, Any]] = [
    ("", ""),
    ("  plain ", "  plain "),
    ("a<!-- c -->b<?p i?>c", "abc"),
    ("<string/>", ""),
    ("<string><![CDATA[<a>&amp;]]></string>", "<a>&amp;"),
    ("<string>a<![CDATA[]]]]><![CDATA[>]]>&#x1F600;&#233;&apos;&quot;</string>", "a]]>\U0001f600\u00e9'\""),
    ("<string>a\r\nb\rc</string>", "a\nb\nc"),
    ("\n  <int>1</int>\n\t", 1),
    ("<int>+1</int>", 1),
    ("<int>-0</int>", 0),
    ("<int>0007</int>", 7),
    ("<int> \t\r\n7 </int>", 7),
    ("<int>" + "0" * 4299 + "7</int>", 7),
    ("<int>9223372036854775807</int>", 2**63 - 1),
    ("<i4>-9223372036854775808</i4>", -(2**63)),
    ("<i8>5</i8>", 5),
    ("<i1>-128</i1>", -128),
    ("<i2>32767</i2>", 32767),
    ("<biginteger>" + "9" * 4300 + "</biginteger>", 10**4300 - 1),
    ("<bigdecimal>-1.50</bigdecimal>", Decimal("-1.50")),
    ("<bigdecimal>1e308</bigdecimal>", Decimal("1e308")),
    ("<double>1</double>", 1.0),
    ("<double>1500000000000000000000000000000</double>", 1.5e30),
    ("<double>.5</double>", 0.5),
    ("<double>5.</double>", 5.0),
    ("<double>1.0e-07</double>", 1e-7),
    ("<double>1e-7</double>", 1e-7),
    ("<double>0.0000001</double>", 1e-7),
    ("<double>3.250000</double>", 3.25),
    ("<double>+5.3E6\n</double>", 5300000.0),
    ("<double>1e-400</double>", 0.0),
    ("<float>2.5</float>", 2.5),
    ("<boolean>true</boolean>", True),
    ("<boolean>False</boolean>", False),
    ("<boolean> 1\n</boolean>", True),
    ("<base64>\r\n QU\tJD \n</base64>", b"ABC"),
    ("<base64/>", b""),
    ("<nil></nil>", None),
    ("<nil>\n  </nil>", None),
    ("<nil><!-- c --></nil>", None),
    ("<array/>", []),
    ("<array><data/></array>", []),
    ("<array>\n<data>\n<value/>\n</data>\n</array>", [""]),
    ("<struct/>", {}),
    ("<struct>\n<member>\n<value>v</value>\n<name>n</name>\n</member>\n</struct>", {"n": "v"}),
    ("<struct><member><name>n</name><value><nil/></value></member></struct>", {"n": None}),
    ("<int a='1' xmlns='urn:x'>1</int>", 1),
    ("<ex:nil/>", None),
    ("<ex:i8>1</ex:i8>", 1),
    ("<ex:dateTime>2024-02-29T12:34:56.5+01:00</ex:dateTime>", datetime.fromisoformat("2024-02-29T12:34:56.5+01:00")),
    (f"<a:float xmlns:a='{APACHE}'>1</a:float>", 1.0),
]
READ += [
    (f"<dateTime.iso8601>{text}</dateTime.iso8601>", datetime.fromisoformat(moment))
    for text, moment in (
        (" 20240229T12:34:56\n", "2024-02-29T12:34:56"),
        ("20240229T123456", "2024-02-29T12:34:56"),
        ("2024-02-29T12:34:56", "2024-02-29T12:34:56"),
        ("2024-02-29T12:34:56.000Z", "2024-02-29T12:34:56+00:00"),
        ("20231114T22:13:20.250000", "2023-11-14T22:13:20.250000"),
        ("20231114T22:13:20.123456789", "2023-11-14T22:13:20.123456"),
        ("20240229T123456.000+0000", "2024-02-29T12:34:56+00:00"),
        ("20240229T12:34:56+14:00", "2024-02-29T12:34:56+14:00"),
        ("20240229T12:34:56-0330", "2024-02-29T12:34:56-03:30"),
        ("20240229T12:34:56+02", "2024-02-29T12:34:56+02:00"),
        ("00010101T00:00:00+14", "0001-01-01T00:00:00+14:00"),
    )
]


class Colour(enum.Enum):
    RED = "red"


class Nested(enum.Enum):
    INNER = Colour.RED


class Key(enum.StrEnum):
    K = "k"


@dataclass
class Point:
    x: Any
    y: Any = None


Pair = namedtuple("Pair", "left right")  # noqa: PYI024 - the untyped one is what is tested

WRITTEN: list[tuple[Any, str]] = [
    ((1, 2), "<array><data><value><int>1</int></value><value><int>2</int></value></data></array>"),
    (Pair(1, 2), "<array><data><value><int>1</int></value><value><int>2</int></value></data></array>"),
    (frozenset({1}), "<array><data><value><int>1</int></value></data></array>"),
    (Nested.INNER, "<string>red</string>"),
    (OrderedDict({Key.K: Key.K}), "<struct><member><name>k</name><value><string>k</string></value></member></struct>"),
    (MappingProxyType({}), "<struct></struct>"),
    (
        Point(b"\0", bytearray(b"\0")),
        "<struct><member><name>x</name><value><base64>AA==</base64></value></member>"
        "<member><name>y</name><value><base64>AA==</base64></value></member></struct>",
    ),
    (Decimal("1.50"), "<string>1.50</string>"),
    (UUID(int=0), "<string>00000000-0000-0000-0000-000000000000</string>"),
    (date(1, 2, 3), "<string>0001-02-03</string>"),
    (datetime(2024, 2, 29, 12, 34, 56, 999999), "<dateTime.iso8601>20240229T12:34:56</dateTime.iso8601>"),
    (datetime(2024, 1, 1, tzinfo=UTC), "<dateTime.iso8601>20240101T00:00:00</dateTime.iso8601>"),
    (
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        "<dateTime.iso8601>20231231T18:30:00</dateTime.iso8601>",
    ),
    (
        datetime(1, 1, 1, tzinfo=timezone(-timedelta(hours=14))),
        "<dateTime.iso8601>00010101T14:00:00</dateTime.iso8601>",
    ),
]

REFUSED_TEXTS: list[tuple[str, str, str]] = [  # the texts of an element, between bars
    ("int", "bad int", "|1.0|1_000|0x1|- 1|--1|\u0661|1\u00a0|a"),
    ("int", "int out of range: more than 64 bits", "9223372036854775808|-9223372036854775809"),
    ("i4", "int out of range: more than 64 bits", "9223372036854775808|-9223372036854775809"),
    ("i8", "int out of range: more than 64 bits", "9223372036854775808|-9223372036854775809"),
    ("i1", "int out of range: more than 8 bits", "128|-129"),
    ("i2", "int out of range: more than 16 bits", "32768|-32769"),
    ("biginteger", "int out of range: more than 4300 digits", "9" * 4301 + "|" + "0" * 5000),
    ("double", "bad double", f"|.|e5|1e|1e+|nan|inf|-Infinity|1_0|0x1p3|1,5|\u0663|1.1.|{'9' * 2**17}x"),
    ("double", "double out of range", "1e400|-1e309|" + "0" * 4301),
    ("float", "bad double", "|nan"),
    ("bigdecimal", "bad decimal", f"|NaN|Infinity|1_0|{'9' * 2**17}x"),
    (
        "bigdecimal",
        "decimal out of range",
        "1e309|1e400|1e-309|0e4301|1e" + "9" * 20 + "|1e-" + "9" * 20 + "|" + "1" * 4301,
    ),
    ("boolean", "bad boolean", "|2|yes|01|t rue|\uff11"),
    (
        "base64",
        "bad base64",
        "AAAA=|AA====|AAAA====|A|QQ|QQ=|QQ===|QQ==QQ==|=|Q=Q=|QUJ-|QUJ_|\u00e9|Q\u00a0Q==|Q\u2003Q==",
    ),
    (
        "dateTime.iso8601",
        "bad dateTime",
        "|980717T14:08:55|2024-0229T12:34:56|20240229T12:3456|20240229 12:34:56|20240229|20240229T12:34"
        "|20240229t12:34:56|20240229T12:34:56.|20240229T12:34:56.1234567890|20240229T12:34:56z|20240229T12:34:56+1"
        "|20240229T12:34:56+01:00Z|\u0662\u0660\u0662\u06640229T12:34:56",
    ),
    (
        "dateTime.iso8601",
        "bad dateTime: there is no such day or time",
        "20230229T00:00:00|00000000T00:00:00|00000101T00:00:00|20240101T24:00:00|20240101T00:60:00|20240101T00:00:60",
    ),
    (
        "dateTime.iso8601",
        "bad dateTime: the offset is beyond 14 hours",
        "20240229T00:00:00+14:01|20240229T00:00:00-15|20240229T00:00:00+00:60|20240229T00:00:00+9900",
    ),
    ("nil", "bad nil: it must be empty", "0"),
]

REFUSED: list[tuple[str, str]] = [
    *((f"<{tag}>{text}</{tag}>", detail) for tag, detail, texts in REFUSED_TEXTS for text in texts.split("|")),
    ("<string>a<b>c</b></string>", "unknown element"),
    ("a<int>5</int>", "mixed content: a value is a text or an element"),
    ("<int>5</int>a", "mixed content: a value is a text or an element"),
    ("<int>1</int><int>2</int>", "too many children: a value has one"),
    ("<nil/><nil/>", "too many children: a value has one"),
    ("<value/>", "misplaced element"),
    ("<name/>", "misplaced element"),
    ("<int><int>1</int></int>", "misplaced element"),
    ("<array><value/></array>", "misplaced element"),
    ("<array><data/><data/></array>", "too many children: an array has one data"),
    ("<array>a<data/></array>", "stray text between elements"),
    ("<array><data>a</data></array>", "stray text between elements"),
    ("<array><data><int>1</int></data></array>", "misplaced element"),
    ("<struct>a</struct>", "stray text between elements"),
    ("<struct><value/></struct>", "misplaced element"),
    *(
        (f"<struct><member>{inner}</member></struct>", "bad member: it has one name and one value")
        for inner in ("", "<name/>", "<value/>", "<name/><name/>", "<value/><value/>", "<name/><value/><value/>")
    ),
    ("<struct><member>a<name/><value/></member></struct>", "stray text between elements"),
    (
        "<struct>" + "<member><name>n</name><value/></member>" * 2 + "</struct>",
        "duplicate member: two of the same name in a struct",
    ),
    ("<dateTime>20240101T00:00:00</dateTime>", "unknown element"),
    ("<Int>1</Int>", "unknown element"),
    ("<ex:int>1</ex:int>", "unknown element"),
    ("<ex:serializable/>", "unknown element"),
    ("<x:i8>1</x:i8>", "unknown element"),
    ("<i8:nil/>", "unknown element"),
    ("<array><data><ex:nil/></data></array>", "unknown element"),
    ("<ex:nil xmlns:ex='urn:other'/>", "unknown element"),
]

PARAMS_REFUSED: list[tuple[str, str]] = [
    ("<params><param/></params>", "empty param: it has one value"),
    ("<params><param><value/><value/></param></params>", "too many children: a param has one value"),
    ("<params><param>a<value/></param></params>", "stray text between elements"),
    ("<params>a</params>", "stray text between elements"),
    ("<params><value/></params>", "misplaced element"),
    ("<params/><params/>", "too many children: a methodCall has one methodName and at most one params"),
    ("<methodName>n</methodName>", "too many children: a methodCall has one methodName and at most one params"),
    ("a", "stray text between elements"),
    ("<a/>", "unknown element"),
]

NAME = "<methodName>m</methodName>"
DOCUMENTS: list[str] = [
    f"<methodCall>{NAME}</methodCall>",
    f"<methodCall>{NAME}<params/></methodCall>",
    f"<methodCall><params></params>{NAME}</methodCall>",
    f'<?xml version="1.0" ?>\r\n<methodCall>\r\n\t{NAME}\r\n</methodCall>\r\n',
    f"<?xml version='1.1' encoding='UTF-8' standalone='yes'?><?p i?><methodCall>{NAME}</methodCall><!-- c -->",
    f" \t\r\n<?xml version='1.0'?><methodCall xmlns='urn:x' a='b'>{NAME}</methodCall>\n\n",
    "<methodCall><methodName>\n m\t</methodName></methodCall>",
    "<methodCall><methodName>&#109;</methodName></methodCall>",
    f"\ufeff<methodCall>{NAME}</methodCall>",
    f"\ufeff\ufeff\n<?xml version='1.0'?><methodCall>{NAME}</methodCall>",
]
NO_CALL: list[tuple[str, int, str]] = [
    ("", -32700, "not well-formed: no element found, line 1, column 0"),
    (" ", -32700, "not well-formed: no element found, line 1, column 0"),
    ("{}", -32700, "not well-formed: not well-formed (invalid token), line 1, column 0"),
    (f"<methodCall>{NAME}", -32700, "not well-formed: no element found, line 1, column 38"),
    (f"<methodCall>{NAME}</methodcall>", -32700, "not well-formed: mismatched tag, line 1, column 40"),
    (f"<methodCall>{NAME}</methodCall>x", -32700, "not well-formed: junk after document element, line 1, column 51"),
    (f"<methodCall>{NAME}&a;</methodCall>", -32700, "not well-formed: undefined entity, line 1, column 38"),
    (
        "<methodCall>\n<methodName>&#0;",
        -32700,
        "not well-formed: reference to invalid character number, line 2, column 12",
    ),
    (f"<methodCall>{NAME}</methodCall>\0", -32700, "not well-formed: a NUL character"),
    (f"<!DOCTYPE a><methodCall>{NAME}</methodCall>", -32600, "a DOCTYPE is not allowed"),
    ('<!-- c --> <?p i?><!DOCTYPE a [<!ENTITY b "c">]><methodCall/>', -32600, "a DOCTYPE is not allowed"),
    ("<?xml version='1.0'?><!DOCTYPE", -32600, "a DOCTYPE is not allowed"),
    ("\ufeff\ufeff<!DOCTYPE a><methodCall/>", -32600, "a DOCTYPE is not allowed"),
    ("<MethodCall/>", -32600, "wrong root: a call is a methodCall (line 1, column 13)"),
    ("<methodResponse/>", -32600, "unknown element (line 1, column 17)"),
    ("<value/>", -32600, "misplaced element (line 1, column 8)"),
    ("<methodCall>\n</methodCall>", -32600, "no method name (line 2, column 13)"),
    ("<methodCall><methodName> </methodName></methodCall>", -32600, "no method name (line 1, column 38)"),
    ("<methodCall><methodName><a/></methodName></methodCall>", -32600, "unknown element (line 1, column 28)"),
]

UMLAUT = "<methodCall><methodName>m</methodName><params><param><value>\u00e9</value></param></params></methodCall>"
ENCODED: list[tuple[bytes, str | None]] = [
    (UMLAUT.encode(), None),
    (UMLAUT.encode(), "utf-8"),
    (UMLAUT.encode(), "utf8"),
    (b"\xef\xbb\xbf" + UMLAUT.encode(), "iso-8859-1"),
    (b"<?xml version='1.0' encoding=\"koi8-r\"?>" + UMLAUT.encode(), "utf-8"),
    (b'<?xml version="1.0" encoding="ISO-8859-1"?>' + UMLAUT.encode("latin-1"), None),
    (b"\n<?xml version = '1.0'\n encoding = 'latin-1' ?>" + UMLAUT.encode("latin-1"), None),
    (UMLAUT.encode("latin-1"), "iso-8859-1"),
    (UMLAUT.encode("latin-1"), "latin1"),
    (UMLAUT.replace("\u00e9", "&#233;").encode(), "us-ascii"),
    (UMLAUT.encode(), "us-ascii"),
    (b"\xff\xfe" + UMLAUT.encode("utf-16-le"), None),
    (b"\xfe\xff" + UMLAUT.encode("utf-16-be"), "utf-8"),
    (b"\xff\xfe" + ("<?xml version='1.0' encoding='utf-16'?>" + UMLAUT).encode("utf-16-le"), "utf-16"),
]
SUPPORTED = "supported are UTF-8, UTF-16 with a byte order mark, and the stateless ones of the WHATWG Encoding standard"
MISENCODED: list[tuple[bytes, str | None, int, str]] = [
    (UMLAUT.encode("latin-1"), None, -32702, "byte 60 is not utf-8"),
    (UMLAUT.encode("latin-1"), "us-ascii", -32702, "byte 60 is not utf-8"),
    (b"\xff\xfe<", None, -32702, "byte 0 is not utf-16-le"),
    (b"\xfe\xff\xd8\x00", None, -32702, "byte 0 is not utf-16-be"),
    (b"<a>\xed\xa0\x80", None, -32702, "byte 3 is not utf-8"),
    (b"<a>\xc0\x80", None, -32702, "byte 3 is not utf-8"),
    (UMLAUT.encode(), "iso-2022-jp", -32701, SUPPORTED),
    (UMLAUT.encode(), "utf-16", -32701, SUPPORTED),
    (UMLAUT.encode(), "", -32701, SUPPORTED),
    (b"<?xml version='1.0' encoding='utf-16'?>" + UMLAUT.encode(), None, -32701, SUPPORTED),
    (b"<?xml version='1.0' encoding='utf-7'?>" + UMLAUT.encode(), None, -32701, SUPPORTED),
    (UMLAUT.encode("utf-16-le"), None, -32702, "byte 120 is not utf-8"),
    (UMLAUT.replace("\u00e9", "e").encode("utf-16-le"), None, -32700, "not well-formed: a NUL character"),
]

UNSAYABLE: list[tuple[Any, str]] = [
    (math.nan, ": nan is not an XML-RPC double"),
    ([0.0, -math.inf], "[1]: -inf is not an XML-RPC double"),
    (2**63, ": the int has more than 64 bits"),
    (-(2**63) - 1, ": the int has more than 64 bits"),
    ({"a": [1, {"b": 10**5000}]}, ".a[1].b: the int has more than 64 bits"),
    ("\0", ": a string has the character U+0000, which XML 1.0 cannot carry"),
    (["\x1f", 1], "[0]: a string has the character U+001F, which XML 1.0 cannot carry"),
    ("\ud800", ": a string has the character U+D800, which XML 1.0 cannot carry"),
    ("\uffff", ": a string has the character U+FFFF, which XML 1.0 cannot carry"),
    ({"a\b": 1}, ".a\ufffd: a string has the character U+0008, which XML 1.0 cannot carry"),
    ({"\udcff": 1}, ".?: a string has the character U+DCFF, which XML 1.0 cannot carry"),
    ({1: 2}, ": the name of a member must be a string, not int"),
    ([{None: 2}], "[0]: the name of a member must be a string, not NoneType"),
    (object(), ": values of type object are not supported"),
    (Point(1, [object()]), ".y[0]: values of type object are not supported"),
    (datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))), ": the datetime is out of range in UTC"),
]


def call_with(value: str) -> bytes:
    return f"<methodCall>{NAME}<params><param><value>{value}</value></param></params></methodCall>".encode()


def read(wire: str) -> Any:
    decoded = CODEC.decode(call_with(wire), None)
    assert isinstance(decoded, Call), decoded
    assert isinstance(decoded.params, list)
    (value,) = decoded.params
    return value


def written(value: Any, codec: XMLRPC = CODEC) -> str:
    answer = codec.encode(CALL, Reply(value=value), ROOM)
    assert answer.fault is None
    return answer.wire.decode()


def refused(body: bytes, charset: str | None = None) -> tuple[int, str]:
    decoded = CODEC.decode(body, charset)
    assert isinstance(decoded, InvalidCall), decoded
    assert decoded.id is None
    return decoded.fault.code, decoded.fault.detail


def nested(value: Any, levels: int, kind: type) -> Any:
    for _ in range(levels):
        value = {"a": value} if kind is dict else [value]
    return value


@pytest.mark.parametrize(("value", "wire"), BOTH)
def test_a_value_is_written_exactly_so(value: Any, wire: str) -> None:
    assert written(value) == f"<value>{wire}</value>"


@pytest.mark.parametrize(("value", "wire"), BOTH)
def test_what_is_written_reads_as_the_same_value(value: Any, wire: str) -> None:
    assert repr(read(wire)) == repr(value)


@pytest.mark.parametrize(("wire", "value"), READ)
def test_other_forms_are_understood(wire: str, value: Any) -> None:
    assert repr(read(wire)) == repr(value)


@pytest.mark.parametrize(("value", "wire"), WRITTEN)
def test_other_types_are_written_as_neutral_ones(value: Any, wire: str) -> None:
    assert written(value) == f"<value>{wire}</value>"


@pytest.mark.parametrize(("wire", "detail"), REFUSED, ids=lambda text: text[:40])
def test_a_value_that_is_none_is_an_invalid_request(wire: str, detail: str) -> None:
    code, given = refused(call_with(wire))
    assert (code, given.partition(" (line ")[0]) == (-32600, detail)


@pytest.mark.parametrize(("inner", "detail"), PARAMS_REFUSED)
def test_a_call_of_another_shape_is_an_invalid_request(inner: str, detail: str) -> None:
    code, given = refused(f"<methodCall>{NAME}{inner}</methodCall>".encode())
    assert (code, given.partition(" (line ")[0]) == (-32600, detail)


def test_a_refusal_tells_line_and_column() -> None:
    body = f"\n<methodCall>\n{NAME}\n<params><param><value><int>x</int>".encode()
    assert refused(body) == (-32600, "bad int (line 3, column 34)")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_call_comes_in_many_forms(document: str) -> None:
    assert CODEC.decode(document.encode(), None) == Call(method="m", params=[])


@pytest.mark.parametrize(("document", "code", "detail"), NO_CALL)
def test_a_document_that_is_no_call_is_refused(document: str, code: int, detail: str) -> None:
    assert refused(document.encode()) == (code, detail)


def test_the_parser_refuses_a_doctype_too_should_the_look_at_the_text_miss_it() -> None:
    with pytest.raises(InvalidRequest, match="a DOCTYPE is not allowed"):
        at_once(read_call("<!DOCTYPE a><methodCall/>", 64))


def test_a_doctype_inside_of_a_string_is_text() -> None:
    assert read("<![CDATA[<!DOCTYPE a>]]>") == "<!DOCTYPE a>"


@pytest.mark.parametrize(("body", "charset"), ENCODED)
def test_encodings_are_told_by_mark_then_charset_then_declaration(body: bytes, charset: str | None) -> None:
    assert CODEC.decode(body, charset) == Call(method="m", params=["\u00e9"])


@pytest.mark.parametrize(("body", "charset", "code", "detail"), MISENCODED)
def test_other_encodings_are_refused(body: bytes, charset: str | None, code: int, detail: str) -> None:
    assert refused(body, charset) == (code, detail)


@pytest.mark.parametrize("kind", [list, dict])
def test_as_many_levels_are_read_as_are_written(kind: type) -> None:
    deepest, deeper = nested(nested([], 1, kind), 62, kind), nested([], 64, kind)
    assert read(written(deepest).removeprefix("<value>").removesuffix("</value>")) == deepest
    wire = written(deepest).replace("<data></data>", "<data><value/></data>")
    body = call_with(wire.removeprefix("<value>").removesuffix("</value>"))
    code, detail = refused(body)
    assert (code, detail.partition(" (line ")[0]) == (-32600, "too deep: at most 64 levels of values")
    fault = CODEC.encode(CALL, Reply(value=deeper), ROOM).fault
    assert fault is not None
    assert fault.detail.endswith(": more than 64 levels, or the value contains itself")


@pytest.mark.parametrize(("value", "detail"), UNSAYABLE)
def test_what_cannot_be_said_is_a_fault_that_names_the_place(value: Any, detail: str) -> None:
    answer = CODEC.encode(CALL, Reply(value=value), ROOM)
    assert isinstance(answer.fault, InternalError)
    assert answer.fault.detail.replace("\b", "\ufffd") == f"the result cannot be encoded as XML-RPC: result{detail}"
    assert f"Internal error: the result cannot be encoded as XML-RPC: result{detail}".encode() in answer.wire


def test_extensions_are_written_only_where_they_are_switched_on() -> None:
    plain = XMLRPC(max_depth=64, max_batch=100, none="fault", i8=False)
    assert written(2**31 - 1, plain) == "<value><int>2147483647</int></value>"
    for value, reason in (
        ([None], 'the specification has no None, and xmlrpc.none is "fault"'),
        ([2**31], "the int has more than 32 bits, and xmlrpc.i8 is off"),
    ):
        fault = plain.encode(CALL, Reply(value=value), ROOM).fault
        assert fault is not None
        assert fault.detail == f"the result cannot be encoded as XML-RPC: result[0]: {reason}"
    assert plain.decode(call_with("<nil/>"), None) == Call(method="m", params=[None])


def test_none_is_written_as_configured() -> None:
    empty = XMLRPC(max_depth=64, max_batch=100, none="empty")
    assert written([None], empty) == "<value><array><data><value><string></string></value></data></array></value>"
    assert written(None) == "<value><nil/></value>"


@pytest.mark.parametrize("codec", sorted(set(ENCODINGS.values())))
def test_no_encoding_turns_ascii_into_something_else(codec: str) -> None:
    ascii_only = bytes(range(128))
    assert ascii_only.decode(codec) == ascii_only.decode("ascii")


@pytest.mark.parametrize(
    ("label", "codec", "text"),
    [
        ("ISO-8859-15", "iso8859-15", "\u20ac"),
        ("windows-1252", "cp1252", "\u20ac"),
        ("KOI8-U", "koi8-u", "\u0457"),
        ("iso8859-1", "latin-1", "\u00fc"),
        ("GBK", "gbk", "\u4e2d"),
        ("gb18030", "gb18030", "\U0001f600"),
        ("Big5", "big5", "\u8a31"),  # its second byte is a backslash
        ("EUC-JP", "euc-jp", "\u8868"),
        ("Shift_JIS", "cp932", "\u8868"),  # likewise
        ("ks_c_5601-1987", "euc-kr", "\ud55c"),
    ],
)
def test_a_document_may_be_in_any_stateless_encoding_of_the_standard(label: str, codec: str, text: str) -> None:
    document = f"<?xml version='1.0' encoding='{label}'?>" + UMLAUT.replace("\u00e9", text)
    assert CODEC.decode(document.encode(codec), None) == Call(method="m", params=[text])
    assert CODEC.decode(UMLAUT.replace("\u00e9", text).encode(codec), label.lower()) == Call(method="m", params=[text])


@pytest.mark.parametrize(
    "label", ["hz-gb-2312", "utf-16le", "utf-7", "cp037", "x-user-defined", "replacement", "x" * 99]
)
def test_encodings_with_states_and_unknown_ones_are_refused(label: str) -> None:
    document = f"<?xml version='1.0' encoding='{label}'?><methodCall><methodName>m</methodName></methodCall>"
    assert refused(document.encode()) == (-32701, SUPPORTED)


@pytest.mark.parametrize(("label", "wrong"), [("shift_jis", b"\x81<"), ("windows-1252", b"\x81"), ("gbk", b"\xff")])
def test_bytes_that_are_not_in_the_encoding_are_refused(label: str, wrong: bytes) -> None:
    assert refused(UMLAUT.encode().replace("\u00e9".encode(), wrong), label)[0] == -32702


def test_a_result_stands_in_params() -> None:
    assert CODEC.single(CODEC.encode(CALL, Reply(value=15), ROOM)) == (
        f"{PROLOG}<methodResponse><params><param><value><int>15</int></value></param></params></methodResponse>".encode()
    )


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        (Fault("no"), -32000, "no"),
        (Fault(7, "\u00e9 <&\r]]>", {"k": "v"}), 7, "\u00e9 &lt;&amp;&#13;]]&gt;"),
        (Fault(-(2**31), ""), -(2**31), ""),
        (Fault(2**31 - 1, "\0\ud800\uffff"), 2**31 - 1, "\ufffd\ufffd\ufffd"),
        (InvalidParams(), -32602, "Invalid params"),
        (InvalidParams("params[0]: expected int"), -32602, "Invalid params: params[0]: expected int"),
        (InternalError(error_id="1f"), -32603, "Internal error [error_id=1f]"),
        (Overloaded("busy", retry_after=1, more="\1"), -32003, "Overloaded: busy [retry_after=1, more=\ufffd]"),
    ],
)
def test_a_fault_has_two_members_in_this_order(fault: Fault, code: int, text: str) -> None:
    answer = CODEC.encode(CALL, Reply(fault=fault), ROOM)
    assert answer.fault is fault
    assert CODEC.single(answer).decode() == (
        f"{PROLOG}<methodResponse><fault><value><struct>"
        f"<member><name>faultCode</name><value><int>{code}</int></value></member>"
        f"<member><name>faultString</name><value><string>{text}</string></value></member>"
        "</struct></value></fault></methodResponse>"
    )


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("secret")


class Uncoded(Fault):
    def __init__(self) -> None:
        self.code = "seven"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (InvalidParams(it=Unprintable()), "ValueError"),
        (InvalidParams(it=10**4300), "ValueError"),
        (Uncoded(), "ValueError"),
    ],
)
def test_a_fault_that_cannot_be_said_is_another_fault(fault: Fault, reason: str) -> None:
    answer = CODEC.encode(CALL, Reply(fault=fault), ROOM)
    assert isinstance(answer.fault, InternalError)
    assert answer.fault.detail == f"the error cannot be encoded as XML-RPC: error: the value raises {reason}"
    assert b"<int>-32603</int>" in answer.wire
    assert b"secret" not in answer.wire


def test_an_answer_fills_its_room_and_no_more() -> None:
    value = ["\u00e9" * 100]
    size = len(CODEC.encode(CALL, Reply(value=value), ROOM).wire)
    assert CODEC.encode(CALL, Reply(value=value), size).fault is None
    fault = CODEC.encode(CALL, Reply(value=value), size - 1).fault
    assert isinstance(fault, ResponseTooLarge)
    assert fault.detail == f"the response has {size} bytes, and {size - 1} are left"


@pytest.mark.parametrize("kind", [list, dict])
def test_values_shared_many_times_over_are_given_up_early(kind: type) -> None:
    value: Any = 1
    for _ in range(60):
        value = [value, value] if kind is list else {"a": value, "b": value}
    fault = CODEC.encode(CALL, Reply(value=value), ROOM).fault
    assert isinstance(fault, ResponseTooLarge)
    assert fault.detail == "the response exceeds the limit"


def multicall(*entries: str) -> bytes:
    values = "".join(f"<value>{entry}</value>" for entry in entries)
    array = f"<params><param><value><array><data>{values}</data></array></value></param></params>"
    return f"<methodCall><methodName>system.multicall</methodName>{array}</methodCall>".encode()


def entry_of(**members: str) -> str:
    inner = "".join(f"<member><name>{name}</name><value>{value}</value></member>" for name, value in members.items())
    return f"<struct>{inner}</struct>"


EMPTY = "<array><data/></array>"
SHAPE = "bad multicall entry: it has a methodName and an array of params"


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (entry_of(methodName="add", params=EMPTY), Call(method="add", params=[])),
        (entry_of(params=EMPTY, more="x", methodName="add"), Call(method="add", params=[])),
        ("<int>1</int>", "bad multicall entry: not a struct"),
        (entry_of(), SHAPE),
        (entry_of(methodName="add"), SHAPE),
        (entry_of(params=EMPTY), SHAPE),
        (entry_of(methodName="<int>1</int>", params=EMPTY), SHAPE),
        (entry_of(methodName="add", params="<struct/>"), SHAPE),
        (entry_of(methodName="system.multicall", params=EMPTY), "recursion: a multicall in a multicall"),
    ],
)
def test_each_entry_of_a_multicall_is_a_call_or_a_fault_in_its_slot(entry: str, expected: Call | str) -> None:
    decoded = CODEC.decode(multicall(entry, entry_of(methodName="last", params=EMPTY)), None)
    assert isinstance(decoded, Batch)
    first, last = decoded.entries
    assert last == Call(method="last", params=[])
    if isinstance(first, InvalidCall):
        assert (first.fault.code, first.fault.detail, first.id) == (-32600, expected, None)
    else:
        assert first == expected


@pytest.mark.parametrize("params", ["", "<param><value/></param>", f"<param><value>{EMPTY}</value></param>" * 2])
def test_a_multicall_takes_one_array(params: str) -> None:
    body = f"<methodCall><methodName>system.multicall</methodName><params>{params}</params></methodCall>"
    assert refused(body.encode()) == (-32602, "system.multicall takes one array of structs")


def test_a_multicall_has_at_most_as_many_calls_as_are_allowed() -> None:
    entry = entry_of(methodName="a", params=EMPTY)
    decoded = CODEC.decode(multicall(*[entry] * 100), None)
    assert isinstance(decoded, Batch)
    assert len(decoded.entries) == 100
    assert refused(multicall(*[entry] * 101)) == (-32600, "limit: a multicall has at most 100 calls")
    assert CODEC.decode(multicall(), None) == Batch([])


def test_the_answer_to_a_multicall_has_arrays_of_one_and_fault_structs() -> None:
    answers = [CODEC.encode(CALL, reply, ROOM) for reply in (Reply(value=[1]), Reply(fault=Fault(7, "no")))]
    one = "<value><array><data><value><int>1</int></value></data></array></value>"
    assert CODEC.batch(answers).decode() == (
        f"{PROLOG}<methodResponse><params><param><value><array><data>"
        f"<value><array><data>{one}</data></array></value>"
        "<value><struct><member><name>faultCode</name><value><int>7</int></value></member>"
        "<member><name>faultString</name><value><string>no</string></value></member></struct></value>"
        "</data></array></value></param></params></methodResponse>"
    )
    assert CODEC.batch([]).decode() == (
        f"{PROLOG}<methodResponse><params><param><value><array><data></data></array></value></param></params>"
        "</methodResponse>"
    )
