"""What a gateway serves, written down beside its pid_file: for ``gateway reload --diff`` and ``gateway rollback``.

    write(pid_file, state)     by the supervisor, when a generation serves; what was there before is kept as well
    read(pid_file), read_before(pid_file)
    remove(pid_file)           when the gateway ends

The files hold the text of the configuration, secrets too, so nobody else may read them.
"""

import inspect
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from gateway.config import Config
from gateway.config.origins import values
from gateway.methods import Method, Param

_MOST = 2**19  # bytes of signatures
_NOW, _BEFORE = ".state", ".state-before"


class State(Struct, frozen=True, kw_only=True):
    """What is served.

    Attributes:
        file: the configuration file; None without one.
        text: what is in it.
        options: all options by their names, secrets as digests.
        methods: the methods that are known without asking an upstream, by their names, with their signatures.

    """

    file: str | None
    text: str
    options: dict[str, str]
    methods: dict[str, str]


def state_of(config: Config, text: str, methods: dict[str, str]) -> State:
    """Put together what is served."""
    file = None if config.file is None else str(config.file.resolve())
    return State(file=file, text=text, options=values(config), methods=methods)


def text_of(config: Config) -> str:
    """Return what is in the configuration file; nothing where it cannot be read."""
    with suppress(OSError, UnicodeDecodeError):
        return "" if config.file is None else config.file.read_text("utf-8-sig")
    return ""


def signatures(methods: Iterable[tuple[str, Method]]) -> dict[str, str]:
    """Write down the signatures of methods, by their names, as far as they fit into what a worker may report."""
    found: dict[str, str] = {}
    room = _MOST
    for name, method in methods:
        signature = _signature(method)
        room -= len(name.encode("utf-8", "replace")) + len(signature.encode("utf-8", "replace")) + 8
        if room < 0:
            break
        found[name] = signature
    return found


def _signature(method: Method) -> str:
    params = [_param(param) for param in method.params]
    params += [f"*{method.rest.name}"] if method.rest is not None else []
    params += [f"**{method.others.name}"] if method.others is not None else []
    return f"({', '.join(params)}) -> {inspect.formatannotation(method.result)}"


def _param(param: Param) -> str:
    hint = inspect.formatannotation(param.hint)
    return f"{param.name}: {hint}" if param.required else f"{param.name}: {hint} = ..."


def write(pid_file: str, state: State) -> None:
    """Write down what is served now.

    Raises:
        OSError: it cannot be written.

    """
    now = Path(pid_file + _NOW)
    made = Path(f"{now}.new")
    with suppress(FileNotFoundError):
        made.unlink()
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "wb") as opened:  # noqa: PTH123 - it is a descriptor
        opened.write(msgspec.json.encode(state))
    with suppress(FileNotFoundError):
        now.replace(pid_file + _BEFORE)
    made.replace(now)


def read(pid_file: str) -> State:
    """Return what is served now.

    Raises:
        OSError, msgspec.MsgspecError: it was not written down.

    """
    return msgspec.json.decode(Path(pid_file + _NOW).read_bytes(), type=State)


def read_before(pid_file: str) -> State:
    """Return what was served before the last reload; as ``read``."""
    return msgspec.json.decode(Path(pid_file + _BEFORE).read_bytes(), type=State)


def remove(pid_file: str) -> None:
    """Remove what was written down."""
    for name in (_NOW, _BEFORE):
        with suppress(OSError):
            Path(pid_file + name).unlink()
