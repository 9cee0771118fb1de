"""Who holds claims now, and who is there to work."""

import msgspec

from pulse.postgres import Connection, Database, load_sql
from pulse.workers.presence import PRESENCE_CLASS

_SELECT_CLAIMS_BY_WORKER = load_sql(__package__, "select_claims_by_worker")
_COUNT_PRESENT_WORKERS = load_sql(__package__, "count_present_workers")


class WorkerClaims(msgspec.Struct, frozen=True):
    """The orders one worker holds; `overdue` of them for longer than the timeout.

    `oldest_seconds` is the age of the oldest, from its first claim and by the database's clock.
    """

    worker: str
    orders: int
    oldest_seconds: float
    overdue: int
    present: bool


class ClaimsOverview(msgspec.Struct, frozen=True):
    """Claims by worker, and how many workers are present, those without claims included."""

    by_worker: tuple[WorkerClaims, ...]
    workers_present: int

    @property
    def overdue_orphans(self) -> int:
        """Claims of gone workers that are older than the timeout, and still nobody ended them."""
        return sum(claims.overdue for claims in self.by_worker if not claims.present)


async def read_claims_overview(database: Database, *, timeout_seconds: float) -> ClaimsOverview:
    """The claims now.

    Raises:
        DatabaseUnavailable: it cannot be told.
    """

    async def select(connection: Connection) -> ClaimsOverview:
        cursor = connection.cursor(binary=True)
        await cursor.execute(_SELECT_CLAIMS_BY_WORKER, (timeout_seconds, PRESENCE_CLASS))
        by_worker = tuple(WorkerClaims(*row) for row in await cursor.fetchall())
        await cursor.execute(_COUNT_PRESENT_WORKERS, (PRESENCE_CLASS,))
        row = await cursor.fetchone()
        return ClaimsOverview(by_worker, row[0] if row else 0)

    return await database.read(select)
