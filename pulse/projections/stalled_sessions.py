"""Sessions of Pulse whose client stopped responding while they hold locks."""

from typing import Final

from pulse.postgres import Database, fetch, load_sql

REBUILD_PURPOSE: Final = "rebuild"
"""The purpose in the application names of a rebuild's sessions, which have a limit of their own."""

_TERMINATE_STALLED_SESSIONS = load_sql(__package__, "terminate_stalled_sessions")


async def terminate_stalled_sessions(
    database: Database, stalled_seconds: float, rebuild_stalled_seconds: float
) -> list[str]:
    """Terminate sessions that waited too long for their client; returns application names.

    `rebuild_stalled_seconds` is the limit for the sessions of a rebuild.

    Raises:
        DatabaseUnavailable: the sessions may or may not have ended.
    """
    parameters = {
        "stalled_seconds": stalled_seconds,
        "rebuild": f"pulse:{REBUILD_PURPOSE}@%",
        "rebuild_stalled_seconds": rebuild_stalled_seconds,
    }
    async with database.connection() as connection:
        rows = await fetch(connection, _TERMINATE_STALLED_SESSIONS, parameters)
    return [row[0] for row in rows]
