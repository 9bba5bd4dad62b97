"""The calls of a batch, one after the other or several at once, and the bytes that their responses have together."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from msgspec import Struct

from gateway.codecs.contract import Turns
from gateway.model.calls import Answer, Call, Entry, Reply

_T = TypeVar("_T")
_TURN = 0.005  # seconds that the calls of a batch may hold the loop, before others have their turn


class Writer(Protocol):
    """What responses to calls are written with: a codec, or what writes them for another endpoint; see Codec."""

    @property
    def name(self) -> str:
        """What contexts, the log and metrics call the protocol."""

    @property
    def native(self) -> tuple[type, ...]:
        """The types that values have beside those of JSON."""

    @property
    def wide_ints(self) -> bool:
        """Whether ints beyond 53 bits are numbers."""

    def encoding(self, entry: Entry, reply: Reply, room: int) -> Turns[Answer]:
        """Write a reply in at most ``room`` bytes, in turns."""


class Room(Struct):
    """The bytes that are left for the responses to one request.

    Attributes:
        left: how many.
        lock: lets one response be encoded at a time, where calls run at once; None where they do not.

    """

    left: int
    lock: asyncio.Lock | None = None

    async def encode(self, codec: Writer, entry: Entry, reply: Reply) -> Answer:
        """Encode a reply in what is left."""
        if self.lock is None:
            return await self._encode(codec, entry, reply)
        async with self.lock:
            return await self._encode(codec, entry, reply)

    async def _encode(self, codec: Writer, entry: Entry, reply: Reply) -> Answer:
        answer = await in_turns(codec.encoding(entry, reply, self.left))
        if not is_notification(entry):
            self.left -= len(answer.wire)
        return answer


async def in_order(entries: Sequence[Entry], answer: Callable[[Entry, int], Awaitable[Answer]]) -> list[Answer]:
    """Answer one entry after the other; ``answer`` is given each with its position."""
    answers = []
    since = time.monotonic()
    for position, entry in enumerate(entries):
        if time.monotonic() - since > _TURN:
            await asyncio.sleep(0)
            since = time.monotonic()
        answers.append(await answer(entry, position))
    return answers


async def at_once(
    entries: Sequence[Entry], most: int, answer: Callable[[Entry, int], Awaitable[Answer]]
) -> list[Answer]:
    """Answer so many entries at once; the answers are in the order of the entries."""
    await asyncio.sleep(0)  # a host may have begun this outside of a task, and the group needs one (hosts/eager.py)
    waiting = enumerate(entries)
    found: dict[int, Answer] = {}

    async def work() -> None:
        since = time.monotonic()
        for position, entry in waiting:
            found[position] = await answer(entry, position)
            if time.monotonic() - since > _TURN:
                await asyncio.sleep(0)
                since = time.monotonic()

    async with asyncio.TaskGroup() as group:
        for _ in range(min(most, len(entries))):
            group.create_task(work())
    return [found[position] for position in range(len(entries))]


async def in_turns(turns: Turns[_T]) -> _T:
    """Do work that takes long, and let others have their turns in between."""
    while True:
        try:
            next(turns)
        except StopIteration as end:
            value: _T = end.value
            return value
        await asyncio.sleep(0)


def is_notification(entry: Entry) -> bool:
    """Tell whether an entry wants no answer."""
    return isinstance(entry, Call) and entry.notification
