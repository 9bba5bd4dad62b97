"""Where a program that serves its own methods has its configuration: beside the program, wherever it is started from.

A program in a package may also have it beside the package.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from gateway.config import Config, changed, load


def load_for_program(
    config: str | Path | Config | None,
    environment: Mapping[str, str],
    settings: tuple[str, ...] = (),
    *,
    bind: str | Iterable[str] | None = None,
) -> Config:
    """Load the configuration of the program that calls the function that calls this one.

    Args:
        config: a file, or what has been loaded already; None looks for conf/gateway.toml beside the program, and then
            in the current folder.
        environment: its variables win over the file; a Config is taken as it is.
        settings: ``name=value``, which win over everything.
        bind: one address or several, in the place of ``server.bind``.

    Raises:
        ConfigError: anything is wrong; it lists all of it.

    """
    if bind is not None:
        settings += (f"server.bind={bind if isinstance(bind, str) else ','.join(bind)}",)
    if isinstance(config, Config):
        return changed(config, settings)
    frame = inspect.currentframe()
    frame = frame and frame.f_back and frame.f_back.f_back
    file = None if frame is None else frame.f_globals.get("__file__")
    return load(None if config is None else Path(config), environment, settings, () if file is None else _folders(file))


def _folders(file: str) -> Iterator[Path]:
    """Yield the folder of a module, and those of the packages that it is in, up to the one beside them."""
    folder = Path(file).resolve().parent
    yield folder
    while (folder / "__init__.py").is_file():
        folder = folder.parent
        yield folder
