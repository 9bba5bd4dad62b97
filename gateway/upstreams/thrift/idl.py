"""What a .thrift file says of a service: its methods, and the types of their arguments and results.

    load(file, service, includes)   the methods by name, inherited ones too; UpstreamConfigError says what is wrong

lexing.py, parsing.py and linking.py do the reading; this file opens the files.
"""

from pathlib import Path

from gateway.upstreams import UpstreamConfigError
from gateway.upstreams.options import nearest
from gateway.upstreams.thrift.lexing import IdlError, Token
from gateway.upstreams.thrift.linking import Linker, functions
from gateway.upstreams.thrift.parsing import parse
from gateway.upstreams.thrift.scopes import Program
from gateway.upstreams.thrift.types import ThriftMethod

_MOST_BYTES = 4 << 20  # of a file and its includes together; the largest that are known have a tenth
_MOST_INCLUDES = 50  # inside each other


def load(file: str, service: str, includes: tuple[str, ...] = ()) -> dict[str, ThriftMethod]:
    """Read a service from a .thrift file.

    ``service`` may be empty if the file has only one. ``includes`` are folders for included files that are not in the
    folder of the file that includes them.

    Raises:
        UpstreamConfigError: the file cannot be read or understood, or has no such service.

    """
    program = _Files(includes).program(Path(file), None)
    services = program.document.services
    if not service and len(services) > 1:
        raise UpstreamConfigError(
            f"the file {file} has several services: name one, service = one of {', '.join(services)}"
        )
    name = service or next(iter(services), "at all")
    if name not in services:
        raise UpstreamConfigError(f"the file {file} has no service {name}{nearest(name, services)}")
    linker = Linker()
    found = functions(program, services[name])
    return {each: linker.method(*function) for each, function in found.items()}


class _Files:
    """The files that are read for one service, each once."""

    def __init__(self, folders: tuple[str, ...]) -> None:
        self._folders = [Path(folder) for folder in folders]
        self._left = _MOST_BYTES
        self._read: dict[Path, Program] = {}
        self._open: list[Path] = []

    def program(self, path: Path, include: Token | None) -> Program:
        """Read a file and what it includes; ``include`` is where another file asks for it."""
        place = path.resolve()
        if place in self._open and include is not None:
            chain = " > ".join(each.name for each in (*self._open[self._open.index(place) :], place))
            raise include.error(f"the includes go in a circle, {chain}: move what they share to another file")
        if len(self._open) == _MOST_INCLUDES and include is not None:
            raise include.error(f"includes are nested too deeply: at most {_MOST_INCLUDES} levels are read")
        if place not in self._read:
            self._open.append(place)
            self._read[place] = self._parsed(path)
            self._open.pop()
        return self._read[place]

    def _parsed(self, path: Path) -> Program:
        document = parse(str(path), self._text(path))
        included: dict[str, list[Program]] = {}
        missing: dict[str, IdlError] = {}
        for include in document.includes:
            name = include.value.rpartition("/")[2].removesuffix(".thrift")
            found = self._found(path, include)
            if found is None:
                folders = ", ".join(str(folder) for folder in self._near(path))
                missing[name] = include.error(
                    f'the included file {include.value} is not in {folders}: name its folder, includes = ["..."]'
                )
            else:
                included.setdefault(name, []).append(self.program(found, include))
        return Program(document, included, missing)

    def _text(self, path: Path) -> str:
        try:
            with path.open("rb") as file:
                data = file.read(self._left + 1)
        except OSError as error:
            raise UpstreamConfigError(f"the file {path} cannot be read: {str(error.strerror).lower()}") from None
        self._left -= len(data)
        if self._left < 0:
            raise UpstreamConfigError(f"{path}: the .thrift files have more than {_MOST_BYTES >> 20} MiB together")
        return data.decode("utf-8-sig", "replace")

    def _near(self, path: Path) -> list[Path]:
        return [path.parent, *self._folders]

    def _found(self, path: Path, include: Token) -> Path | None:
        return next((each for folder in self._near(path) if _is_file(each := folder / include.value)), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a name that is too long
        return False
