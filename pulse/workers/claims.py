"""Claims: which worker holds which order, by the database's clock alone."""

from collections import deque
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from pulse.domain import SPLITTERS, Claim
from pulse.postgres import Database, load_sql

_MAX_FORGOTTEN: Final = 10_000

_CLAIM_ORDERS = load_sql(__package__, "claim_orders")
_RELEASE_CLAIMS = load_sql(__package__, "release_claims")
_FORGET_CLAIMS = load_sql(__package__, "forget_claims")
_RELEASE_UNSETTLED = load_sql(__package__, "release_unsettled")


class Claims:
    """The claims of one worker. Two workers never hold one order at once."""

    def __init__(self, database: Database, worker: str) -> None:
        self.worker = worker
        self._database = database
        self._splitter_versions = sorted(SPLITTERS)
        self._forgotten: deque[UUID] = deque(maxlen=_MAX_FORGOTTEN)

    async def claim(self, limit: int) -> dict[UUID, Claim]:
        """Claim up to that many pending orders, oldest first; never one that wants newer code.

        Nor one of the last 10,000 that were forgotten: they would keep all others waiting.

        Raises:
            DatabaseUnavailable: it may have claimed or not; `release_unsettled` hands back
                what an answer was lost for.
        """
        async with self._database.connection() as connection:
            cursor = connection.cursor(binary=True)
            parameters = (self._splitter_versions, list(self._forgotten), limit, self.worker)
            await cursor.execute(_CLAIM_ORDERS, parameters, prepare=True)
            rows = await cursor.fetchall()
        return {
            row[0]: Claim(worker=row[1], claimed_at=row[2], first_claimed_at=row[3]) for row in rows
        }

    async def release(self, order_ids: Iterable[UUID]) -> None:
        """Hand orders back at once.

        Raises:
            DatabaseUnavailable: they stay claimed for now.
        """
        async with self._database.connection() as connection:
            await connection.execute(_RELEASE_CLAIMS, (list(order_ids), self.worker), prepare=True)

    async def forget(self, order_ids: Iterable[UUID]) -> None:
        """Hand orders back as if this worker had never claimed them, and never claim them again.

        Raises:
            DatabaseUnavailable: they stay claimed for now.
        """
        forgotten = list(order_ids)
        async with self._database.connection() as connection:
            await connection.execute(_FORGET_CLAIMS, (forgotten, self.worker), prepare=True)
        self._forgotten += forgotten

    async def release_unsettled(self) -> int:
        """Hand back every order held that has no outcome in the log; returns how many.

        Raises:
            DatabaseUnavailable: they stay claimed for now.
        """
        async with self._database.connection() as connection:
            cursor = await connection.execute(_RELEASE_UNSETTLED, (self.worker,), prepare=True)
            return cursor.rowcount
