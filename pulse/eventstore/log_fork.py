"""The identity of the log, and its forks: a restored log continues from an earlier point."""

from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from pulse.domain import HALTS_STREAM_ID
from pulse.eventstore.append_connection import LOG_LOCK
from pulse.postgres import Connection, fetch, load_sql

_FORK_LOG: Final = load_sql(__package__, "fork_log")
_LOCK_LOG: Final = load_sql(__package__, "lock_log")
_SELECT_FORKS: Final = load_sql(__package__, "select_log_forks")
SELECT_IDENTITY: Final = load_sql(__package__, "select_log_identity")
_SELECT_FORK_RIGHTS: Final = load_sql(__package__, "select_fork_rights")


class LogFork(msgspec.Struct, frozen=True):
    """A declared fork.

    `position` was the end of the log at the fork. If the log was sealed, `size` is the number of
    its sealed events, and `known_size` is the size of the largest known checkpoint of the earlier
    log: up to `known_size - size` of the events in that checkpoint were lost.
    """

    position: int
    size: int | None
    known_size: int | None
    old_log_id: UUID
    new_log_id: UUID
    forked_at: datetime
    forked_by: str
    reason: str


class LogIdentity(msgspec.Struct, frozen=True):
    """The `log_id`, and the time from which the log has it."""

    log_id: UUID
    made_at: datetime


class ForkRights(msgspec.Struct, frozen=True):
    """The role of this session, whether it may fork the log, and the end of the log."""

    role: str
    may_fork: bool
    end: int


async def read_identity(connection: Connection) -> LogIdentity:
    """The identity of the log."""
    ((log_id, made_at),) = await fetch(connection, SELECT_IDENTITY)
    return LogIdentity(log_id, made_at)


async def read_forks(connection: Connection) -> list[LogFork]:
    """Every declared fork, the oldest first."""
    return [LogFork(*row) for row in await fetch(connection, _SELECT_FORKS)]


async def read_fork_rights(connection: Connection) -> ForkRights:
    """Whether this session may fork the log."""
    (row,) = await fetch(connection, _SELECT_FORK_RIGHTS)
    return ForkRights(*row)


async def lock_log(connection: Connection) -> None:
    """Prevent appends until the transaction ends; waits for appends in progress."""
    await connection.execute(_LOCK_LOG, (LOG_LOCK, HALTS_STREAM_ID))


async def record_fork(
    connection: Connection,
    *,
    size: int | None,
    known_size: int | None,
    forked_by: str,
    reason: str,
) -> LogFork:
    """Give the locked log a new identity, and record the fork."""
    parameters = {
        "size": size,
        "known_size": known_size,
        "forked_by": forked_by,
        "reason": reason,
    }
    (row,) = await fetch(connection, _FORK_LOG, parameters)
    return LogFork(*row)
