"""The table of docs/reference/database-roles.md, and statements of each kind on each object."""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import psycopg

from tests.support.processes import ROOT

PAGE: Final = ROOT / "docs" / "reference" / "database-roles.md"
_ROW: Final = re.compile(r"\| (table|view|sequence|function) `([^`]+)` \|([^|]*)\|([^|]*)\|")
_RIGHT: Final = re.compile(r"([A-Z]+)(?: \(([^)]*)\))?")

Rights = dict[str, frozenset[str]]
"""The columns of each privilege; no column for all of them."""


class Documented(msgspec.Struct, frozen=True):
    """A row of the table."""

    kind: str
    name: str
    runtime: Rights
    reader: Rights


class Attempt(msgspec.Struct, frozen=True):
    """A statement, and the role's right that permits it; no right: only the owner may."""

    statement: str
    privilege: str = ""
    column: str = ""


def documented_rights() -> dict[str, Documented]:
    """Each row of the table by the object's name."""
    rows = _ROW.findall(PAGE.read_text())
    return {
        name: Documented(kind, name, _rights(runtime), _rights(reader))
        for kind, name, runtime, reader in rows
    }


def _rights(cell: str) -> Rights:
    return {
        privilege: frozenset(filter(None, columns.split(", ")))
        for privilege, columns in _RIGHT.findall(cell)
    }


def permits(rights: Rights, attempt: Attempt) -> bool:
    """Whether these rights permit the statement."""
    columns = rights.get(attempt.privilege)
    return columns is not None and (not columns or attempt.column in columns)


def attempts_on(connection: psycopg.Connection[Any], one: Documented) -> Iterator[Attempt]:
    """Statements of every kind on the object. Roll each back: TRUNCATE and DROP are among them."""
    match one.kind:
        case "table":
            yield from _on_table(connection, one.name)
        case "view":
            yield Attempt(f"SELECT count(*) FROM {one.name}", "SELECT")
            yield Attempt(f"DROP VIEW {one.name} CASCADE")
            yield Attempt(f"ALTER VIEW {one.name} RENAME TO other")
        case "sequence":
            yield from _on_sequence(f"{one.name.replace('.', '_')}_seq")
        case _:
            yield from _on_function(one.name)


def _on_table(connection: psycopg.Connection[Any], name: str) -> Iterator[Attempt]:
    columns = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 0 AND attgenerated = ''",
        (name,),
    ).fetchall()
    yield Attempt(f"SELECT * FROM {name}", "SELECT")
    yield Attempt(f"COPY {name} TO STDOUT", "SELECT")
    yield Attempt(f"LOCK TABLE {name} IN ACCESS SHARE MODE", "SELECT")
    for column, data_type in columns:
        null = f"SELECT NULL::{data_type} WHERE false"
        yield Attempt(f"INSERT INTO {name} ({column}) {null}", "INSERT", column)
        yield Attempt(f"UPDATE {name} SET {column} = ({null}) WHERE false", "UPDATE", column)
    yield Attempt(f"DELETE FROM {name} WHERE false", "DELETE")
    yield Attempt(f"TRUNCATE {name}")
    yield Attempt(f"CREATE TRIGGER own BEFORE INSERT ON {name} EXECUTE FUNCTION own_trigger()")
    yield Attempt(f"CREATE INDEX ON {name} ({columns[0][0]})")
    yield Attempt(f"CREATE RULE own AS ON INSERT TO {name} DO INSTEAD NOTHING")
    yield Attempt(f"CREATE POLICY own ON {name} USING (true)")
    for change in (
        "DISABLE TRIGGER ALL",
        "ENABLE ROW LEVEL SECURITY",
        "ADD COLUMN own text",
        f"DROP COLUMN {columns[0][0]} CASCADE",
        f"ALTER COLUMN {columns[0][0]} SET DEFAULT NULL",
        "RENAME TO other",
        "SET (fillfactor = 90)",
        "OWNER TO CURRENT_USER",
    ):
        yield Attempt(f"ALTER TABLE {name} {change}")
    yield Attempt(f"DROP TABLE {name} CASCADE")


def _on_sequence(name: str) -> Iterator[Attempt]:
    yield Attempt(f"SELECT nextval('{name}')", "USAGE")
    yield Attempt(f"SELECT last_value FROM {name}", "SELECT")
    yield Attempt(f"SELECT setval('{name}', 7)")
    yield Attempt(f"ALTER SEQUENCE {name} RESTART")
    yield Attempt(f"ALTER SEQUENCE {name} CACHE 5")
    yield Attempt(f"DROP SEQUENCE {name} CASCADE")


def _on_function(name: str) -> Iterator[Attempt]:
    called = re.sub(r"[a-z][a-z ]+(?=[,)])", lambda found: f"NULL::{found[0]}", name)
    if not name.endswith("_refuse_change()"):  # a trigger's function cannot be called
        yield Attempt(f"SELECT * FROM {called}", "EXECUTE")
    yield Attempt(f"ALTER FUNCTION {name} SECURITY DEFINER")
    yield Attempt(f"DROP FUNCTION {name} CASCADE")


ELSEWHERE: Final = (
    "CREATE TABLE own (a int)",
    "CREATE TEMPORARY TABLE own (a int)",
    "CREATE VIEW own AS SELECT 1",
    "CREATE FUNCTION own() RETURNS int LANGUAGE sql RETURN 1",
    "CREATE TYPE own AS (a int)",
)
"""Statements that only the owner may execute, on no object of Pulse."""

FORBIDDEN: Final = (
    "CREATE SCHEMA own",
    "CREATE EXTENSION hstore",
    "CREATE ROLE own",
    "CREATE DATABASE own",
    "CREATE PUBLICATION own FOR TABLE stored_events",
    "SET session_replication_role = replica",
    "SET ROLE pulse_owner",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT pg_read_file('PG_VERSION')",
    "ALTER SYSTEM SET fsync = off",
    "ALTER DATABASE {database} SET search_path = own",
    "ALTER SCHEMA public RENAME TO own",
    "DROP SCHEMA public CASCADE",
    "GRANT pulse_owner TO CURRENT_USER",
)
"""Statements that neither the runtime nor the reader may execute."""
