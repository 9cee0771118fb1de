"""The schema: its revisions, migrations from any earlier state, and the append-only log."""

import asyncio

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pulse.postgres import Database, PostgresLimits
from pulse.postgres.apply_revision import MIGRATION_LOCK, MigrationInProgress
from pulse.postgres.migrations import (
    Migrations,
    SchemaNotCurrent,
    read_applied,
)
from pulse.postgres.revision import AppliedRevision
from pulse.process.revisions import REVISIONS
from tests.support.database import migrate

Rows = list[tuple[object, ...]]
KNOWN = [revision.number for revision in REVISIONS]
HEAD = KNOWN[-1]
NEXT = HEAD + 1
FOREIGN = [
    "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)",
    "INSERT INTO alembic_version VALUES ('0003'), ('a1b2c3d4')",
]


def execute(conninfo: str, *statements: str) -> Rows:
    """Execute the statements; returns the rows of the last one."""
    rows: Rows = []
    with psycopg.connect(conninfo) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
            rows = cursor.fetchall() if cursor.description else []
    return rows


def current(conninfo: str) -> tuple[AppliedRevision, ...]:
    return asyncio.run(Migrations(REVISIONS).current(conninfo, PostgresLimits()))


def revisions_of(conninfo: str) -> list[int]:
    return [row.number for row in current(conninfo)]


def fault_of(conninfo: str) -> str | None:
    return Migrations(REVISIONS).fault(current(conninfo))


def as_before_revisions_were_recorded(conninfo: str, version: str = "0003") -> None:
    """The database of a release that kept its revision in Alembic's table."""
    execute(
        conninfo,
        "DROP TABLE pulse_schema",
        FOREIGN[0],
        f"INSERT INTO alembic_version VALUES ('{version}')",
    )


def test_migrating_a_current_schema_changes_nothing(conninfo: str) -> None:
    before = execute(conninfo, "TABLE pulse_schema")
    migrate(conninfo)
    assert execute(conninfo, "TABLE pulse_schema") == before
    assert revisions_of(conninfo) == KNOWN
    assert fault_of(conninfo) is None


async def test_the_pool_reaches_the_cloned_database(database: Database) -> None:
    async with database.connection() as connection:
        cursor = await connection.execute("SELECT count(*) FROM stored_events")
        assert await cursor.fetchone() == (0,)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stored_events SET topic = 'x'",
        "DELETE FROM stored_events",
        "TRUNCATE stored_events",
    ],
)
def test_the_log_refuses_to_be_changed(conninfo: str, statement: str) -> None:
    with (
        psycopg.connect(conninfo) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"),
    ):
        connection.execute(statement.encode())


def test_processes_that_start_together_on_a_current_schema_do_not_wait(conninfo: str) -> None:
    with psycopg.connect(conninfo) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        migrate(conninfo)


def test_migrating_does_not_wait_for_another_process_that_migrates(empty_conninfo: str) -> None:
    with psycopg.connect(empty_conninfo) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        with pytest.raises(MigrationInProgress):
            migrate(empty_conninfo)


@pytest.mark.parametrize("version", ["'a1b2c3d4'", "'0001'", "'0003'", "'0003'), ('0004'", None])
def test_a_database_of_another_alembic_application_is_migrated_and_keeps_its_table(
    empty_conninfo: str, version: str | None
) -> None:
    execute(empty_conninfo, FOREIGN[0])
    if version is not None:
        execute(empty_conninfo, f"INSERT INTO alembic_version VALUES ({version})")
    before = execute(empty_conninfo, "TABLE alembic_version")
    assert "migrate" in str(fault_of(empty_conninfo))

    migrate(empty_conninfo)

    assert fault_of(empty_conninfo) is None
    assert execute(empty_conninfo, "TABLE alembic_version") == before
    assert execute(empty_conninfo, "SELECT count(*) FROM order_queue_status") == [(0,)]


@pytest.mark.parametrize(
    "of_others",
    [
        "INSERT INTO alembic_version VALUES ('a1b2c3d4')",
        "UPDATE alembic_version SET version_num = 'a1b2c3d4'",
        "DELETE FROM alembic_version",
        "DROP TABLE alembic_version",
        "SELECT",
    ],
)
def test_a_database_of_an_older_release_is_migrated_whatever_alembic_version_contains(
    empty_conninfo: str, of_others: str
) -> None:
    conninfo = empty_conninfo
    migrate(conninfo, REVISIONS[:3])
    as_before_revisions_were_recorded(conninfo)
    execute(conninfo, of_others)
    table = "SELECT to_regclass('alembic_version')"
    kept = execute(conninfo, table) != [(None,)]
    before = execute(conninfo, "TABLE alembic_version") if kept else []
    assert "migrate" in str(fault_of(conninfo))

    migrate(conninfo)

    assert fault_of(conninfo) is None
    assert revisions_of(conninfo) == KNOWN
    assert (execute(conninfo, "TABLE alembic_version") if kept else []) == before


def test_a_database_that_stopped_at_an_earlier_revision_gets_the_rest(empty_conninfo: str) -> None:
    migrate(empty_conninfo, REVISIONS[:1])
    as_before_revisions_were_recorded(empty_conninfo, "0001")

    migrate(empty_conninfo)

    assert revisions_of(empty_conninfo) == KNOWN
    assert fault_of(empty_conninfo) is None


def test_tables_of_the_library_are_not_taken_for_a_schema_of_pulse(empty_conninfo: str) -> None:
    execute(
        empty_conninfo,
        "CREATE TABLE stored_events (originator_id uuid, originator_version bigint, topic text,"
        " state bytea, notification_id bigserial)",
    )
    with pytest.raises(psycopg.errors.DuplicateTable, match="stored_events"):
        migrate(empty_conninfo)
    assert revisions_of(empty_conninfo) == []
    assert execute(empty_conninfo, "SELECT to_regclass('order_queue')") == [(None,)]


def test_a_schema_named_like_the_role_does_not_split_the_tables(empty_conninfo: str) -> None:
    migrate(empty_conninfo, REVISIONS[:2])
    execute(
        empty_conninfo,
        "DO $$ BEGIN EXECUTE format('CREATE SCHEMA %I', current_user); END $$",
    )

    migrate(empty_conninfo)

    schemas = execute(
        empty_conninfo,
        "SELECT DISTINCT relnamespace::regnamespace::text FROM pg_class"
        " WHERE relname IN ('pulse_schema', 'stored_events', 'order_queue')",
    )
    assert schemas == [("public",)]
    execute(
        empty_conninfo,
        "DO $$ BEGIN EXECUTE format('DROP SCHEMA %I', current_user); END $$",
    )


NEWER = f"INSERT INTO pulse_schema VALUES ({NEXT}, 'halts', {{oldest_code}})"


@pytest.mark.parametrize("oldest_code", KNOWN)
def test_a_newer_revision_that_admits_this_code_is_accepted(
    conninfo: str, oldest_code: int
) -> None:
    execute(conninfo, NEWER.format(oldest_code=oldest_code))
    assert fault_of(conninfo) is None
    migrate(conninfo)
    assert revisions_of(conninfo) == [*KNOWN, NEXT]


@pytest.mark.parametrize(
    "more",
    ["SELECT", f"INSERT INTO pulse_schema VALUES ({NEXT + 1}, 'feed', 2)"],
    ids=["the last", "not the last"],
)
def test_a_newer_revision_that_does_not_admit_this_code_is_named(conninfo: str, more: str) -> None:
    execute(conninfo, NEWER.format(oldest_code=NEXT), more)
    assert fault_of(conninfo) == (
        f"the schema has revision {NEXT} (halts), which needs code of revision {NEXT} or newer; "
        f"this code has revision {HEAD}: start a newer release of Pulse"
    )
    with pytest.raises(SchemaNotCurrent, match="halts"):
        migrate(conninfo)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (
            "UPDATE pulse_schema SET name = 'fork' WHERE revision = 2",
            r"unknown revision 2 \(fork\)",
        ),
        (
            "UPDATE pulse_schema SET name = 'fork' WHERE revision = 3",
            r"unknown revision 3 \(fork\)",
        ),
        ("DELETE FROM pulse_schema WHERE revision = 2", r"unknown revision 3 \(order_queue\)"),
        (
            f"INSERT INTO pulse_schema VALUES ({NEXT + 1}, 'later', 1)",
            rf"unknown revision {NEXT + 1} \(later\)",
        ),
    ],
)
def test_an_unknown_revision_is_named(conninfo: str, statement: str, named: str) -> None:
    execute(conninfo, statement)
    with pytest.raises(AssertionError, match=named):
        raise AssertionError(fault_of(conninfo))
    tables = execute(conninfo, "TABLE pulse_schema")
    with pytest.raises(SchemaNotCurrent, match=named):
        migrate(conninfo)
    assert execute(conninfo, "TABLE pulse_schema") == tables


async def test_a_running_process_reads_the_same_revisions(
    conninfo: str, database: Database
) -> None:
    migrations = Migrations(REVISIONS)
    execute(conninfo, NEWER.format(oldest_code=NEXT))
    assert await database.read(read_applied) == await migrations.current(conninfo, PostgresLimits())
    execute(conninfo, "DROP TABLE pulse_schema")
    assert (
        await database.read(read_applied)
        == await migrations.current(conninfo, PostgresLimits())
        == ()
    )


@pytest.mark.parametrize("role", ["pulse_runtime", "pulse_reader"])
def test_a_role_that_may_change_nothing_finds_a_current_schema(conninfo: str, role: str) -> None:
    own = make_conninfo(conninfo, user=role)
    migrate(own)
    assert fault_of(own) is None
    assert revisions_of(own) == KNOWN
