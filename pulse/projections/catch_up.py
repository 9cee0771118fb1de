"""Projects the log after a migration, and at the start of a process if the queue is far behind."""

from collections.abc import Callable
from typing import Final

from pulse.eventstore import EventMapper, read_log_state
from pulse.postgres import Connection, Database
from pulse.projections.position import read_position
from pulse.projections.projector import Projector

MAX_BEHIND_EVENTS: Final = 1_000_000
"""A process whose queue lags further catches up before it serves: about a minute for this many."""

_BATCH_EVENTS: Final = 2_000


async def catch_up_queue(
    database: Database,
    on_progress: Callable[[int, int], None],
    *,
    max_behind_events: int = MAX_BEHIND_EVENTS,
) -> None:
    """Project the log to its end if the queue is more than `max_behind_events` behind.

    Otherwise workers would claim orders whose outcome is already in the log, and would claim new
    orders too late. `on_progress` is called with the position reached and the log's end, and not at
    all if the queue is close enough. After an interruption the next call continues.

    Raises:
        DatabaseUnavailable: the committed batches remain.
        EventTooNew: the committed batches remain; newer code must project the rest.
    """

    async def read(connection: Connection) -> tuple[int, int]:
        return await read_position(connection), (await read_log_state(connection)).end

    position, end = await database.read(read)
    if end - position > max_behind_events:
        on_progress(position, end)
        projector = Projector(database, EventMapper(), batch_events=_BATCH_EVENTS)
        await projector.run_until(end, lambda reached: on_progress(reached, end))
