"""The encodings of XML: the labels of the WHATWG Encoding standard, and what no encoding may do to markup."""

import re
import xmlrpc.client
from collections.abc import Iterator

import pytest

from gateway import Registry
from gateway.codecs.xmlrpc.encodings import ENCODINGS
from tests.raw_http import post
from tests.serving import Server, serving

pytestmark = pytest.mark.unmeasured

# The names and labels of https://encoding.spec.whatwg.org/#names-and-labels, and the codec of Python for each.
STANDARD = {
    ("UTF-8", "utf-8"): "unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf-8 utf8 x-unicode20utf8",
    ("IBM866", "cp866"): "866 cp866 csibm866 ibm866",
    ("ISO-8859-2", "iso8859-2"): "csisolatin2 iso-8859-2 iso-ir-101 iso8859-2 iso88592 iso_8859-2 iso_8859-2:1987 l2"
    " latin2",
    ("ISO-8859-3", "iso8859-3"): "csisolatin3 iso-8859-3 iso-ir-109 iso8859-3 iso88593 iso_8859-3 iso_8859-3:1988 l3"
    " latin3",
    ("ISO-8859-4", "iso8859-4"): "csisolatin4 iso-8859-4 iso-ir-110 iso8859-4 iso88594 iso_8859-4 iso_8859-4:1988 l4"
    " latin4",
    ("ISO-8859-5", "iso8859-5"): "csisolatincyrillic cyrillic iso-8859-5 iso-ir-144 iso8859-5 iso88595 iso_8859-5"
    " iso_8859-5:1988",
    ("ISO-8859-6", "iso8859-6"): "arabic asmo-708 csiso88596e csiso88596i csisolatinarabic ecma-114 iso-8859-6"
    " iso-8859-6-e iso-8859-6-i iso-ir-127 iso8859-6 iso88596 iso_8859-6 iso_8859-6:1987",
    ("ISO-8859-7", "iso8859-7"): "csisolatingreek ecma-118 elot_928 greek greek8 iso-8859-7 iso-ir-126 iso8859-7"
    " iso88597 iso_8859-7 iso_8859-7:1987 sun_eu_greek",
    ("ISO-8859-8", "iso8859-8"): "csiso88598e csisolatinhebrew hebrew iso-8859-8 iso-8859-8-e iso-ir-138 iso8859-8"
    " iso88598 iso_8859-8 iso_8859-8:1988 visual",
    ("ISO-8859-8-I", "iso8859-8"): "csiso88598i iso-8859-8-i logical",
    ("ISO-8859-10", "iso8859-10"): "csisolatin6 iso-8859-10 iso-ir-157 iso8859-10 iso885910 l6 latin6",
    ("ISO-8859-13", "iso8859-13"): "iso-8859-13 iso8859-13 iso885913",
    ("ISO-8859-14", "iso8859-14"): "iso-8859-14 iso8859-14 iso885914",
    ("ISO-8859-15", "iso8859-15"): "csisolatin9 iso-8859-15 iso8859-15 iso885915 iso_8859-15 l9",
    ("ISO-8859-16", "iso8859-16"): "iso-8859-16",
    ("KOI8-R", "koi8-r"): "cskoi8r koi koi8 koi8-r koi8_r",
    ("KOI8-U", "koi8-u"): "koi8-ru koi8-u",
    ("macintosh", "mac-roman"): "csmacintosh mac macintosh x-mac-roman",
    ("windows-874", "cp874"): "dos-874 windows-874",
    ("windows-1250", "cp1250"): "cp1250 windows-1250 x-cp1250",
    ("windows-1251", "cp1251"): "cp1251 windows-1251 x-cp1251",
    ("windows-1252", "cp1252"): "cp1252 windows-1252 x-cp1252",
    ("windows-1253", "cp1253"): "cp1253 windows-1253 x-cp1253",
    ("windows-1254", "cp1254"): "cp1254 windows-1254 x-cp1254",
    ("windows-1255", "cp1255"): "cp1255 windows-1255 x-cp1255",
    ("windows-1256", "cp1256"): "cp1256 windows-1256 x-cp1256",
    ("windows-1257", "cp1257"): "cp1257 windows-1257 x-cp1257",
    ("windows-1258", "cp1258"): "cp1258 windows-1258 x-cp1258",
    ("x-mac-cyrillic", "mac-cyrillic"): "x-mac-cyrillic x-mac-ukrainian",
    ("GBK", "gb18030"): "chinese csgb2312 csiso58gb231280 gb2312 gb_2312 gb_2312-80 gbk iso-ir-58 x-gbk",
    ("gb18030", "gb18030"): "gb18030",
    ("Big5", "big5hkscs"): "big5 big5-hkscs cn-big5 csbig5 x-x-big5",
    ("EUC-JP", "euc-jp"): "cseucpkdfmtjapanese euc-jp x-euc-jp",
    ("Shift_JIS", "cp932"): "csshiftjis ms932 ms_kanji shift-jis shift_jis sjis windows-31j x-sjis",
    ("EUC-KR", "cp949"): "cseuckr csksc56011987 euc-kr iso-ir-149 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601"
    " ksc_5601 windows-949",
    # Labels that mean a Windows encoding to browsers, and what they say here.
    ("windows-1252", "latin-1"): "cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 iso8859-1 iso88591 iso_8859-1"
    " iso_8859-1:1987 l1 latin1",
    ("windows-1252", "ascii"): "ansi_x3.4-1968 ascii us-ascii",
    ("windows-1254", "iso8859-9"): "csisolatin5 iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9 iso_8859-9:1989 l5"
    " latin5",
    ("windows-874", "iso8859-11"): "iso-8859-11 iso8859-11 iso885911 tis-620",
}
REFUSED = (
    "csiso2022jp",
    "iso-2022-jp",
    "csiso2022kr",
    "hz-gb-2312",
    "iso-2022-cn",
    "iso-2022-cn-ext",
    "iso-2022-kr",
    "replacement",
    "unicodefffe",
    "utf-16be",
    "csunicode",
    "iso-10646-ucs-2",
    "ucs-2",
    "unicode",
    "unicodefeff",
    "utf-16",
    "utf-16le",
    "x-user-defined",
    "utf-7",
    "utf-32",
    "cp037",
    "punycode",
    "rot13",
    "unicode_escape",
)
NO_MARKUP = re.compile(r"""[^<>&"'=/ ]+""")
NAME = re.compile("[A-Za-z][A-Za-z0-9._-]*")  # what XML 1.0 takes, production 81


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    registry = Registry()

    @registry.register(run="inline")
    def add(a: str, b: str) -> str:
        return a + b

    registry.register(lambda a: a, name="t\u00ea\u0161t", run="inline")
    with serving(registry, {"log.level": "warning"}) as served:
        yield served


def call(label: str, codec: str, text: str) -> bytes:
    document = (
        f'<?xml version="1.0" encoding="{label}"?><methodCall><methodName>add</methodName><params>'
        f"<param><value>{text}</value></param><param><value></value></param></params></methodCall>"
    )
    return document.encode(codec)


@pytest.mark.parametrize("name", STANDARD, ids=" as ".join)
def test_each_label_of_the_standard_is_read(name: tuple[str, str], server: Server) -> None:
    codec = name[1]
    high = (bytes((byte,)) for byte in range(0xC0, 0x100))
    text = "a" if codec == "ascii" else "".join(byte.decode(codec, "ignore") for byte in high)[:8] or "\u4e00"
    for label in STANDARD[name].split():
        for written in (label, label.upper()):
            if NAME.fullmatch(label):
                response = post(server.port, call(written, codec, text), "text/xml")
                assert xmlrpc.client.loads(response.body)[0] == (text,), written
            response = post(server.port, call("utf-8", codec, text), f'text/xml; charset="{written}"')
            assert xmlrpc.client.loads(response.body)[0] == (text,), written


@pytest.mark.parametrize("label", REFUSED)
def test_encodings_that_could_hide_markup_are_refused(label: str, server: Server) -> None:
    with pytest.raises(xmlrpc.client.Fault, match="Unsupported encoding") as refused:
        xmlrpc.client.loads(post(server.port, call(label, "ascii", "a"), "text/xml").body)
    assert refused.value.faultCode == -32701


def test_no_other_label_is_known() -> None:
    own = {"latin-1", *(f"iso8859_{part}" for part in range(1, 10))}
    assert set(ENCODINGS) == {label for labels in STANDARD.values() for label in labels.split()} | own


@pytest.mark.parametrize("codec", sorted(set(ENCODINGS.values())))
def test_ascii_stays_ascii_whatever_precedes_it(codec: str) -> None:
    """No byte before markup makes it something else, nor does markup come from anything but ASCII."""
    assert bytes(range(0x80)).decode(codec) == bytes(range(0x80)).decode("ascii")
    for second in range(0x100):
        after, expected = bytes((second,)), markup(chr(second))
        found = {markup_of(bytes((first,)) + after, codec) for first in range(0x80, 0x100)}
        assert found <= {None, expected}
        found = {markup_of(bytes((first,)) + after + b"<", codec) for first in range(0x80, 0x100)}
        assert found <= {None, f"{expected}<"}


def markup_of(data: bytes, codec: str) -> str | None:
    try:
        return markup(data.decode(codec))
    except UnicodeDecodeError:
        return None


def markup(text: str) -> str:
    return NO_MARKUP.sub("", text)


def test_the_encodings_of_the_standard_librarys_client(server: Server) -> None:
    """As CPython's own test_client_encoding and test_nonascii_methodname have it."""
    with xmlrpc.client.ServerProxy(server.url, encoding="iso-8859-15") as client:
        assert client.add("\u20ac", "\xa4") == "\u20ac\xa4"
    with xmlrpc.client.ServerProxy(server.url, encoding="ascii") as client:
        assert client.__getattr__("t\u00ea\u0161t")(42) == 42
