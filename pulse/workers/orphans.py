"""Orphaned claims: what a gone worker held goes back to pending at once, whoever notices."""

from collections import Counter
from collections.abc import Callable

import msgspec
import structlog

from pulse.loop import Job
from pulse.postgres import Connection, Database, load_sql
from pulse.workers.presence import PRESENCE_CLASS

_log = structlog.get_logger(__name__)

_SELECT_CLAIMANTS = load_sql(__package__, "select_claimants")
_RELEASE_ORPHANS = load_sql(__package__, "release_orphans")


class Released(msgspec.Struct, frozen=True):
    """How many orders came back, by the worker that held them."""

    orders: Counter[str]


class OrphanedClaims(Job[Released]):
    """Looks for claims of workers that are gone. Every process with the pool does.

    `on_release` is called after orders came back, to wake whoever may take them.
    """

    name = "orphans"
    poll_seconds = 1.0

    def __init__(
        self,
        database: Database,
        *,
        own_worker: str,
        timeout_seconds: float,
        on_release: Callable[[], None],
    ) -> None:
        self._database = database
        self._own_worker = own_worker
        self._timeout_seconds = timeout_seconds
        self._on_release = on_release

    async def run_once(self) -> Released:
        """Hand back every orphan younger than the timeout; the older ones are the monitor's.

        Raises:
            DatabaseUnavailable: it may have been done or not; the next look tells.
        """
        async with self._database.connection() as connection:
            if not await self._anyone_else_claims(connection):
                return Released(Counter())
            cursor = connection.cursor(binary=True)
            parameters = (self._timeout_seconds, PRESENCE_CLASS)
            await cursor.execute(_RELEASE_ORPHANS, parameters, prepare=True)
            rows = await cursor.fetchall()
        released = Released(Counter(row[1] for row in rows))
        for worker, orders in released.orders.items():
            _log.warning("claims.orphans_released", worker=worker, orders=orders)
        if rows:
            self._on_release()
        return released

    async def _anyone_else_claims(self, connection: Connection) -> bool:
        """Cheap, and true only where there may be something to do: one's own worker lives."""
        cursor = await connection.execute(_SELECT_CLAIMANTS, prepare=True)
        return any(row[0] != self._own_worker for row in await cursor.fetchall())
