"""`pulse migrate --roles`: roles it creates, refusals, and errors of processes."""

from collections.abc import Iterator
from subprocess import CompletedProcess
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pulse.process.revisions import REVISIONS
from tests.support.cli import Ended, projected, run_pulse, write
from tests.support.database import as_runtime, migrate
from tests.support.events import order_created, stored
from tests.support.processes import run_to_end, url_of

RIGHTS = """
SELECT c.relname, c.relowner::regrole::text, c.relacl::text
  FROM pg_class c
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v', 'S')
 UNION ALL
SELECT p.oid::regprocedure::text, p.proowner::regrole::text, p.proacl::text
  FROM pg_proc p
 WHERE p.pronamespace = 'public'::regnamespace
 ORDER BY 1
"""


class Names:
    """Names of roles for one test. All but `login` need quotes."""

    def __init__(self) -> None:
        own = uuid4().hex[:8]
        self.owner, self.runtime, self.reader = (
            f'{role} "of" {own}' for role in ("Owner", "Runtime", "Reader")
        )
        self.login = f"login_{own}"
        self.all = (self.login, self.owner, self.runtime, self.reader)

    @property
    def options(self) -> tuple[str, ...]:
        return (
            *("--owner", self.owner),
            *("--runtime", self.runtime),
            *("--reader", self.reader),
        )


@pytest.fixture
def names(empty_conninfo: str) -> Iterator[Names]:
    """The names; roles of these names are dropped at the end with all that they own."""
    names = Names()
    yield names
    with psycopg.connect(empty_conninfo, autocommit=True) as connection:
        roles = connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)", (list(names.all),)
        ).fetchall()
        for (role,) in roles:
            connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
        for (role,) in roles:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def execute(conninfo: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def run(conninfo: str, command: str) -> CompletedProcess[str]:
    """Run a command as a process."""
    return run_to_end(("-m", "pulse.cli", command), database_url=url_of(conninfo))


def quoted(name: str) -> str:
    return sql.Identifier(name).as_string()


def set_up(conninfo: str, *options: str) -> Ended:
    return run_pulse("migrate", "--roles", *options, conninfo=conninfo)


def login(conninfo: str, names: Names, *groups: str, attributes: str = "") -> str:
    """Create the login role as a member of these roles; returns its conninfo."""
    execute(conninfo, f"CREATE ROLE {names.login} LOGIN {attributes}")
    for group in groups:
        execute(conninfo, f"GRANT {quoted(group)} TO {names.login}")
    return make_conninfo(conninfo, user=names.login)


def test_a_second_run_changes_nothing(empty_conninfo: str, names: Names) -> None:
    first = set_up(empty_conninfo, *names.options)
    assert first.exit_code == 0, first.err
    assert "statements executed" in first.out
    before = execute(empty_conninfo, RIGHTS)
    again = set_up(empty_conninfo)
    assert f"runtime {names.runtime}" in again.out.replace("\\", "")
    assert "nothing to change" in again.out
    assert execute(empty_conninfo, RIGHTS) == before


def test_the_roles_cannot_log_in(empty_conninfo: str, names: Names) -> None:
    set_up(empty_conninfo, *names.options)
    assert execute(
        empty_conninfo,
        "SELECT count(*) FROM pg_roles WHERE NOT rolcanlogin AND rolname LIKE '% \"of\" %'"
        f" AND rolname LIKE '%{names.login[-8:]}'",
    ) == [(3,)]


def test_a_second_run_corrects_rights_that_were_changed_by_hand(
    empty_conninfo: str, names: Names
) -> None:
    set_up(empty_conninfo, *names.options)
    before = execute(empty_conninfo, RIGHTS)
    runtime = quoted(names.runtime)
    execute(empty_conninfo, f"GRANT UPDATE, DELETE ON stored_events TO {runtime}")
    execute(empty_conninfo, f"GRANT INSERT (recorded_at) ON stored_events TO {runtime}")
    execute(empty_conninfo, "GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC")
    execute(empty_conninfo, "GRANT EXECUTE ON FUNCTION lock_log TO PUBLIC")
    execute(empty_conninfo, f"REVOKE DELETE ON order_queue FROM {runtime}")
    assert "statements executed" in set_up(empty_conninfo).out
    assert execute(empty_conninfo, RIGHTS) == before


def test_other_names_take_the_rights_from_the_former_roles(
    empty_conninfo: str, names: Names
) -> None:
    set_up(empty_conninfo, *names.options)
    other = f"{names.reader}2"
    execute(empty_conninfo, f"CREATE ROLE {quoted(other)}")
    try:
        assert set_up(empty_conninfo, "--reader", other).exit_code == 0
        assert execute(
            empty_conninfo,
            f"SELECT has_table_privilege($n${names.reader}$n$, 'stored_events', 'SELECT'),"
            f" has_table_privilege($n${other}$n$, 'stored_events', 'SELECT')",
        ) == [(False, True)]
    finally:
        execute(empty_conninfo, f"DROP OWNED BY {quoted(other)}")
        execute(empty_conninfo, f"DROP ROLE {quoted(other)}")


def test_a_later_migration_grants_the_rights_on_new_tables(
    empty_conninfo: str, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The role that migrates is a member of the owner and owns nothing itself."""
    before_clocks = next(r.number for r in REVISIONS if r.name == "clock_offsets") - 1
    with monkeypatch.context() as earlier:
        earlier.setattr("pulse.process.tools.REVISIONS", REVISIONS[:before_clocks])
        assert set_up(empty_conninfo, *names.options).exit_code == 0
    ended = run_pulse("migrate", conninfo=login(empty_conninfo, names, names.owner))
    assert ended.exit_code == 0, ended.err
    granted = execute(empty_conninfo, RIGHTS)
    assert set_up(empty_conninfo, *names.options).exit_code == 0
    assert execute(empty_conninfo, RIGHTS) == granted
    assert any("clock_offsets" in row for row in granted)


def test_an_owner_without_createrole_gets_the_statements_and_nothing_changes(
    empty_conninfo: str, names: Names
) -> None:
    own = login(empty_conninfo, names)
    execute(empty_conninfo, f"GRANT CREATE ON SCHEMA public TO {names.login}")
    migrate(own)
    before = execute(empty_conninfo, RIGHTS)
    refused = set_up(own, *names.options)
    assert refused.exit_code == 3
    assert "nothing was changed" in refused.err
    assert execute(empty_conninfo, RIGHTS) == before
    statements = refused.out.splitlines()
    assert f"CREATE ROLE {quoted(names.runtime)} NOLOGIN;" in statements
    assert f'GRANT {quoted(names.owner)} TO "{names.login}";' in statements
    for statement in statements:
        execute(empty_conninfo, statement)
    ended = set_up(own, *names.options)
    assert ended.exit_code == 0, ended.out + ended.err
    assert execute(
        empty_conninfo,
        "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'stored_events'",
    ) == [(quoted(names.owner),)]


def test_a_role_with_createrole_that_owns_the_database_needs_no_superuser(
    empty_conninfo: str, names: Names
) -> None:
    own = login(empty_conninfo, names, attributes="CREATEROLE")
    database = conninfo_to_dict(empty_conninfo)["dbname"]
    former = execute(empty_conninfo, "SELECT current_user::text")[0][0]
    execute(empty_conninfo, f"ALTER DATABASE {database} OWNER TO {names.login}")
    try:
        ended = set_up(own, *names.options)
        assert ended.exit_code == 0, ended.out + ended.err
        assert "nothing to change" in set_up(own).out
    finally:
        execute(empty_conninfo, f"ALTER DATABASE {database} OWNER TO {former}")


def test_processes_of_the_former_owner_keep_working(empty_conninfo: str, names: Names) -> None:
    """A superuser sets up the roles while processes run as the tables' owner."""
    own = login(empty_conninfo, names)
    execute(empty_conninfo, f"GRANT CREATE ON SCHEMA public TO {names.login}")
    migrate(own)
    assert set_up(empty_conninfo, *names.options).exit_code == 0
    execute(own, "INSERT INTO stored_events VALUES (gen_random_uuid(), 1, 't', '{}')")


def test_only_the_owner_of_the_tables_can_set_up_roles(empty_conninfo: str, names: Names) -> None:
    migrate(empty_conninfo)
    for role in (names.owner, names.runtime, names.reader):
        execute(empty_conninfo, f"CREATE ROLE {quoted(role)}")
    own = login(empty_conninfo, names, attributes="CREATEROLE")
    refused = set_up(own, *names.options)
    assert refused.exit_code == 3
    assert f"role {names.login} does not own pulse_schema, whose owner is" in refused.err


def test_the_former_owner_of_the_tables_can_become_the_runtime(
    empty_conninfo: str, names: Names
) -> None:
    own = login(empty_conninfo, names)
    execute(empty_conninfo, f"GRANT CREATE ON SCHEMA public TO {names.login}")
    migrate(own)
    options = ("--owner", names.owner, "--runtime", names.login, "--reader", names.reader)
    refused = set_up(own, *options)
    assert refused.exit_code == 3
    assert "cannot set up the roles and be the runtime or the reader" in refused.err
    assert set_up(empty_conninfo, *options).exit_code == 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(own, "ALTER TABLE stored_events DISABLE TRIGGER ALL")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(own, "CREATE TABLE other (a int)")
    execute(
        own,
        "INSERT INTO stored_events (originator_id, originator_version, topic, state)"
        " VALUES (gen_random_uuid(), 1, 't', '{}')",
    )


def test_a_runtime_that_owns_the_database_is_refused(empty_conninfo: str, names: Names) -> None:
    database = conninfo_to_dict(empty_conninfo)["dbname"]
    former = execute(empty_conninfo, "SELECT current_user::text")[0][0]
    login(empty_conninfo, names)
    execute(empty_conninfo, f"ALTER DATABASE {database} OWNER TO {names.login}")
    try:
        refused = set_up(empty_conninfo, "--runtime", names.login)
        assert refused.exit_code == 3
        assert "owns the database" in refused.err
    finally:
        execute(empty_conninfo, f"ALTER DATABASE {database} OWNER TO {former}")


@pytest.mark.parametrize("attribute", ["SUPERUSER", "CREATEROLE", "BYPASSRLS", "REPLICATION"])
def test_a_role_with_more_rights_is_refused(
    empty_conninfo: str, names: Names, attribute: str
) -> None:
    execute(empty_conninfo, f"CREATE ROLE {quoted(names.runtime)} {attribute}")
    refused = set_up(empty_conninfo, *names.options)
    assert refused.exit_code == 3
    assert f"({attribute}): ALTER ROLE" in refused.err
    assert f"NO{attribute}" in refused.err
    assert execute(empty_conninfo, "SELECT to_regclass('pulse_roles')") == [(None,)]


@pytest.mark.parametrize("group", ["owner", "pg_write_all_data"])
def test_a_runtime_that_is_a_member_of_a_stronger_role_is_refused(
    empty_conninfo: str, names: Names, group: str
) -> None:
    group = names.owner if group == "owner" else group
    execute(empty_conninfo, f"CREATE ROLE {quoted(names.owner)}")
    execute(empty_conninfo, f"CREATE ROLE {quoted(names.runtime)} IN ROLE {quoted(group)}")
    refused = set_up(empty_conninfo, *names.options)
    assert refused.exit_code == 3
    assert "member of" in refused.err


@pytest.mark.parametrize("name", ["", "public", "none", "pg_reader", "x" * 64, "a\nb"])
def test_a_name_that_no_role_can_have_is_refused(empty_conninfo: str, name: str) -> None:
    refused = set_up(empty_conninfo, "--reader", name)
    assert refused.exit_code == 3
    assert "cannot be the name of a role" in refused.err


def test_one_name_for_two_roles_is_refused(empty_conninfo: str) -> None:
    refused = set_up(empty_conninfo, "--reader", "pulse_runtime")
    assert "three different roles" in refused.err


def test_names_without_roles_are_wrong_usage(empty_conninfo: str) -> None:
    refused = run_pulse("migrate", "--reader", "auditors", conninfo=empty_conninfo)
    assert refused.exit_code == 2
    assert "need --roles" in refused.err


def test_migrating_an_outdated_schema_as_the_runtime_names_who_can(conninfo: str) -> None:
    execute(conninfo, f"DELETE FROM pulse_schema WHERE revision = {REVISIONS[-1].number}")
    for refused in (run(as_runtime(conninfo), "migrate"), run(as_runtime(conninfo), "background")):
        assert refused.returncode == 3
        assert "role pulse_runtime may not change the schema" in refused.stderr
        assert "run `pulse migrate` with the URL of a member of pulse_owner" in refused.stderr


def test_setting_up_roles_as_the_runtime_is_refused(conninfo: str) -> None:
    execute(conninfo, "REVOKE SELECT ON parked_orders FROM pulse_reader")
    refused = run_pulse("migrate", "--roles", database_url=url_of(as_runtime(conninfo)))
    assert refused.exit_code == 3
    assert "role pulse_runtime cannot set up the roles" in refused.err


def test_the_error_of_a_role_without_rights_names_the_role_to_join(
    conninfo: str, empty_conninfo: str, names: Names
) -> None:
    del empty_conninfo  # it drops the names
    own = login(conninfo, names)
    for refused in (run(own, "background"), run(own, "status")):
        assert refused.returncode == 3
        assert f'GRANT pulse_runtime TO "{names.login}"' in refused.stderr


def test_the_error_of_a_role_that_may_not_read_the_queue_names_the_missing_rights(
    conninfo: str, empty_conninfo: str, names: Names
) -> None:
    del empty_conninfo  # it drops the names
    own = login(conninfo, names)
    execute(conninfo, f"GRANT SELECT ON pulse_schema, stored_events TO {names.login}")
    refused = run(own, "background")
    execute(conninfo, f"DROP OWNED BY {names.login}")
    assert refused.returncode == 3
    assert f"role {names.login} lacks rights that Pulse's processes need" in refused.stderr
    assert "INSERT (originator_id, originator_version, topic, state) ON stored" in refused.stderr
    assert "`pulse migrate --roles`" in refused.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("orders", "list"),
        ("orders", "failed"),
        ("verify",),
        ("projections", "status"),
        ("halts",),
    ],
)
def test_the_reader_can_run_the_commands_that_read(conninfo: str, command: tuple[str, ...]) -> None:
    write(conninfo, *stored([order_created()]))
    projected(conninfo)
    own = make_conninfo(conninfo, user="pulse_reader")
    ended = run_pulse(*command, conninfo=own)
    assert ended.exit_code == 0, ended.out + ended.err


def test_the_reader_can_replay_an_order(conninfo: str) -> None:
    created = order_created()
    write(conninfo, *stored([created]))
    own = make_conninfo(conninfo, user="pulse_reader")
    assert run_pulse("replay", str(created.originator_id), conninfo=own).exit_code == 0
