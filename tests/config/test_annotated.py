"""conf/gateway.toml: it is made from the options, has their defaults, and its examples can be used as they are."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from docs.configuration import FILE, TABLES, page, table
from docs.options import examples
from gateway.cli import main
from gateway.config import OPTIONS, Config, load
from gateway.config.origins import description, spelled

EXAMPLES = {option: examples(hint) for option, hint in OPTIONS.items() if examples(hint)}
HASH = f"sha256:{'5' * 64}"


def test_the_file_is_that_of_the_options() -> None:
    assert FILE.read_text("utf-8") == page(), "conf/gateway.toml is out of date: make reference"


def test_it_has_the_default_of_every_option_in_order() -> None:
    document = tomllib.loads(page())
    assert load(FILE, {}, ()) == Config(file=FILE)
    assert [f"{section}.{name}" for section, options in document.items() for name in options] == list(OPTIONS)


def test_check_finds_nothing_in_it() -> None:
    checked = CliRunner().invoke(main, ["check", "handlers", "--config", str(FILE)])
    assert checked.exit_code == 0
    assert re.search(r"^gateway: no errors: \d+ methods$", checked.output, re.MULTILINE)


@pytest.mark.parametrize("option", OPTIONS)
def test_what_an_option_is_for_is_said_in_sentences(option: str) -> None:
    assert re.fullmatch(r"[A-Z].*\.", description(OPTIONS[option]))


def test_lines_fit_and_ranges_stay_together() -> None:
    lines = page().splitlines()
    assert max(map(len, lines)) <= 120
    ranges = {
        after.partition(" = ")[0]: before.partition("Range: ")[2]
        for before, after in pairwise(lines)
        if "Range: " in before
    }
    assert ranges["max_body"] == "1 KiB to 1 GiB."
    assert ranges["timeout"] == "above 0, at most 86,400 (a day)."
    assert ranges["watchdog"] == "0 to 86,400 (a day)."
    assert ranges["workers"] == "1 to 1,024."
    assert ranges["compress_above"] == "at least 0."
    assert "max_body = 1_048_576" in lines


def test_its_examples_can_be_used(tmp_path: Path) -> None:
    shown = page().replace("\n#     ", "\n").splitlines()
    for option, values in EXAMPLES.items():
        assert {f"{option.partition('.')[2]} = {spelled(value)}" for value in values} <= set(shown)
    lines = [f"{option} = {spelled(value)}" for option, (*_, value) in EXAMPLES.items()]
    for field in msgspec.structs.fields(Config):
        if field.name in TABLES:
            written = [line for example in examples(field.type) for line in table(field.name, example)]
            assert set(written) <= {*shown, ""}
            lines += written
    file = tmp_path / "gateway.toml"
    file.write_text("\n".join(lines).replace("sha256:...", HASH))
    config = load(file, {}, ())
    assert (set(config.access.keys), config.access.rules[0].keys) == ({"odoo"}, ("odoo",))
    assert set(config.directories) == {"list", "k8s", "zk"}
    assert (set(config.upstreams), set(config.versions)) == ({"warehouse"}, {"inventory"})
