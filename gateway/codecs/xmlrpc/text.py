"""XML as text: from bytes in one of the supported encodings, and escaped for a document.

bytes -> str    UnsupportedEncoding, InvalidCharacter; ParseError for a NUL; InvalidRequest for a DOCTYPE
str -> str      escaped; EncodingError for what XML 1.0 cannot carry
"""

import re

from gateway.codecs.xmlrpc.encodings import ENCODINGS
from gateway.model.faults import InvalidCharacter, InvalidRequest, ParseError, UnsupportedEncoding
from gateway.model.values import EncodingError

SPACE = " \t\r\n"
_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_DECLARED = re.compile(rb"""<\?xml[ \t\r\n][^>]*?[ \t\r\n]encoding[ \t\r\n]*=[ \t\r\n]*["']([^"'>]+)["']""")
_DOCTYPE = re.compile(r"(?>(?:[ \t\r\n]++|<\?.*?\?>|<!--.*?-->)*)<!DOCTYPE", re.DOTALL)


def read_text(body: bytes, charset: str | None) -> str:
    """Decode a document: byte order mark before HTTP charset before XML declaration before UTF-8 (RFC 7303, 3.2)."""
    for mark, encoding in _BOMS:
        if body.startswith(mark):
            return _decoded(body[len(mark) :], encoding)
    name = charset
    if name is None:
        declared = _DECLARED.match(body.lstrip(SPACE.encode()))
        name = declared[1].decode("latin-1").lower() if declared else "utf-8"
    known = ENCODINGS.get(name.strip(SPACE))
    if known is None:
        raise UnsupportedEncoding(
            "supported are UTF-8, UTF-16 with a byte order mark, and the stateless ones of the WHATWG Encoding standard"
        )
    return _decoded(body, known)


def _decoded(body: bytes, encoding: str) -> str:
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        raise InvalidCharacter(f"byte {error.start} is not {encoding}") from None
    if "\0" in text:
        raise ParseError("not well-formed: a NUL character")
    text = text.strip(SPACE)
    if text.startswith("\ufeff"):  # programs that write a mark before a text that has one
        text = text.lstrip("\ufeff" + SPACE)
    if "<!DOCTYPE" in text and _DOCTYPE.match(text):
        raise doctype()
    return text


def doctype() -> InvalidRequest:
    """Make the refusal of a DOCTYPE."""
    return InvalidRequest("a DOCTYPE is not allowed")


_PLAIN_ASCII = re.compile(r"[\t\n -%'-;=?-\x7f]*+").fullmatch  # a class of so few characters is looked up faster
# What XML 1.0 cannot carry is listed, for what it can is a class that takes ten times as long to compile.
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_SPECIAL = re.compile("[\x00-\x08\x0b-\x1f&<>\ud800-\udfff\ufffe\uffff]")
_ESCAPES = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\r", "&#13;"))


def escaped(text: str) -> str:
    """Escape a text for a document; an EncodingError names the character that XML 1.0 cannot carry."""
    if _PLAIN_ASCII(text) or not _SPECIAL.search(text):
        return text
    illegal = _ILLEGAL.search(text)
    if illegal:
        raise EncodingError(f"a string has the character U+{ord(illegal[0]):04X}, which XML 1.0 cannot carry")
    return _referenced(text)


def escaped_legibly(text: str) -> str:
    """Escape a text that must be written whatever it has in it: U+FFFD stands for what XML 1.0 cannot carry."""
    return _referenced(_ILLEGAL.sub("\ufffd", text))


def _referenced(text: str) -> str:
    for character, reference in _ESCAPES:  # str.translate takes ten times as long
        text = text.replace(character, reference)
    return text
