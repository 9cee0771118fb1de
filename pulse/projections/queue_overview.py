"""The order queue in numbers."""

from typing import Final, LiteralString

import msgspec
import psycopg

from pulse.postgres import Connection, Database, load_sql

_MOST_EXACT_SECONDS: Final = 5.0

_SELECT_QUEUE_COUNTS = load_sql(__package__, "select_queue_counts")
_ESTIMATE_QUEUE_COUNTS = load_sql(__package__, "estimate_queue_counts")


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


async def read_queue_overview(
    database: Database, *, most_exact_seconds: float = _MOST_EXACT_SECONDS
) -> QueueOverview:
    """The queue now, as far as it is projected.

    Counting reads every row: a million take a fraction of a second, and where it takes longer than
    `most_exact_seconds` the settled orders are estimated from a sample instead.

    Raises:
        DatabaseUnavailable: it cannot be told.
    """

    async def select(connection: Connection) -> QueueOverview:
        try:
            counts = await _counts(connection, _SELECT_QUEUE_COUNTS, most_exact_seconds)
        except psycopg.errors.QueryCanceled:
            counts = await _counts(connection, _ESTIMATE_QUEUE_COUNTS, None)
            return QueueOverview(counts, exact=False)
        return QueueOverview(counts, exact=True)

    return await database.read(select)


async def _counts(
    connection: Connection, statement: LiteralString, most_seconds: float | None
) -> tuple[QueueCount, ...]:
    async with connection.transaction():
        if most_seconds is not None:
            limit = f"{most_seconds * 1000:.0f}"
            await connection.execute("SELECT set_config('statement_timeout', %s, true)", (limit,))
        cursor = connection.cursor(binary=True)
        await cursor.execute(statement)
        return tuple(QueueCount(*row) for row in await cursor.fetchall())
