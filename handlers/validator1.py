"""The classic validator1 suite, by which XML-RPC servers were compared in 1998 (1998.xmlrpc.com/validator1Docs)."""

from datetime import datetime
from typing import Any, TypedDict

import msgspec

from gateway import InvalidParams, method


class Stooges(TypedDict):
    """A struct with at least these three members."""

    moe: int
    larry: int
    curly: int


@method(name="validator1.arrayOfStructsTest")
def array_of_structs(structs: list[Stooges]) -> int:
    """Add up the curlys of an array of structs."""
    return sum(struct["curly"] for struct in structs)


@method(name="validator1.countTheEntities")
def count_the_entities(text: str) -> dict[str, int]:
    """Count the characters that XML writes as entities."""
    names = {
        "ctLeftAngleBrackets": "<",
        "ctRightAngleBrackets": ">",
        "ctAmpersands": "&",
        "ctApostrophes": "'",
        "ctQuotes": '"',
    }
    return {name: text.count(character) for name, character in names.items()}


@method(name="validator1.easyStructTest")
def easy_struct(struct: Stooges) -> int:
    """Add up the three stooges."""
    return struct["moe"] + struct["larry"] + struct["curly"]


@method(name="validator1.echoStructTest")
def echo_struct(struct: dict[str, Any]) -> dict[str, Any]:
    """Return a struct as it came."""
    return struct


@method(name="validator1.manyTypesTest")
def many_types(  # noqa: PLR0913, PLR0917 - the suite says so
    number: int,
    boolean: bool,  # noqa: FBT001 - by position, as all of XML-RPC
    string: str,
    double: float,
    date_time: datetime,
    base64: bytes,
) -> list[Any]:
    """Return six arguments of six types in an array."""
    return [number, boolean, string, double, date_time, base64]


@method(name="validator1.moderateSizeArrayCheck")
def moderate_size_array(strings: list[str]) -> str:
    """Join the first and the last string of an array."""
    if not strings:
        raise InvalidParams("params[0]: expected at least one string")
    return strings[0] + strings[-1]


@method(name="validator1.nestedStructTest")
def nested_struct(years: dict[str, dict[str, dict[str, Any]]]) -> int:
    """Add up the stooges of the first of April 2000 in a calendar of years, months and days."""
    try:
        return easy_struct(msgspec.convert(years["2000"]["04"]["01"], Stooges))
    except (KeyError, msgspec.ValidationError):
        raise InvalidParams("params[0].2000.04.01: expected a struct with moe, larry and curly") from None


@method(name="validator1.simpleStructReturnTest")
def simple_struct_return(number: int) -> dict[str, int]:
    """Return a struct of ten, a hundred and a thousand times a number."""
    return {"times10": number * 10, "times100": number * 100, "times1000": number * 1000}
