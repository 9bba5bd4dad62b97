"""Where each option in force comes from, and its value as it may be shown."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Meta

from gateway.config import OPTIONS, Config
from gateway.config.sources import Setting, find, read
from gateway.config.tables import SECRET

DEFAULT = "default"
_PROGRAM = "program"


def settings(file: Path | None, environment: Mapping[str, str], words: Iterable[str]) -> tuple[Setting, ...]:
    """Return what ``load`` reads of the same arguments, those that win behind those that lose."""
    return tuple(read(find(file, environment, ()), environment, words, OPTIONS, []))


def shown(config: Config, found: Iterable[Setting]) -> list[dict[str, Any]]:
    """Return a row for each option: its name, its value in TOML's spelling, where it comes from, what it is for.

    Args:
        config: what is in force.
        found: the settings that were read, those that win behind those that lose.

    """
    places = {option: place for option, _, place in found}
    usual = Config()
    for option in OPTIONS:
        if _value(config, option) != _value(usual, option):
            places.setdefault(option, _PROGRAM)
    rows = []
    for option, value, hint in _all(config):
        if option not in OPTIONS:  # of a table, which has no rows for its defaults
            places.setdefault(option, _PROGRAM)
        rows.append(_row(option, value, places, description(hint)))
    return rows


def _all(config: Config) -> Iterator[tuple[str, Any, Any]]:
    """Iterate over options with their values and type hints; in a table of its own only over those that are set."""
    for option, hint in OPTIONS.items():
        yield option, _value(config, option), hint
    for section in ("upstreams", "directories", "versions"):
        for name, options in getattr(config, section).items():
            for each in msgspec.structs.fields(options):
                value = getattr(options, each.name)
                default = each.default if each.default_factory is msgspec.NODEFAULT else each.default_factory()
                if each.required or value != default:
                    yield f"{section}.{name}.{each.name}", value, each.type


def _digest(value: Any) -> str:
    return f"(hidden, {sha256(spelled(value).encode()).hexdigest()[:12]})"


def values(config: Config) -> dict[str, str]:
    """Return all options that are set, by their names; of secrets a digest, so that a change is seen."""
    return {
        option: _digest(value) if _is_secret(option) and value else spelled(value) for option, value, _ in _all(config)
    }


def _row(option: str, value: Any, places: Mapping[str, str], said: str) -> dict[str, Any]:
    hidden = bool(value) and _is_secret(option)
    if hidden and isinstance(value, Mapping):
        text = f"{{ {', '.join(f'{name} = (hidden)' for name in value)} }}"
    else:
        text = "(hidden)" if hidden else spelled(value)
    return {"option": option, "value": text, "from": places.get(option, DEFAULT), "for": said}


def spelled(value: Any) -> str:
    """Write a value as a file of TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | date):
        return str(value)
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{', '.join(spelled(each) for each in value)}]"
    if isinstance(value, msgspec.Struct):
        value = {name: each for name, each in msgspec.structs.asdict(value).items() if each is not None}
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{name} = {spelled(each)}' for name, each in value.items())} }}" if value else "{}"
    return '""' if value is None else msgspec.json.encode(str(value)).decode()


def _is_secret(option: str) -> bool:
    """Tell whether an option may hold what nobody is to see; a name that says so is enough."""
    name = option.rpartition(".")[2]
    return name in SECRET or any(part in name for part in ("secret", "password", "token", "credential"))


def _value(config: Config, option: str) -> Any:
    section, _, name = option.partition(".")
    return getattr(getattr(config, section), name)


def description(hint: Any) -> str:
    """Return what an option is for: the outermost description, which is the last one of a type hint."""
    metas = [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, Meta)]
    return next((meta.description for meta in reversed(metas) if meta.description), "")
