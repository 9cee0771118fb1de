"""Pulse's recorder for the `eventsourcing` library, on the log in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from pulse.eventstore import AppendLimits
from pulse.eventstore.library import PulseApplicationRecorder, engine
from pulse.eventstore.library.tables import Table, statement
from tests.simulation.memory.connection import MemoryDatabase
from tests.simulation.memory.server import Result, Server, Session
from tests.simulation.memory.statements import (
    STATEMENTS,
    Statement,
    append_events,
    append_events_or_fail,
    select_stored,
)

_TABLE = Table("stored_events")


@contextmanager
def memory_recorder() -> Iterator[PulseApplicationRecorder]:
    """A recorder of its own log; its thread ends on leaving."""
    database = MemoryDatabase(Server(lambda: 0.0), statements=_statements())
    with patch.object(engine, "Database", lambda *_, **__: database):
        running = engine.Engine("", pool_size=1, limits=AppendLimits(answer_seconds=15.0))
    try:
        yield PulseApplicationRecorder(running, _TABLE)
    finally:
        running.close()


def _statements() -> dict[str, Statement]:
    append = _TABLE.append_statements
    return STATEMENTS | {
        append.append: append_events,
        append.append_or_fail: append_events_or_fail,
        append.select_stored: select_stored,
        statement("select_events", stored_events=_TABLE): _select_events,
        statement("select_events_newest_first", stored_events=_TABLE): _select_newest_first,
        statement("select_notifications", stored_events=_TABLE): _select_notifications,
        statement("select_notifications_of_topics", stored_events=_TABLE): _select_of_topics,
        statement("select_max_notification_id", stored_events=_TABLE): _select_max_id,
    }


def _stream(server: Server, parameters: Any) -> list[tuple[Any, ...]]:
    originator_id, after, until, _ = parameters
    return [
        (r.originator_id, r.originator_version, r.topic, r.state)
        for r in server.log.streams.get(originator_id, ())
        if after < r.originator_version <= until
    ]


def _select_events(server: Server, _: Session, parameters: Any) -> Result:
    return Result(_stream(server, parameters)[: parameters[3]])


def _select_newest_first(server: Server, _: Session, parameters: Any) -> Result:
    return Result(_stream(server, parameters)[::-1][: parameters[3]])


def _select_notifications(server: Server, _: Session, parameters: Any) -> Result:
    after, until, limit = parameters
    return Result(_between(server, after, until)[:limit])


def _select_of_topics(server: Server, _: Session, parameters: Any) -> Result:
    after, until, topics, limit = parameters
    return Result([row for row in _between(server, after, until) if row[3] in topics][:limit])


def _select_max_id(server: Server, _: Session, __: Any) -> Result:
    return Result([(server.log.end or None,)])


def _between(server: Server, after: int, until: int) -> list[tuple[Any, ...]]:
    return [
        (r.position, r.originator_id, r.originator_version, r.topic, r.state)
        for r in server.log.after(after, len(server.log.rows))
        if r.position <= until
    ]
