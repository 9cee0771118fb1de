"""Migrated databases and connections for tests that run outside an event loop."""

import asyncio
from collections.abc import Sequence

import psycopg
from psycopg.rows import TupleRow

from pulse.postgres import PostgresLimits, load_sql
from pulse.postgres.limits import session_settings
from pulse.postgres.migrations import Migrations, Revision
from pulse.process.revisions import REVISIONS


def migrate(conninfo: str, revisions: Sequence[Revision] = REVISIONS) -> None:
    """Migrate the database to these revisions."""
    asyncio.run(Migrations(revisions).migrate(conninfo, PostgresLimits()))


def connect(conninfo: str, limits: PostgresLimits | None = None) -> psycopg.Connection[TupleRow]:
    """A connection with Pulse's session settings."""
    settings = session_settings(limits or PostgresLimits())
    connection = psycopg.connect(conninfo, autocommit=True, prepare_threshold=1)
    set_session = load_sql("pulse.postgres", "set_session")
    connection.execute(set_session, (list(settings), list(settings.values())))
    return connection
