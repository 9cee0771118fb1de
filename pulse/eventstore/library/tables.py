"""The tables of the library's applications: their names, and their making where they are absent."""

import re
from collections.abc import Callable
from importlib.resources import files
from typing import Final, LiteralString

import msgspec
import psycopg
from eventsourcing.persistence import ProgrammingError
from psycopg import sql

from pulse.eventstore.append_statements import LOG_TABLE, PULSE_LOG, AppendStatements, naming
from pulse.postgres import load_sql

TRACKING_TABLE: Final = "notification_tracking"

_CREATE_LOCK: Final = 0x50554C53_45000004
_MOST_BYTES: Final = 63
_NAME: Final = re.compile(r"[\w.-]+")
_LOG_LAYOUT: Final[LiteralString] = (
    files("pulse.eventstore")
    .joinpath("migrations", "0001_stored_events.sql")
    .read_text(encoding="utf-8")
)


class Table(msgspec.Struct, frozen=True):
    """A table by its bare name, and its schema unless that is the connection's own.

    Names are quoted wherever they come into SQL, so they are as they are: case, dots and all.
    """

    name: str
    schema: str = ""

    def __post_init__(self) -> None:
        for name in filter(None, (self.name, self.schema)):
            if not _NAME.fullmatch(name):
                raise ProgrammingError(f"Identifier with other than letters, digits, _.-: {name!r}")
            if len(name.encode()) > _MOST_BYTES:
                raise ProgrammingError(f"Identifier too long: {name}")

    @property
    def identifier(self) -> sql.Identifier:
        """How statements name it."""
        return sql.Identifier(*filter(None, (self.schema, self.name)))

    @property
    def channel(self) -> str:
        """The wake-up channel of a log of that name, as the library has it."""
        return self.name.replace(".", "_")

    @property
    def append_statements(self) -> AppendStatements:
        """What an appender to it says."""
        return PULSE_LOG.of_table(self.identifier, self.name)


def statement(name: str, **tables: Table) -> LiteralString:
    """This package's statement of that name, about these tables in the place of those it names."""
    identifiers = {word: table.identifier for word, table in tables.items()}
    return naming(load_sql(__package__, name), identifiers)


def log_layout(table: Table) -> LiteralString:
    """What makes a log: the migration's own text under another name, index and trigger included."""
    return _renamed(_LOG_LAYOUT, LOG_TABLE, table)


def aggregates_layout(table: Table) -> LiteralString:
    """What makes a table of streams that are no log."""
    return _renamed(load_sql(__package__, "create_aggregates"), LOG_TABLE, table)


def tracking_layout(table: Table) -> LiteralString:
    """What makes a tracking table."""
    return _renamed(load_sql(__package__, "create_tracking"), TRACKING_TABLE, table)


def create_absent(
    connect: Callable[[], psycopg.Connection], table: Table, layout: LiteralString
) -> None:
    """Make the table if there is none of that name; two at once are safe. `connect` in autocommit.

    One that exists is left as it is, and then no right to create anything is needed.
    """
    with connect() as connection:
        if _exists(connection, table):
            return
        # The session's lock, not a transaction's: only a new transaction sees what another made.
        connection.execute("SELECT pg_advisory_lock(%s)", (_CREATE_LOCK,))
        if _exists(connection, table):
            return
        with connection.transaction():
            if table.schema:
                place = sql.SQL("SET LOCAL search_path TO {}")
                connection.execute(place.format(sql.Identifier(table.schema)))
            connection.execute(layout)


def _exists(connection: psycopg.Connection, table: Table) -> bool:
    row = connection.execute(
        "SELECT to_regclass(%s) IS NOT NULL", (table.identifier.as_string(),)
    ).fetchone()
    return row is not None and bool(row[0])


def _renamed(layout: LiteralString, original: str, table: Table) -> LiteralString:
    """Every name in the layout that begins with the table's begins with the other one's instead."""
    names = {
        name: sql.Identifier(table.name + name.removeprefix(original))
        for name in set(re.findall(rf"\b{original}\w*", layout))
    }
    longest = max(len(identifier.as_string().encode()) - 2 for identifier in names.values())
    if longest > _MOST_BYTES:
        raise ProgrammingError(f"Identifier too long with what is derived from it: {table.name}")
    return naming(layout, names)
