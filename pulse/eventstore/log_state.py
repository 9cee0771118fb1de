"""Where the log ends, what its sequence has issued, and whether one server appends in one phase."""

import msgspec

from pulse.postgres import Connection, load_sql

_SELECT_LOG_STATE = load_sql(__package__, "select_log_state")
_SELECT_LOG_FAULTS = load_sql(__package__, "select_log_faults")
_SELECT_CITUS_FAULTS = load_sql(__package__, "select_citus_faults")
_HAS_CITUS = load_sql(__package__, "has_citus")


class LogState(msgspec.Struct, frozen=True):
    """The log's last position, and the last id its sequence has issued.

    `end` is 0 for an empty log. `last_issued` is None where the role may not ask the sequence, and
    0 before the first id. `first_beyond` is the first id in the log that the sequence has not
    issued, None if there is none; with `next_taken` the next id to be issued is already in the log,
    so that an append of it fails. `sequence` is the name to be used in SQL, None if there is none.
    """

    sequence: str | None
    end: int
    last_issued: int | None
    first_beyond: int | None
    next_taken: bool


async def read_log_state(connection: Connection) -> LogState:
    """The state now, by a few index lookups whatever the size of the log."""
    cursor = await connection.execute(_SELECT_LOG_STATE, prepare=True)
    return LogState(*await cursor.fetchone() or (None, 0, None, None, False))


async def read_log_faults(connection: Connection) -> list[str]:
    """Why appends would not happen on one server, in one phase, in the order of their ids.

    Empty for an ordinary table whose ids come from its own sequence.
    """
    cursor = await connection.execute(_SELECT_LOG_FAULTS)
    faults = await cursor.fetchall()
    cursor = await connection.execute(_HAS_CITUS)
    if await cursor.fetchone() == (True,):
        cursor = await connection.execute(_SELECT_CITUS_FAULTS)
        faults += await cursor.fetchall()
    return [str(row[0]) for row in faults]
