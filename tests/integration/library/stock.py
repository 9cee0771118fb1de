"""The `eventsourcing` library as its users have it, on a test's database.

Importing its Postgres module mutes psycopg's loggers for the whole process; here they are not.
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

T = TypeVar("T")
DEADLINE_SECONDS = 20.0


def environment(conninfo: str, **changes: str) -> dict[str, str]:
    """What makes a stock application Pulse's."""
    return {"PERSISTENCE_MODULE": "pulse.eventstore", "PULSE_DATABASE_URL": conninfo, **changes}


def postgres_variables(conninfo: str) -> dict[str, str]:
    """The same database under the library's own names."""
    given = conninfo_to_dict(conninfo)
    return {
        f"POSTGRES_{name.upper()}": str(given[name])
        for name in ("dbname", "host", "port", "user", "password")
        if given.get(name)
    }


@contextlib.contextmanager
def stock_recorder(
    conninfo: str, *, db_functions: bool = False
) -> Iterator[PostgresApplicationRecorder]:
    """The library's own recorder of the log, by the table's owner."""
    with stock_datastore(conninfo, db_functions=db_functions) as datastore:
        recorder = PostgresApplicationRecorder(datastore)
        recorder.create_table()
        yield recorder


@contextlib.contextmanager
def stock_tracking_recorder(conninfo: str, table: str) -> Iterator[PostgresTrackingRecorder]:
    """The library's own recorder of positions, by the table's owner."""
    with stock_datastore(conninfo) as datastore:
        recorder = PostgresTrackingRecorder(datastore, tracking_table_name=table)
        recorder.create_table()
        yield recorder


@contextlib.contextmanager
def stock_datastore(conninfo: str, *, db_functions: bool = False) -> Iterator[PostgresDatastore]:
    """The library's pool of connections."""
    given = conninfo_to_dict(conninfo)
    datastore = PostgresDatastore(
        dbname=str(given["dbname"]),
        host=str(given.get("host") or ""),
        port=str(given.get("port") or 5432),
        user=str(given.get("user") or ""),
        password=str(given.get("password") or ""),
        pool_size=2,
        max_overflow=8,
        enable_db_functions=db_functions,
    )
    try:
        yield datastore
    finally:
        datastore.close()


def until(condition: Callable[[], T], what: str) -> T:
    """Look until it is so; what it came to."""
    never = threading.Event()
    looks = int(DEADLINE_SECONDS / 0.005)
    for _ in range(looks):
        if seen := condition():
            return seen
        never.wait(0.005)
    raise AssertionError(f"it never came about that {what}")


def waiting_for_locks(connection: psycopg.Connection) -> int:
    """How many other connections to this database wait for a lock."""
    row = connection.execute(
        """SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'"""
    ).fetchone()
    assert row is not None
    return int(row[0])


def terminate(connection: psycopg.Connection, role: str) -> int:
    """End every connection of that role to this database; how many there were."""
    return connection.execute(
        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name LIKE %s""",
        (f"pulse:{role}@%",),
    ).rowcount
