"""Where a secret of the configuration may be."""

from pathlib import Path

import pytest

from gateway.model.secrets import Secret


def test_a_secret_is_in_a_file_or_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("b:c\r\n")
    monkeypatch.setenv("A_SECRET", "d:e")
    assert [Secret(file=str(tmp_path / "a")).read(), Secret(env="A_SECRET").read()] == ["b:c", "d:e"]


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff")
    for secret, problem in (
        (Secret(env="NO_SUCH"), "the environment has no variable NO_SUCH"),
        (Secret(file="/nowhere"), "/nowhere cannot be read: no such file or directory"),
        (Secret(file=str(tmp_path / "a")), "is not text in UTF-8"),
    ):
        with pytest.raises(ValueError, match=problem):
            secret.read()


@pytest.mark.parametrize("given", [{}, {"file": "a", "env": "b"}])
def test_it_is_in_one_place(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="one of the two"):
        Secret(**given)
