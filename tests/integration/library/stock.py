"""The stock `eventsourcing` library on a test's database.

Importing its Postgres module sets psycopg's loggers to ERROR for the whole process; here they keep
their levels.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

_LOGGERS = [logging.getLogger(name) for name in ("psycopg", "psycopg.pool")]
_LEVELS = [logger.level for logger in _LOGGERS]
with contextlib.suppress(ImportError):
    from eventsourcing.postgres import (
        PostgresApplicationRecorder,
        PostgresDatastore,
        PostgresTrackingRecorder,
    )
for _logger, _level in zip(_LOGGERS, _LEVELS, strict=True):
    _logger.setLevel(_level)

__all__ = [
    "DEADLINE_SECONDS",
    "PostgresTrackingRecorder",
    "environment",
    "stock_listens",
    "stock_recorder",
    "until",
    "waiting_for_locks",
]

T = TypeVar("T")
DEADLINE_SECONDS = 20.0


def environment(conninfo: str, **changes: str) -> dict[str, str]:
    """What an application of the library needs to work on Pulse's log; see docs/how-to."""
    given = conninfo_to_dict(conninfo)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "MAPPER_TOPIC": "pulse.eventstore:EventMapper",
        "POSTGRES_DBNAME": str(given["dbname"]),
        "POSTGRES_HOST": str(given.get("host") or ""),
        "POSTGRES_PORT": str(given.get("port") or 5432),
        "POSTGRES_USER": str(given.get("user") or ""),
        "POSTGRES_PASSWORD": str(given.get("password") or "none"),
        **changes,
    }


@contextlib.contextmanager
def stock_recorder(
    conninfo: str, *, db_functions: bool = False
) -> Iterator[PostgresApplicationRecorder]:
    """The library's own recorder of the log, by the table's owner."""
    given = environment(conninfo)
    datastore = PostgresDatastore(
        dbname=given["POSTGRES_DBNAME"],
        host=given["POSTGRES_HOST"],
        port=given["POSTGRES_PORT"],
        user=given["POSTGRES_USER"],
        password=given["POSTGRES_PASSWORD"],
        pool_size=2,
        max_overflow=8,
        enable_db_functions=db_functions,
    )
    with contextlib.closing(datastore):
        recorder = PostgresApplicationRecorder(datastore)
        recorder.create_table()
        yield recorder


def until(condition: Callable[[], T], what: str) -> T:
    """Poll the condition until it is true; returns its value."""
    pause = threading.Event()
    for _ in range(int(DEADLINE_SECONDS / 0.005)):
        if found := condition():
            return found
        pause.wait(0.005)
    raise AssertionError(f"timed out before {what}")


def waiting_for_locks(connection: psycopg.Connection) -> int:
    """How many other connections to this database wait for a lock."""
    return _count(connection, "wait_event_type = 'Lock'")


def stock_listens(connection: psycopg.Connection) -> bool:
    """Whether the library's subscription is active; it receives no earlier notification."""
    listening = "application_name NOT LIKE 'pulse:%' AND query ILIKE 'listen%' AND state = 'idle'"
    return _count(connection, listening) == 1


def _count(connection: psycopg.Connection, condition: str) -> int:
    row = connection.execute(
        f"SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND {condition}"
    ).fetchone()
    assert row is not None
    return int(row[0])
