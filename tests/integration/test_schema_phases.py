"""Revisions before and after a deploy, table locks, and indexes that are built during writes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pulse.application.grants import GRANTS
from pulse.postgres import Database, PostgresLimits
from pulse.postgres.apply_revision import MigrationInProgress, OlderCodeRuns, SchemaLocked
from pulse.postgres.migrations import Migrations, SchemaNotCurrent
from pulse.process.revisions import HEAD, REVISIONS
from pulse.process.schema import SchemaGate
from tests.support.database import ROLES, as_runtime
from tests.support.later_revisions import LaterRevisions
from tests.support.waiting import until

INDEX = "parked_orders_reason_idx"
INDEXED = f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {INDEX} ON parked_orders (reason);\n"
PARK = "INSERT INTO parked_orders (order_id, position, reason) VALUES (gen_random_uuid(), 1, '')"
VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)"
LAST = "SELECT max(revision) FROM pulse_schema"
COLUMN = """
SELECT count(*) FROM information_schema.columns
 WHERE table_name = 'parked_orders' AND column_name = 'note'"""


@pytest.fixture
def later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LaterRevisions:
    """The revisions of later releases: one adds a column, the next drops it after the deploy."""
    revisions = LaterRevisions(tmp_path, monkeypatch)
    revisions.add("note", "ALTER TABLE parked_orders ADD COLUMN note text;\n")
    revisions.add(
        "drop_note",
        "ALTER TABLE parked_orders DROP COLUMN note;\n",
        phase="after",
        oldest_code=HEAD + 2,
    )
    return revisions


async def migrate(
    later: LaterRevisions, conninfo: str, *, after: bool = False, max_lock_wait_seconds: float = 0.0
) -> None:
    await Migrations(later.all, GRANTS).migrate(
        conninfo, PostgresLimits(), after=after, max_lock_wait_seconds=max_lock_wait_seconds
    )


def value(conninfo: str, statement: str, *parameters: object) -> object:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(statement.encode(), parameters or None).fetchone()
        return row[0] if row else None


@asynccontextmanager
async def process_of(conninfo: str, code_revision: int | None) -> AsyncIterator[Database]:
    """The sessions of a process whose code knows this revision, or does not announce one."""
    database = Database(as_runtime(conninfo), pool_size=2, code_revision=code_revision)
    await database.open()
    try:
        await database.read(_ask)
        yield database
    finally:
        await database.close()


async def _ask(connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
    await connection.execute("SELECT")


@contextmanager
def open_transaction(conninfo: str, statement: str) -> Iterator[psycopg.Connection]:
    """A session that has not ended its transaction."""
    with psycopg.connect(conninfo, application_name="a report") as connection:
        connection.execute(statement.encode())
        yield connection


async def test_a_deploy_applies_the_revisions_before_it_and_the_others_wait(
    conninfo: str, later: LaterRevisions
) -> None:
    await migrate(later, conninfo)
    assert value(conninfo, LAST) == HEAD + 1
    applied = await Migrations(later.all).current(conninfo, PostgresLimits())
    assert Migrations(later.all).fault(applied) is None
    assert [one.name for one in Migrations(later.all).pending(applied)] == ["drop_note"]
    assert Migrations(REVISIONS).fault(applied) is None, "the released code runs on it"


@pytest.mark.parametrize("code_revision", [None, HEAD, HEAD + 1])
async def test_revisions_after_a_deploy_are_refused_while_older_code_runs(
    conninfo: str, later: LaterRevisions, code_revision: int | None
) -> None:
    await migrate(later, conninfo)
    async with process_of(conninfo, code_revision):
        with pytest.raises(OlderCodeRuns, match=rf"\(drop_note\) needs code of .* {HEAD + 2}") as e:
            await migrate(later, conninfo, after=True)
        announced = "older than 0.2.0" if code_revision is None else f"revision {code_revision}"
        assert f"({announced})" in str(e.value)
        assert value(conninfo, LAST) == HEAD + 1
        assert value(conninfo, COLUMN) == 1


async def test_a_refusal_names_the_process_by_host_and_pid(
    conninfo: str, later: LaterRevisions
) -> None:
    name = "pulse:pool@alpha-1/r3:4711"
    with (
        psycopg.connect(as_runtime(conninfo), application_name=name),
        psycopg.connect(as_runtime(conninfo), application_name="pulse:listener@beta:1"),
        pytest.raises(
            OlderCodeRuns,
            match=r"process 1 of host beta \(older than 0\.2\.0\), "
            r"process 4711 of host alpha-1 \(revision 3\)$",
        ),
    ):
        await migrate(later, conninfo, after=True)


async def test_the_owner_sees_the_processes_of_other_roles(
    conninfo: str, later: LaterRevisions
) -> None:
    async with process_of(conninfo, HEAD):
        with pytest.raises(OlderCodeRuns, match=f"revision {HEAD}"):
            await migrate(later, make_conninfo(conninfo, user=ROLES.owner), after=True)


async def test_revisions_after_a_deploy_are_applied_once_only_newer_code_runs(
    conninfo: str, later: LaterRevisions
) -> None:
    async with process_of(conninfo, HEAD + 2):
        await migrate(later, conninfo, after=True)
    assert value(conninfo, LAST) == HEAD + 2
    assert value(conninfo, COLUMN) == 0
    applied = await Migrations(REVISIONS).current(conninfo, PostgresLimits())
    assert f"needs code of revision {HEAD + 2}" in str(Migrations(REVISIONS).fault(applied))
    with pytest.raises(SchemaNotCurrent, match="start a newer release"):
        await Migrations(REVISIONS).migrate(conninfo, PostgresLimits())


async def test_a_later_deploy_applies_waiting_revisions_but_not_while_older_code_runs(
    conninfo: str, later: LaterRevisions
) -> None:
    await migrate(later, conninfo)
    later.add("remark", "ALTER TABLE parked_orders ADD COLUMN remark text;\n", oldest_code=HEAD + 2)
    async with process_of(conninfo, HEAD):
        with pytest.raises(OlderCodeRuns):
            await migrate(later, conninfo)
    assert value(conninfo, LAST) == HEAD + 1
    async with process_of(conninfo, HEAD + 2):
        await migrate(later, conninfo)
    assert value(conninfo, LAST) == HEAD + 3


async def test_a_new_database_gets_everything(empty_conninfo: str, later: LaterRevisions) -> None:
    await migrate(later, empty_conninfo)
    assert value(empty_conninfo, LAST) == HEAD + 2


async def test_a_process_that_has_to_wait_for_older_ones_starts_once_they_are_gone(
    conninfo: str, later: LaterRevisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(later, conninfo)
    later.add("remark", "ALTER TABLE parked_orders ADD COLUMN remark text;\n", oldest_code=HEAD + 2)
    monkeypatch.setattr("pulse.process.schema.REVISIONS", later.all)
    database = Database(conninfo, pool_size=2, code_revision=HEAD + 3)
    await database.open()
    try:
        gate = SchemaGate(database, migrate=True)
        async with process_of(conninfo, HEAD):
            starting = asyncio.ensure_future(gate.wait())
            await gate.attempted.wait()
            assert "stop process" in str(gate.fault)
        await starting
        assert gate.fault is None
    finally:
        await database.close()
    assert value(conninfo, LAST) == HEAD + 3


async def test_a_locked_table_stops_the_migration_and_applied_revisions_stay(
    conninfo: str, later: LaterRevisions
) -> None:
    later.add("remark", "ALTER TABLE order_queue ADD COLUMN remark text;\n")
    with open_transaction(conninfo, "SELECT count(*) FROM order_queue"):
        with pytest.raises(SchemaLocked, match=r"\(remark\) needs a lock .*a report") as locked:
            await migrate(later, conninfo)
        assert "it was not applied" in str(locked.value)
    assert value(conninfo, LAST) == HEAD + 2
    await migrate(later, conninfo)
    assert value(conninfo, LAST) == HEAD + 3


async def test_a_migration_waits_for_a_locked_table_without_blocking_others(
    conninfo: str, later: LaterRevisions
) -> None:
    read = "SELECT count(*) FROM parked_orders"
    waits = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'parked_orders'::regclass"
    )
    with open_transaction(conninfo, read) as report:
        running = asyncio.ensure_future(migrate(later, conninfo, max_lock_wait_seconds=60.0))

        async def is_queued() -> bool:
            return value(conninfo, waits) == 1

        for _ in range(2):  # it releases the lock and tries again
            await until(is_queued, "the migration waits for the lock")
            options = "-c statement_timeout=10s"
            with psycopg.connect(conninfo, options=options) as other:
                other.execute(read.encode())

            async def is_gone() -> bool:
                return value(conninfo, waits) == 0

            await until(is_gone, "the migration has given up the lock")
        assert not running.done()
        report.rollback()
    await running
    assert value(conninfo, LAST) == HEAD + 1


def indexed(later: LaterRevisions, statement: str = INDEXED) -> None:
    later.add("index_reason", statement, index=INDEX)


async def test_an_index_is_built_while_orders_are_written(
    conninfo: str, later: LaterRevisions
) -> None:
    """The build waits for a writer that began before it. Later writers are not blocked."""
    await migrate(later, conninfo, after=True)
    indexed(later)
    building = (
        "SELECT count(*) FROM pg_stat_progress_create_index"
        " WHERE relid = 'parked_orders'::regclass AND phase LIKE 'waiting%'"
    )
    with open_transaction(conninfo, PARK):
        migrating = asyncio.ensure_future(migrate(later, conninfo))

        async def waits() -> bool:
            return value(conninfo, building) == 1

        await until(waits, "the index waits for the writer")
        with psycopg.connect(conninfo, options="-c lock_timeout=10s") as other:
            other.execute(PARK.encode())
    await migrating
    assert value(conninfo, VALID, INDEX) is True
    assert value(conninfo, LAST) == HEAD + 3


async def test_an_index_whose_build_was_killed_is_built_again(
    conninfo: str, later: LaterRevisions
) -> None:
    await migrate(later, conninfo, after=True)
    indexed(later)
    with open_transaction(conninfo, PARK):
        migrating = asyncio.ensure_future(migrate(later, conninfo))
        kill = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_progress_create_index"
            " WHERE relid = 'parked_orders'::regclass AND phase LIKE 'waiting%'"
        )

        async def is_killed() -> bool:
            return value(conninfo, kill) == 1

        await until(is_killed, "the build is killed")
        with pytest.raises(psycopg.OperationalError):
            await migrating
    assert value(conninfo, VALID, INDEX) is False
    assert value(conninfo, LAST) == HEAD + 2
    await migrate(later, conninfo)
    assert value(conninfo, VALID, INDEX) is True
    assert value(conninfo, LAST) == HEAD + 3


async def test_a_unique_index_that_the_rows_forbid_is_not_left_behind(
    conninfo: str, later: LaterRevisions
) -> None:
    indexed(later, INDEXED.replace("CREATE INDEX", "CREATE UNIQUE INDEX"))
    with psycopg.connect(conninfo) as connection:
        connection.execute(PARK.encode())
        connection.execute(PARK.encode())
    with pytest.raises(psycopg.errors.UniqueViolation):
        await migrate(later, conninfo)
    assert value(conninfo, VALID, INDEX) is None
    assert value(conninfo, LAST) == HEAD + 2


async def test_an_index_that_was_built_but_not_recorded_is_recorded(
    conninfo: str, later: LaterRevisions
) -> None:
    indexed(later)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(INDEXED.encode())
    oid = value(conninfo, "SELECT to_regclass(%s)::oid", INDEX)
    await migrate(later, conninfo)
    assert value(conninfo, "SELECT to_regclass(%s)::oid", INDEX) == oid
    assert value(conninfo, LAST) == HEAD + 3


async def test_processes_that_migrate_at_once_apply_each_revision_once(
    conninfo: str, later: LaterRevisions
) -> None:
    indexed(later)

    async def start() -> None:
        while True:
            try:
                await migrate(later, conninfo, after=True)
            except MigrationInProgress:
                await asyncio.sleep(0.01)
            else:
                return

    await asyncio.gather(*(start() for _ in range(4)))
    assert value(conninfo, LAST) == HEAD + 3
    assert value(conninfo, "SELECT count(*) FROM pulse_schema") == HEAD + 3
