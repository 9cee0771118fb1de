"""The halts, also where the stream of halts cannot be read."""

from typing import Final, NamedTuple

from pulse.application.halts import ReleaseHalts
from pulse.domain import Halt, Halts, HistoryBroken
from pulse.eventstore import EventTooNew, EventUnreadable

HALTS_UNREADABLE: Final = (EventTooNew, EventUnreadable, HistoryBroken)
"""What is raised if this code cannot read the stream of halts. Then no slice is released."""


class KnownHalts(NamedTuple):
    """The halts; `fault` is why they cannot be read, None if they can."""

    halts: Halts
    fault: str | None = None

    @property
    def in_force(self) -> tuple[Halt, ...]:
        """The halts that are not lifted; none if they cannot be read."""
        return self.halts.in_force


NO_HALTS: Final = KnownHalts(Halts())


async def read_halts(halts: ReleaseHalts) -> KnownHalts:
    """The halts now.

    Raises:
        DatabaseUnavailable: they cannot be read now.
    """
    try:
        return KnownHalts(await halts.current())
    except HALTS_UNREADABLE as error:
        return KnownHalts(Halts(), str(error))
