"""How many calls of each method run now, in memory that another process may read, even when this one has crashed.

running = Running(memory)       bytes to write to, Running.SIZE of them; without any, its own
place = running.place(name)     the same for the same name
running.counts[place] += 1      for each call, on the event loop

Running(memory).read()          in the other process
"""

from typing import Any

_PLACES = 256
_NAME = 120  # bytes
_OTHERS = "others"


class Running:
    """A count and a name for each of the first 255 methods that are called; the last place is for all others.

    Attributes:
        counts: by place.

    """

    SIZE = _PLACES * (8 + _NAME)

    def __init__(self, memory: Any = None) -> None:
        view = memoryview(bytearray(self.SIZE) if memory is None else memory)
        self.counts = view[: _PLACES * 8].cast("q")
        self._names = view[_PLACES * 8 : self.SIZE]
        self._used = 0
        self._places: dict[str, int] = {}

    def place(self, name: str) -> int:
        """Return the place of a method."""
        if name in self._places:
            return self._places[name]
        place = self._places[name] = min(self._used, _PLACES - 1)
        self._used += 1
        encoded = (name if place < _PLACES - 1 else _OTHERS).encode("utf-8", "replace")[:_NAME]
        self._names[place * _NAME : place * _NAME + len(encoded)] = encoded
        return place

    def read(self) -> list[tuple[str, int]]:
        """Return the methods that were ever called, with the number of their calls that run."""
        found = []
        for place in range(_PLACES):
            name = bytes(self._names[place * _NAME : (place + 1) * _NAME]).rstrip(b"\0").decode("utf-8", "replace")
            if not name:
                break
            found.append((name, self.counts[place]))
        return found
