"""Sessions of Pulse that stopped in the middle of their work and hold locks meanwhile."""

from pulse.postgres import Database, fetch, load_sql

_END_STALLED_SESSIONS = load_sql(__package__, "end_stalled_sessions")


async def end_stalled_sessions(database: Database, silence_seconds: float) -> list[str]:
    """End those that have waited for their client for so long; returns their names.

    Raises:
        DatabaseUnavailable: it may have been done or not.
    """
    async with database.connection() as connection:
        return [
            row[0] for row in await fetch(connection, _END_STALLED_SESSIONS, (silence_seconds,))
        ]
