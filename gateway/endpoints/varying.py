"""Headers of a request that has a head which was judged before: some of them are its own."""

from collections.abc import Iterator, Mapping

VARYING = ("Content-Length", "X-Request-ID", "X-Request-Timeout", "traceparent")
_PLACES = {name.lower(): place for place, name in enumerate(VARYING)}


class VaryingHeaders(Mapping[str, str]):
    """Headers of which some are not those of the head that was judged."""

    __slots__ = ("_kept", "_varying")

    def __init__(self, kept: Mapping[str, str], varying: tuple[str | None, ...]) -> None:
        self._kept = kept
        self._varying = varying

    def __getitem__(self, name: str) -> str:
        place = _PLACES.get(name.lower())
        if place is None:
            return self._kept[name]
        value = self._varying[place]
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        yield from (name for name in self._kept if name.lower() not in _PLACES)
        yield from (name for name, value in zip(VARYING, self._varying, strict=True) if value is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)
