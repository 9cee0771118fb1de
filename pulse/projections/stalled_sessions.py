"""Sessions of Pulse whose client stopped responding while they hold locks."""

from pulse.postgres import Database, fetch, load_sql

_TERMINATE_STALLED_SESSIONS = load_sql(__package__, "terminate_stalled_sessions")


async def terminate_stalled_sessions(database: Database, stalled_seconds: float) -> list[str]:
    """Terminate sessions that have waited so long for their client; returns application names.

    Raises:
        DatabaseUnavailable: the sessions may or may not have ended.
    """
    async with database.connection() as connection:
        rows = await fetch(connection, _TERMINATE_STALLED_SESSIONS, (stalled_seconds,))
    return [row[0] for row in rows]
