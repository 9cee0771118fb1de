"""The order queue in numbers: how far it is behind, what waits, fails, and is there."""

from typing import Final, LiteralString

import msgspec
import psycopg

from pulse.domain import SPLITTERS
from pulse.eventstore import read_log_state
from pulse.postgres import Connection, Database, fetch, load_sql
from pulse.projections.position import AFTER_LOG, PROJECTION_NAME

MAX_EXAMINED: Final = 1000
"""So many of the oldest waiting and of the newest failed orders are examined, at most."""

LATELY_SECONDS: Final = 900.0
_MAX_EXACT_SECONDS: Final = 5.0

_SELECT_LAG = load_sql(__package__, "select_lag")
_SELECT_QUEUE_HEALTH = load_sql(__package__, "select_queue_health")
_SELECT_QUEUE_COUNTS = load_sql(__package__, "select_queue_counts")
_ESTIMATE_QUEUE_COUNTS = load_sql(__package__, "estimate_queue_counts")
_LIMIT_STATEMENT = load_sql(__package__, "limit_statement")


class Lag(msgspec.Struct, frozen=True):
    """`behind_seconds` is the age of the first event not yet projected, by the database's clock.

    An id that the log's sequence has not issued is not waited for.
    """

    position: int
    behind_seconds: float
    parked_orders: int
    orders_for_newer_code: int


class QueueHealth(msgspec.Struct, frozen=True):
    """Orders that no worker holds, with the age of the oldest in seconds by the database's clock.

    `waiting` are those that this code can split, `for_newer_code` those it cannot; of either
    MAX_EXAMINED at most. `failed_lately` counts those that FAILED in the last LATELY_SECONDS, by
    their reason.
    """

    waiting: int
    oldest_waiting_seconds: float
    for_newer_code: int
    oldest_for_newer_code_seconds: float
    failed_lately: dict[str, int]


class QueueCount(msgspec.Struct, frozen=True):
    """How many orders are in a state, FAILED ones by their reason.

    `oldest_seconds` is the age of the oldest PENDING one from its creation, or of the oldest
    IN_PROGRESS one from its first claim, by the database's clock; None for an outcome.
    """

    order_queue_status: str
    failure_reason: str | None
    orders: int
    oldest_seconds: float | None


class QueueOverview(msgspec.Struct, frozen=True):
    """The queue by state; unless `exact`, COMPLETED and FAILED are scaled up from a sample."""

    counts: tuple[QueueCount, ...]
    exact: bool

    def orders(self, order_queue_status: str) -> int:
        """How many are in that state, for whatever reason."""
        return sum(c.orders for c in self.counts if c.order_queue_status == order_queue_status)

    def oldest_seconds(self, order_queue_status: str) -> float | None:
        """The age of the oldest in that state, None if there is none."""
        ages = (c.oldest_seconds for c in self.counts if c.order_queue_status == order_queue_status)
        return max((age for age in ages if age is not None), default=None)

    @property
    def failed_by_reason(self) -> dict[str, int]:
        """FAILED orders by the code of their reason, the most frequent first."""
        failed = [c for c in self.counts if c.order_queue_status == "FAILED"]
        failed.sort(key=lambda c: (-c.orders, c.failure_reason or ""))
        return {c.failure_reason or "": c.orders for c in failed}


async def read_lag(connection: Connection) -> Lag:
    """How far the queue is behind the log now."""
    issued = (await read_log_state(connection)).last_issued
    last_issued = AFTER_LOG if issued is None else issued
    rows = await fetch(connection, _SELECT_LAG, (last_issued, sorted(SPLITTERS), PROJECTION_NAME))
    return Lag(*rows[0]) if rows else Lag(0, 0.0, 0, 0)


async def read_queue_health(connection: Connection) -> QueueHealth:
    """Whether orders wait for longer than they should, and fail in numbers, at a bounded cost."""
    parameters = {"splitters": sorted(SPLITTERS), "lately_seconds": LATELY_SECONDS}
    rows = await fetch(connection, _SELECT_QUEUE_HEALTH, parameters)
    return QueueHealth(*rows[0])


async def read_queue_overview(
    database: Database, *, max_exact_seconds: float = _MAX_EXACT_SECONDS
) -> QueueOverview:
    """The queue now, as far as it is projected.

    Counting reads every row: a million take a fraction of a second, and where it takes longer than
    `max_exact_seconds` the settled orders are estimated from a sample instead.

    Raises:
        DatabaseUnavailable: it cannot be read.
    """

    async def select(connection: Connection) -> QueueOverview:
        try:
            async with connection.transaction():
                limit = f"{max_exact_seconds * 1000:.0f}"
                await connection.execute(_LIMIT_STATEMENT, (limit,))
                return await _counts(connection, _SELECT_QUEUE_COUNTS, exact=True)
        except psycopg.errors.QueryCanceled:
            return await _counts(connection, _ESTIMATE_QUEUE_COUNTS, exact=False)

    return await database.read(select)


async def _counts(
    connection: Connection, statement: LiteralString, *, exact: bool
) -> QueueOverview:
    rows = await fetch(connection, statement)
    return QueueOverview(tuple(QueueCount(*row) for row in rows), exact)
