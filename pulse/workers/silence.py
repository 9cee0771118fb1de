"""Silent clients: whoever stops in the midst of its work must not hold what all others need."""

import structlog

from pulse.loop import Job
from pulse.postgres import Database, load_sql

_log = structlog.get_logger(__name__)

_END_SILENT_TRANSACTIONS = load_sql(__package__, "end_silent_transactions")


class SilentClients(Job[list[str]]):
    """Ends sessions of frozen or cut-off processes that hold locks. Every process with a pool does.

    What such a session was at is rolled back. It may have waited for its client for
    `silence_seconds`: as long as Postgres itself lets it wait between two statements.
    """

    name = "silence"
    poll_seconds = 0.5

    def __init__(self, database: Database, *, silence_seconds: float | None = None) -> None:
        self._database = database
        self._silence_seconds = (
            database.limits.idle_in_transaction_seconds
            if silence_seconds is None
            else silence_seconds
        )

    async def run_once(self) -> list[str]:
        """End them; returns the names under which they were connected.

        Raises:
            DatabaseUnavailable: it may have been done or not; the next look tells.
        """
        async with self._database.connection() as connection:
            cursor = await connection.execute(
                _END_SILENT_TRANSACTIONS, (self._silence_seconds,), prepare=True
            )
            ended = [row[0] for row in await cursor.fetchall()]
        for name in ended:
            _log.warning("sessions.silent_ended", session=name)
        return ended
