"""The grammar of Host, charset and printable names, read in one way by all parts."""

import pytest

from gateway.wire.http_grammar import HOST, PRINTABLE, TOKEN, charset, host_name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("A.example:8000", "a.example"),
        ("localhost", "localhost"),
        ("[::1]:80", "[::1]"),
        ("10.0.0.1:", "10.0.0.1"),
        ("", ""),
        ("a,b", ""),
        ("a b", ""),
        ("a:80:90", ""),
        ("a/b", ""),
        ("[::1", ""),
    ],
)
def test_the_name_in_a_host(value: str, name: str) -> None:
    assert host_name(value) == name
    assert bool(HOST.fullmatch(value)) is bool(name or not value)


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("text/xml", None),
        ("text/xml; charset=UTF-8", "utf-8"),
        ('text/xml;charset="us-ascii"', "us-ascii"),
        ("text/xml; charset='UTF-8'", "utf-8"),
        ("charset=utf-8", None),
    ],
)
def test_the_charset_of_a_content_type(content_type: str, expected: str | None) -> None:
    assert charset(content_type) == expected


def test_tokens_and_printable_names() -> None:
    assert TOKEN.fullmatch("X-Request-ID")
    assert not TOKEN.fullmatch("X Y")
    assert PRINTABLE.fullmatch("system.listMethods")
    assert not PRINTABLE.fullmatch("a\x1b[31m")
    assert not PRINTABLE.fullmatch("a" * 101)
