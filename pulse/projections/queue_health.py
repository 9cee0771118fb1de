"""Whether orders wait for longer than they should, and whether they fail in numbers."""

from typing import Final

import msgspec

from pulse.domain import SPLITTERS
from pulse.postgres import Connection, load_sql

MAX_LOOKED_AT: Final = 1000
"""So many of the oldest waiting and of the newest failed orders are examined, at most."""

LATELY_SECONDS: Final = 900.0

_SELECT_QUEUE_HEALTH = load_sql(__package__, "select_queue_health")


class QueueHealth(msgspec.Struct, frozen=True):
    """Orders that no worker holds, with the age of the oldest in seconds by the database's clock.

    `waiting` are those that this code can split, `for_newer_code` those it cannot; of either
    MAX_LOOKED_AT at most. `failed_lately` counts those that FAILED in the last LATELY_SECONDS, by
    their reason.
    """

    waiting: int
    oldest_waiting_seconds: float
    for_newer_code: int
    oldest_for_newer_code_seconds: float
    failed_lately: dict[str, int]


async def read_queue_health(connection: Connection) -> QueueHealth:
    """The queue's health now, at a bounded cost."""
    cursor = connection.cursor(binary=True)
    parameters = {"splitters": sorted(SPLITTERS), "lately_seconds": LATELY_SECONDS}
    await cursor.execute(_SELECT_QUEUE_HEALTH, parameters, prepare=True)
    row = await cursor.fetchone()
    return QueueHealth(0, 0.0, 0, 0.0, {}) if row is None else QueueHealth(*row)
