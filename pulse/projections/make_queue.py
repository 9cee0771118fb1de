"""Makes the order queue from the log, where a migration has emptied it or it is far behind."""

from collections.abc import Callable
from typing import Final

from pulse.eventstore import EventMapper, read_log_state
from pulse.postgres import Connection, Database
from pulse.projections.position import read_position
from pulse.projections.projector import Projector

MAX_BEHIND_EVENTS: Final = 1_000_000
"""About a minute of projecting: a process that has more to project serves no orders yet."""

_BATCH_EVENTS: Final = 2_000


async def make_queue(
    database: Database,
    on_progress: Callable[[int, int], None],
    *,
    max_behind_events: int = MAX_BEHIND_EVENTS,
) -> None:
    """Project the log to its end, where the queue is far behind it.

    Until then workers would claim orders whose outcome is in the log, and new orders would be
    claimed too late. `on_progress` is called with the position reached and the log's end; not at
    all where the queue is at most `max_behind_events` behind. Interrupted, it goes on where it was.

    Raises:
        DatabaseUnavailable: the batches committed so far stay.
        EventTooNew: likewise; newer code must go on.
    """

    async def read(connection: Connection) -> tuple[int, int]:
        return await read_position(connection), (await read_log_state(connection)).end

    position, end = await database.read(read)
    if end - position > max_behind_events:
        on_progress(position, end)
        projector = Projector(database, EventMapper(), batch_events=_BATCH_EVENTS)
        await projector.run_until(end, lambda reached: on_progress(reached, end))
