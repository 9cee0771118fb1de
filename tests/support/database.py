"""Databases, migrations and connections for tests that run outside an event loop."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Final
from uuid import uuid4

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from pulse.application.grants import GRANTS
from pulse.postgres import PostgresLimits, load_sql
from pulse.postgres.embedded.directories import USER
from pulse.postgres.limits import session_settings
from pulse.postgres.migrations import Migrations
from pulse.postgres.revision import Revision
from pulse.postgres.roles import RoleNames, create_login_roles
from pulse.process.revisions import REVISIONS

ROLES: Final = RoleNames()
_SUPERUSER: Final = str(
    conninfo_to_dict(os.environ.get("PULSE_TEST_DATABASE_URL") or f"user={USER}")["user"]
)
_kept: Final[dict[str, psycopg.Connection[TupleRow]]] = {}


@contextmanager
def temporary_database(server: str, options: str = "") -> Iterator[str]:
    """The conninfo of a new database on this server; it is dropped on exit."""
    name = f"pulse_{uuid4().hex[:12]}"
    _execute(server, f"CREATE DATABASE {name} {options}")
    try:
        yield make_conninfo(server, dbname=name)
    finally:
        _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def cloned_database(server: str, template: str) -> AbstractContextManager[str]:
    """A temporary database that is a copy of this one: copying its files is the fastest way."""
    return temporary_database(server, f"TEMPLATE {template} STRATEGY FILE_COPY")


def database_in(encoding: str, server: str) -> AbstractContextManager[str]:
    """An empty temporary database of this encoding."""
    options = f"ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"
    return temporary_database(server, options)


def _execute(server: str, statement: str) -> None:
    """Execute it on a cached connection: a new one costs 5 ms of CPU time."""
    kept = _kept.get(server)
    if kept is None:
        kept = _kept[server] = psycopg.connect(server, autocommit=True)
    try:
        kept.execute(statement.encode())
    finally:
        if kept.closed:
            del _kept[server]


def close_kept() -> None:
    """Close the cached connections."""
    while _kept:
        _kept.popitem()[1].close()


def migrate(conninfo: str, revisions: Sequence[Revision] = REVISIONS) -> None:
    """Migrate the database to these revisions."""
    asyncio.run(Migrations(revisions, GRANTS).migrate(conninfo, PostgresLimits()))


def migrate_with_roles(conninfo: str) -> None:
    """Migrate the database and set up the roles, which can log in."""
    limits = PostgresLimits()
    # Another process of the tests may create the roles of this server at the same time.
    with suppress(psycopg.errors.UniqueViolation, psycopg.errors.DuplicateObject):
        asyncio.run(create_login_roles(conninfo, limits, ROLES))
    asyncio.run(Migrations(REVISIONS, GRANTS).set_up_roles(conninfo, limits))


def as_runtime(conninfo: str) -> str:
    """The conninfo of the role that processes use; unchanged for a role of the test's own."""
    is_superuser = conninfo_to_dict(conninfo).get("user") == _SUPERUSER
    return make_conninfo(conninfo, user=ROLES.runtime) if is_superuser else conninfo


def as_runtime_if_set_up(conninfo: str) -> str:
    """As `as_runtime`, but unchanged if the database has no roles, or cannot be reached."""
    found = None
    with suppress(psycopg.OperationalError), psycopg.connect(conninfo) as connection:
        found = connection.execute(
            "SELECT FROM pg_roles WHERE rolname = %s AND to_regclass('pulse_roles') IS NOT NULL",
            (ROLES.runtime,),
        ).fetchone()
    return conninfo if found is None else as_runtime(conninfo)


def as_superuser(conninfo: str) -> str:
    """The conninfo of the server's superuser, for what the role of processes may not do."""
    return make_conninfo(conninfo, user=_SUPERUSER)


def are_completed(conninfo: str, order_ids: Sequence[str]) -> bool:
    """Whether each of these orders is COMPLETED: one query instead of a call of the API each."""
    with psycopg.connect(conninfo) as connection:
        found = connection.execute(
            "SELECT count(*) FROM order_queue_status"
            " WHERE order_queue_status = 'COMPLETED' AND order_id = ANY(%s::uuid[])",
            (list(order_ids),),
        ).fetchone()
    return found == (len(set(order_ids)),)


def connect(conninfo: str, limits: PostgresLimits | None = None) -> psycopg.Connection[TupleRow]:
    """A connection with Pulse's session settings."""
    settings = session_settings(limits or PostgresLimits())
    connection = psycopg.connect(conninfo, autocommit=True, prepare_threshold=1)
    set_session = load_sql("pulse.postgres", "set_session")
    backend_pid = connection.info.backend_pid
    connection.execute(set_session, (list(settings), list(settings.values()), backend_pid))
    return connection
