"""Statistics of the order queue: its lag, its waiting and failed orders, its counts by status."""

from collections.abc import Sequence
from typing import Final, LiteralString

import msgspec
import psycopg

from pulse.domain import SPLITTERS, HaltTarget
from pulse.eventstore import AFTER_LOG, read_log_state
from pulse.postgres import Connection, Database, fetch, load_sql
from pulse.projections.due_orders import halt_parameters
from pulse.projections.position import PROJECTION_NAME

MAX_EXAMINED_FOR_HEALTH: Final = 1000
"""The maximum number of orders examined: pending (oldest first), failed (newest first), due."""

RECENT_SECONDS: Final = 900.0
_MAX_EXACT_SECONDS: Final = 5.0

_SELECT_LAG = load_sql(__package__, "select_lag")
_SELECT_QUEUE_HEALTH = load_sql(__package__, "select_queue_health")
_SELECT_PENDING_COUNTS = load_sql(__package__, "select_pending_counts")
_SELECT_QUEUE_COUNTS = load_sql(__package__, "select_queue_counts")
_ESTIMATE_QUEUE_COUNTS = load_sql(__package__, "estimate_queue_counts")
_LIMIT_STATEMENT = load_sql(__package__, "limit_statement")


class Lag(msgspec.Struct, frozen=True):
    """How far the queue is behind the log.

    `behind_seconds` is the age of the first event not projected, by the database's clock. Events
    with ids that the log's sequence has not issued do not count.
    """

    position: int
    behind_seconds: float
    parked_orders: int
    orders_for_newer_code: int


class QueueHealth(msgspec.Struct, frozen=True):
    """Counts of unclaimed orders and of recent failures; ages are by the database's clock.

    `waiting` counts orders that this code can split, `for_newer_code` those that it cannot. At most
    MAX_EXAMINED_FOR_HEALTH pending orders, claimed ones included, are examined. `failed_recently`
    counts the orders that FAILED in the last RECENT_SECONDS, by reason. `due` counts the orders
    that have slices to release now. Both are limited to MAX_EXAMINED_FOR_HEALTH orders, too.
    `oldest_unhalted_due_seconds` leaves out the orders that the given halts cover.
    """

    waiting: int
    oldest_waiting_seconds: float
    for_newer_code: int
    oldest_for_newer_code_seconds: float
    failed_recently: dict[str, int]
    due: int
    oldest_due_seconds: float
    oldest_unhalted_due_seconds: float


class QueueCount(msgspec.Struct, frozen=True):
    """How many orders have a status; FAILED orders are counted by reason.

    `oldest_seconds` is the age of the oldest order by the database's clock: since its creation if
    PENDING, since its first claim if IN_PROGRESS, else None.
    """

    order_queue_status: str
    failure_reason: str | None
    orders: int
    oldest_seconds: float | None


class QueueCounts(msgspec.Struct, frozen=True):
    """Counts by status; unless `exact`, orders with an outcome are estimated from a sample."""

    counts: tuple[QueueCount, ...]
    exact: bool

    def orders(self, order_queue_status: str) -> int:
        """How many orders have this status."""
        return sum(c.orders for c in self.counts if c.order_queue_status == order_queue_status)

    def oldest_seconds(self, order_queue_status: str) -> float | None:
        """The age of the oldest order with this status; None if there is none."""
        ages = (c.oldest_seconds for c in self.counts if c.order_queue_status == order_queue_status)
        return max((age for age in ages if age is not None), default=None)

    @property
    def failed_by_reason(self) -> dict[str, int]:
        """FAILED orders by reason code, the most frequent first."""
        failed = [c for c in self.counts if c.order_queue_status == "FAILED"]
        failed.sort(key=lambda c: (-c.orders, c.failure_reason or ""))
        return {c.failure_reason or "": c.orders for c in failed}


class PendingCounts(msgspec.Struct, frozen=True):
    """How many orders wait for a worker, and how many are claimed."""

    waiting: int
    claimed: int


async def read_pending_counts(connection: Connection) -> PendingCounts:
    """Count the orders without an outcome."""
    return PendingCounts(*(await fetch(connection, _SELECT_PENDING_COUNTS))[0])


async def read_lag(connection: Connection) -> Lag:
    """Read how far the queue is behind the log."""
    issued = (await read_log_state(connection)).last_issued
    last_issued = AFTER_LOG if issued is None else issued
    rows = await fetch(connection, _SELECT_LAG, (last_issued, sorted(SPLITTERS), PROJECTION_NAME))
    return Lag(*rows[0]) if rows else Lag(0, 0.0, 0, 0)


async def read_queue_health(connection: Connection, halted: Sequence[HaltTarget]) -> QueueHealth:
    """Read the counts of waiting, recently failed and due orders, at a bounded cost.

    `halted` are the targets of the halts in force.
    """
    parameters = {
        "splitters": sorted(SPLITTERS),
        "recent_seconds": RECENT_SECONDS,
        **halt_parameters(halted),
    }
    rows = await fetch(connection, _SELECT_QUEUE_HEALTH, parameters)
    return QueueHealth(*rows[0])


async def read_queue_counts(
    database: Database, *, max_exact_seconds: float = _MAX_EXACT_SECONDS
) -> QueueCounts:
    """Count the orders of the queue by status.

    An exact count reads every row, a million in a fraction of a second. If it takes longer than
    `max_exact_seconds`, orders with an outcome are estimated from a sample.

    Raises:
        DatabaseUnavailable: the queue cannot be read.
    """

    async def select(connection: Connection) -> QueueCounts:
        try:
            async with connection.transaction():
                limit = f"{max_exact_seconds * 1000:.0f}"
                await connection.execute(_LIMIT_STATEMENT, (limit,))
                return await _counts(connection, _SELECT_QUEUE_COUNTS, exact=True)
        except psycopg.errors.QueryCanceled:
            return await _counts(connection, _ESTIMATE_QUEUE_COUNTS, exact=False)

    return await database.read(select)


async def _counts(connection: Connection, statement: LiteralString, *, exact: bool) -> QueueCounts:
    rows = await fetch(connection, statement)
    return QueueCounts(tuple(QueueCount(*row) for row in rows), exact)
