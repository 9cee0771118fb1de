"""Checks of the log: its end, its sequence, and whether an append is one commit on one server."""

from typing import NamedTuple
from uuid import UUID

import msgspec

from pulse.postgres import Connection, fetch, load_sql

_SELECT_LOG_STATE = load_sql(__package__, "select_log_state")
_SELECT_LOG_FAULTS = load_sql(__package__, "select_log_faults")
_SELECT_CITUS_FAULTS = load_sql(__package__, "select_citus_faults")
_HAS_CITUS = load_sql(__package__, "has_citus")
_SELECT_LOG_MARK = load_sql(__package__, "select_log_mark")
_HAS_EVENT = load_sql(__package__, "has_event")
_SELECT_RIGHTS_BEYOND_APPEND = load_sql(__package__, "select_rights_beyond_append")


class LogState(msgspec.Struct, frozen=True):
    """The end of the log, and the state of its sequence.

    `sequence` is its name in SQL, None if there is none. `end` is the last position, 0 for an empty
    log. `last_issued` is the last id that the sequence has issued: 0 before the first one, None if
    this role may not read the sequence. `first_beyond` is the first id in the log above
    `last_issued`; None if there is none. With `next_taken` the next id is already in the log, so
    the next append fails.
    """

    sequence: str | None
    end: int
    last_issued: int | None
    first_beyond: int | None
    next_taken: bool


async def read_log_state(connection: Connection) -> LogState:
    """Read the state with a few index lookups, whose cost does not depend on the log's size."""
    cursor = await connection.execute(_SELECT_LOG_STATE, prepare=True)
    return LogState(*await cursor.fetchone() or (None, 0, None, None, False))


class EventMark(NamedTuple):
    """An event of the log: its position, its stream, its version in the stream."""

    position: int
    originator_id: UUID
    originator_version: int


class LogMark(NamedTuple):
    """The identity of a log, and its last event; `last` is None for an empty log."""

    log_id: UUID
    last: EventMark | None


async def read_log_mark(connection: Connection) -> LogMark:
    """Read the identity of the log and its last event, in one snapshot."""
    ((log_id, *last),) = await fetch(connection, _SELECT_LOG_MARK)
    return LogMark(log_id, None if last[0] is None else EventMark(*last))


async def has_event(connection: Connection, mark: EventMark) -> bool:
    """Whether the log has this event at this position."""
    ((found,),) = await fetch(connection, _HAS_EVENT, mark)
    return bool(found)


async def read_log_faults(connection: Connection) -> list[str]:
    """Why appends would not happen on one server, in one commit phase, in the order of their ids.

    Empty for an ordinary table with its own sequence.
    """
    cursor = await connection.execute(_SELECT_LOG_FAULTS)
    faults = await cursor.fetchall()
    cursor = await connection.execute(_HAS_CITUS)
    if await cursor.fetchone() == (True,):
        cursor = await connection.execute(_SELECT_CITUS_FAULTS)
        faults += await cursor.fetchall()
    return [str(row[0]) for row in faults]


async def read_rights_beyond_append(connection: Connection) -> list[str]:
    """Why this role could do more to the log than append; empty if it could not."""
    cursor = await connection.execute(_SELECT_RIGHTS_BEYOND_APPEND, prepare=True)
    return [str(row[0]) for row in await cursor.fetchall()]
