"""TLS towards upstreams that are no HTTP servers: the servers' own, of their own libraries."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from msgspec.structs import replace

from gateway.config import ConfigError
from tests.conftest import Logged
from tests.upstreams.kinds import KINDS, Kind
from tests.upstreams.running import Program, serve_upstream

pytestmark = pytest.mark.unmeasured

WITH_TLS = [kind for kind in KINDS if kind.name in ("jsonrpc+tcp", "thrift binary framed official", "rpyc")]
UNAVAILABLE, BAD = -32002, -32004


@pytest.fixture(params=WITH_TLS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    scheme = found.url.partition("://")[0]
    return replace(found, url=f"{scheme.removesuffix('+tcp')}+tls://localhost:{{port}}")


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return made


@pytest.fixture
def program(kind: Kind, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "cert.pem"))
    monkeypatch.setenv("CERT", str(tmp_path / "cert.pem"))
    with Program(kind) as running:
        yield running


def named(kind: Kind) -> str:
    return kind.named if "methods" not in kind.options else ""


def test_calls_are_made_where_the_certificate_is_trusted(
    kind: Kind, program: Program, tmp_path: Path, logged: Logged
) -> None:
    trusted = f"{named(kind)}\nca = '{tmp_path}/ca.pem'"
    with serve_upstream(kind, program.port, tmp_path, trusted) as up:
        assert [up.call("add", number, 2) for number in range(3)] == [2, 3, 4]
        program.kill()
        assert up.fault("add", 1, 2)[0] == UNAVAILABLE
        program.start()
        assert up.call("add", 1, 2) == 3
    assert logged.take("is down")


def test_a_certificate_of_an_unknown_authority_is_not_trusted(
    kind: Kind, program: Program, tmp_path: Path, logged: Logged
) -> None:
    with serve_upstream(kind, program.port, tmp_path, named(kind)) as up:
        assert up.fault("add", 1, 2) == (UNAVAILABLE, "no")
    assert logged.take("CERTIFICATE_VERIFY_FAILED")


def test_a_certificate_for_another_name_is_not_trusted(
    kind: Kind, program: Program, tmp_path: Path, logged: Logged
) -> None:
    other = replace(kind, url=kind.url.replace("localhost", "127.0.0.1"))
    with serve_upstream(other, program.port, tmp_path, f"{named(kind)}\nca = '{tmp_path}/ca.pem'") as up:
        assert up.fault("add", 1, 2) == (UNAVAILABLE, "no")
    assert logged.take("CERTIFICATE_VERIFY_FAILED")


def test_plain_and_tls_do_not_meet(kind: Kind, program: Program, tmp_path: Path, logged: Logged) -> None:
    plain = next(each for each in WITH_TLS if each.name == kind.name)
    with serve_upstream(plain, program.port, tmp_path, named(kind)) as up:
        assert up.fault("add", 1, 2)[0] in (UNAVAILABLE, BAD)
    assert logged.take("upstream up")


def test_certificates_are_for_tls(kind: Kind, tmp_path: Path) -> None:
    plain = next(each for each in WITH_TLS if each.name == kind.name)
    told = f"ca, cert and key are for a url with {kind.url.partition('://')[0]}"
    with pytest.raises(ConfigError) as raised, serve_upstream(plain, 1, tmp_path, f"{named(kind)}\nca = 'ca.pem'"):
        pass
    assert told in str(raised.value)
