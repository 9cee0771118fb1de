"""The embedded server: processes use the runtime role, and earlier databases get the roles."""

from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pulse.postgres.embedded import EmbeddedServer
from pulse.postgres.embedded.directories import ServerPaths
from pulse.process.revisions import REVISIONS
from tests.support.cli import write
from tests.support.database import migrate
from tests.support.events import order_created, stored
from tests.support.orders import order
from tests.support.processes import PulseProcess, pulse, run_to_end, until

BEFORE_ROLES = REVISIONS[:11]
SESSIONS = """
SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name LIKE 'pulse:%'
"""
OWNERS = """
SELECT DISTINCT relowner::regrole::text
  FROM pg_class
 WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'S')
"""


def connected(data_dir: Path, role: str) -> psycopg.Connection:
    """A connection over the server's socket, as psql makes it."""
    return psycopg.connect(make_conninfo(ServerPaths.under(data_dir).conninfo, user=role))


def assert_append_only(data_dir: Path) -> None:
    """Processes run as a role that cannot change the log, and the reader can read it."""
    with connected(data_dir, "pulse") as superuser:
        assert superuser.execute(SESSIONS).fetchall() == [("pulse_runtime",)]
        assert superuser.execute(OWNERS).fetchall() == [("pulse_owner",)]
    for role in ("pulse_runtime", "pulse_reader"):
        with connected(data_dir, role) as connection:
            for statement in (b"DELETE FROM stored_events", b"DROP TABLE stored_events"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)
                connection.rollback()
            assert connection.execute("SELECT count(*) > 0 FROM stored_events").fetchone() == (
                True,
            )


def notices(process: PulseProcess) -> list[str]:
    ready = process.http.get("/health/ready").json()
    return [notice["code"] for notice in ready["notices"]]


def test_a_new_server_has_the_roles(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with pulse(tmp_path, data_dir=data_dir) as process:
        order_id = process.post(order()).json()["order_id"]
        process.until_completed(order_id)
        assert_append_only(data_dir)
        until(lambda: notices(process) == [], "no notice is left")
        for command in (("rebuild",), ("status",), ("replay", order_id), ("migrate", "--roles")):
            ended = run_to_end(("-m", "pulse.cli", *command), data_dir=data_dir)
            assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_data_of_an_earlier_release_get_the_roles_at_the_start(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    created = order_created()
    with EmbeddedServer.acquire(data_dir, options={"fsync": "off"}) as server:
        migrate(server.conninfo, BEFORE_ROLES)
        write(server.conninfo, *stored([created]))
    status = run_to_end(("-m", "pulse.cli", "status"), data_dir=data_dir)
    assert status.returncode == 3
    assert "run `pulse migrate`" in status.stderr
    with pulse(tmp_path, data_dir=data_dir) as process:
        found = process.order(str(UUID(str(created.originator_id))))
        assert found["order_unique_key"] == created.spec.order_unique_key
        process.until_completed(process.post(order()).json()["order_id"])
        assert_append_only(data_dir)
        until(lambda: notices(process) == [], "no notice is left")


def test_after_pulse_migrate_data_of_an_earlier_release_starts_with_migrate_false(
    tmp_path: Path,
) -> None:
    data_dir = tmp_path / "data"
    with EmbeddedServer.acquire(data_dir, options={"fsync": "off"}) as server:
        migrate(server.conninfo, BEFORE_ROLES)
    migrated = run_to_end(("-m", "pulse.cli", "migrate"), data_dir=data_dir)
    assert migrated.returncode == 0, migrated.stderr
    with pulse(tmp_path, data_dir=data_dir, migrate="false") as process:
        process.until_completed(process.post(order()).json()["order_id"])
        assert_append_only(data_dir)
