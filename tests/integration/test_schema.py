"""The schema: migrations, the append-only log, and the view people query."""

import psycopg
import pytest

from pulse.bootstrap.node import MIGRATED_ROOMS
from pulse.postgres import Database, Limits
from pulse.postgres.migrations import MIGRATION_LOCK, Migrations, MigrationUnderWay


def test_migrating_a_current_schema_changes_nothing(conninfo: str) -> None:
    migrations = Migrations(MIGRATED_ROOMS)
    migrations.migrate(conninfo, Limits())
    assert migrations.current(conninfo, Limits()) == migrations.head
    assert migrations.fault(migrations.head) is None


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
        connection.execute(statement)


def test_processes_that_start_together_on_a_current_schema_are_in_nobodys_way(
    conninfo: str,
) -> None:
    with psycopg.connect(conninfo) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        Migrations(MIGRATED_ROOMS).migrate(conninfo, Limits())


def test_migrating_waits_for_nobody(empty_conninfo: str) -> None:
    with psycopg.connect(empty_conninfo) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        with pytest.raises(MigrationUnderWay):
            Migrations(MIGRATED_ROOMS).migrate(empty_conninfo, Limits())
