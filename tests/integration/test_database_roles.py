"""Every kind of statement on every object, as every role, gives what the documentation says."""

import re
from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pulse.application.grants import GRANTS
from pulse.postgres.grants import privileges
from tests.support.database import ROLES, cloned_database, migrate_with_roles
from tests.support.role_rights import (
    ELSEWHERE,
    FORBIDDEN,
    Attempt,
    Documented,
    attempts_on,
    documented_rights,
    permits,
)

REFUSED_BY_TRIGGER = re.compile(
    r"(UPDATE|DELETE FROM|TRUNCATE) "
    r"(stored_events|log_forks|seal_entries|seal_nodes|seal_keys|evidence_exports)\b"
)
OBJECTS = """
SELECT c.relname::text
  FROM pg_class c
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p', 'f')
 UNION ALL
SELECT split_part(pg_get_expr(d.adbin, d.adrelid), '''', 2)
  FROM pg_attrdef d
 WHERE pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval%'
 UNION ALL
SELECT p.oid::regprocedure::text
  FROM pg_proc p
 WHERE p.pronamespace = 'public'::regnamespace
"""


@pytest.fixture(scope="module")
def connections(postgres: str, template_database: str) -> Iterator[dict[str, psycopg.Connection]]:
    """A connection for each role, and one for a role that is a member of none.

    Their database is a clone: calls of nextval() are not rolled back.
    """
    with cloned_database(postgres, template_database) as conninfo:
        migrate_with_roles(conninfo)  # the rights on the database are not cloned
        yield from _connections(conninfo)


def _connections(conninfo: str) -> Iterator[dict[str, psycopg.Connection]]:
    groups = {
        "owner": ROLES.owner,
        "runtime": ROLES.runtime,
        "reader": ROLES.reader,
        "no_member": None,
    }
    names = {role: f"{role}_{uuid4().hex[:8]}" for role in groups}
    opened: dict[str, psycopg.Connection] = {}
    with psycopg.connect(conninfo, autocommit=True) as admin:
        for role, group in groups.items():
            admin.execute(f"CREATE ROLE {names[role]} LOGIN".encode())
            if group is not None:
                admin.execute(f"GRANT {group} TO {names[role]}".encode())
        try:
            for role, name in names.items():
                opened[role] = psycopg.connect(make_conninfo(conninfo, user=name))
            yield opened
        finally:
            for connection in opened.values():
                connection.close()
            for name in names.values():
                admin.execute(f"DROP ROLE {name}".encode())


def refusal(connection: psycopg.Connection, statement: str) -> str | None:
    """Why the role may not execute the statement, None if it may; nothing of it remains."""
    try:
        if statement.endswith("TO STDOUT"):
            with connection.cursor().copy(statement.encode()) as copy:
                list(copy)
        else:
            connection.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege as error:
        return error.diag.message_primary
    except psycopg.Error:
        return None  # the role may execute it, but it fails
    finally:
        connection.rollback()
    return None


def test_the_page_lists_every_object_of_the_database(
    connections: dict[str, psycopg.Connection],
) -> None:
    found = {row[0] for row in connections["owner"].execute(OBJECTS)}
    connections["owner"].rollback()
    listed = {
        f"{name.replace('.', '_')}_seq" if one.kind == "sequence" else name.replace(", ", ",")
        for name, one in documented_rights().items()
    }
    assert found == listed


def test_the_page_lists_the_declared_rights() -> None:
    declared = {
        grant.name: (
            grant.kind.lower(),
            set(privileges(grant.runtime)),
            set(privileges(grant.reader)),
        )
        for grant in GRANTS
    }
    listed = {
        name: (
            one.kind,
            {(p, column) for p, columns in one.runtime.items() for column in columns or ("",)},
            {(p, column) for p, columns in one.reader.items() for column in columns or ("",)},
        )
        for name, one in documented_rights().items()
    }
    assert declared == listed


def expected(role: str, one: Documented, attempt: Attempt) -> bool:
    match role:
        case "owner":
            return not REFUSED_BY_TRIGGER.match(attempt.statement)
        case "runtime":
            return permits(one.runtime, attempt)
        case "reader":
            return permits(one.reader, attempt)
        case _:
            return False


@pytest.mark.parametrize("role", ["owner", "runtime", "reader", "no_member"])
def test_each_role_can_execute_the_statements_that_the_page_permits(
    connections: dict[str, psycopg.Connection], role: str
) -> None:
    tried, wrong = 0, []
    for one in documented_rights().values():
        for attempt in list(attempts_on(connections["owner"], one)):
            tried += 1
            refused = refusal(connections[role], attempt.statement)
            if (refused is None) != expected(role, one, attempt):
                wrong.append(f"{attempt.statement}: {refused or 'executed'}")
    connections["owner"].rollback()
    assert not wrong
    assert tried > 400


@pytest.mark.parametrize("role", ["owner", "runtime", "reader", "no_member"])
@pytest.mark.parametrize("statement", ELSEWHERE)
def test_only_the_owner_can_create_objects(
    connections: dict[str, psycopg.Connection], role: str, statement: str
) -> None:
    assert (refusal(connections[role], statement) is None) == (role == "owner")


@pytest.mark.parametrize("role", ["runtime", "reader", "no_member"])
@pytest.mark.parametrize("statement", FORBIDDEN)
def test_no_role_but_the_owner_can_extend_its_rights(
    connections: dict[str, psycopg.Connection], role: str, statement: str
) -> None:
    connection = connections[role]
    statement = statement.format(database=connection.info.dbname)
    connection.autocommit = "DATABASE own" in statement or "ALTER SYSTEM" in statement
    try:
        assert refusal(connection, statement) is not None
    finally:
        connection.autocommit = False


@pytest.mark.parametrize("role", ["runtime", "reader"])
@pytest.mark.parametrize("mode", ["SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE"])
def test_only_the_owner_can_lock_the_log_against_appends(
    connections: dict[str, psycopg.Connection], role: str, mode: str
) -> None:
    lock = f"LOCK TABLE stored_events IN {mode} MODE"
    assert refusal(connections[role], lock) is not None
    assert refusal(connections["owner"], lock) is None


@pytest.mark.parametrize("role", ["runtime", "reader"])
def test_no_right_has_the_grant_option(
    connections: dict[str, psycopg.Connection], role: str
) -> None:
    connection = connections[role]
    rows = connection.execute(
        "SELECT grantor, table_name, privilege_type FROM information_schema.table_privileges"
        " WHERE grantee IN (%s, %s) AND is_grantable = 'YES'",
        (ROLES.runtime, ROLES.reader),
    ).fetchall()
    connection.rollback()
    assert rows == []
