"""Which codec is chosen, and where it is named."""

import logging
import os
import re
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest

from gateway.codecs import IMPLEMENTATION
from gateway.codecs.xmlrpc import choice
from gateway.process.server import log_process


def absent() -> Any:
    raise ImportError("not built")


def present() -> Any:
    return ModuleType("compiled")


def test_the_compiled_codec_is_taken_where_it_was_built() -> None:
    assert choice.choose("", absent) is None
    assert choice.choose("", present) is not None


def test_the_environment_chooses() -> None:
    assert choice.choose("pure", present) is None
    assert choice.choose("compiled", present) is not None
    with pytest.raises(ImportError, match="not built"):
        choice.choose("compiled", absent)
    with pytest.raises(ImportError, match="GATEWAY_CODEC must be pure or compiled, not fast"):
        choice.choose("fast", present)


def test_its_name_is_what_runs() -> None:
    assert ("pure" if choice.compiled is None else "compiled") == IMPLEMENTATION


def test_the_command_says_which_one_it_is() -> None:
    program = [sys.executable, "-m", "gateway", "--version"]
    environment = {**os.environ, "GATEWAY_CODEC": "pure"}
    run = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=30, check=True)
    assert re.fullmatch(r"gateway, version \S+, pure codec\n", run.stdout)


def test_the_log_says_which_one_it_is(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gateway"):
        log_process()
    assert f", {IMPLEMENTATION} codec, " in caplog.text
