"""Which worker holds how many claims, and how many workers are present."""

import msgspec

from pulse.application import ReadWorkers, WorkersSeen
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
        """Claims of gone workers that are older than the timeout and not ended yet."""
        return sum(claims.overdue for claims in self.by_worker if not claims.present)


async def read_claims_overview(database: Database, *, timeout_seconds: float) -> ClaimsOverview:
    """The claims now.

    Raises:
        DatabaseUnavailable: it cannot be read.
    """
    return await database.read(
        lambda connection: select_claims_overview(connection, timeout_seconds=timeout_seconds)
    )


async def select_claims_overview(
    connection: Connection, *, timeout_seconds: float
) -> ClaimsOverview:
    """The claims now, read on a connection of the caller's."""
    cursor = connection.cursor(binary=True)
    parameters = (timeout_seconds, PRESENCE_CLASS)
    await cursor.execute(_SELECT_CLAIMS_BY_WORKER, parameters, prepare=True)
    by_worker = tuple(WorkerClaims(*row) for row in await cursor.fetchall())
    await cursor.execute(_COUNT_PRESENT_WORKERS, (PRESENCE_CLASS,), prepare=True)
    row = await cursor.fetchone()
    return ClaimsOverview(by_worker, row[0] if row else 0)


def reader_of_workers(timeout_seconds: float) -> ReadWorkers:
    """A reader of the workers for notices and readiness; claims are overdue after that long."""

    async def read(connection: Connection) -> WorkersSeen:
        overview = await select_claims_overview(connection, timeout_seconds=timeout_seconds)
        return workers_seen(overview, timeout_seconds)

    return read


def workers_seen(overview: ClaimsOverview, timeout_seconds: float) -> WorkersSeen:
    """The part of the overview that notices and readiness need."""
    gone = [claims for claims in overview.by_worker if not claims.present]
    return WorkersSeen(
        present=overview.workers_present,
        gone_claims=sum(claims.orders for claims in gone),
        oldest_gone_seconds=max((claims.oldest_seconds for claims in gone), default=0.0),
        overdue_claims=overview.overdue_orphans,
        timeout_seconds=timeout_seconds,
    )
