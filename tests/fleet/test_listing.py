"""Which instances of a list the calls of an upstream may go to."""

import pytest

from gateway.fleet.listing import Instance, fitting

LISTING = tuple(
    Instance(address=address, scheme=scheme, version=version, group=group)
    for address, scheme, version, group in (
        ("a:1", "", "", ""),
        ("b:1", "jsonrpc", "1.4", ""),
        ("c:1", "jsonrpc+http", "2.0", "blue"),
        ("d:1", "tri", "1.4", "blue"),
        ("e:1", "dubbo", "1.4", ""),
        ("f:1", "http", "1.5", "green"),
    )
)


@pytest.mark.parametrize(
    ("wanted", "addresses"),
    [
        (("jsonrpc+http",), "abcf"),
        (("jsonrpc+https",), "ab"),
        (("grpc",), "ad"),
        (("grpcs",), "ad"),
        (("rpyc",), "a"),
        (("jsonrpc+http", "1.*"), "bf"),
        (("jsonrpc+http", "1.4"), "b"),
        (("jsonrpc+http", "", "blue"), "c"),
        (("jsonrpc+http", "*", "g*"), "f"),
        (("jsonrpc+http", "3"), ""),
    ],
)
def test_what_fits_an_upstream(wanted: tuple[str, ...], addresses: str) -> None:
    assert "".join(each.address[0] for each in fitting(LISTING, *wanted)) == addresses
