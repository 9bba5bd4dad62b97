"""Where a secret of the configuration may be."""

from pathlib import Path

import pytest

from gateway.model.secrets import secret


def test_a_secret_is_a_text_or_in_a_file_or_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text(" b:c \nmore")
    monkeypatch.setenv("A_SECRET", "d:e")
    found = [secret(text) for text in ("", "b", "name:b:c", f"file:{tmp_path / 'a'}", "env:A_SECRET")]
    assert found == ["", "b", "name:b:c", "b:c", "d:e"]


def test_what_is_not_there_or_empty(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff")
    (tmp_path / "b").write_bytes(b"\n")
    for text, problem in {
        "env:NO_SUCH": "the environment variable NO_SUCH is empty",
        "file:/nowhere": "the file /nowhere cannot be read: no such file or directory",
        f"file:{tmp_path / 'a'}": "it is not UTF-8",
        f"file:{tmp_path / 'b'}": "is empty",
    }.items():
        with pytest.raises(ValueError, match=problem):
            secret(text)
