"""`pulse doctor`: one line per check, with what to change."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pulse.postgres.server_facts import ServerFacts
from pulse.process.development_key import KEY_FILE
from pulse.process.doctor import check_server
from pulse.settings import Settings
from tests.support.cli import run_pulse
from tests.support.processes import free_port

NAMES = [
    *("settings", "files", "disk", "connection", "pooler", "session", "schema", "append"),
    *("role", "fsync", "full_page_writes", "synchronous_commit", "max_connections"),
    *("min_wal_size", "clock"),
]
GOOD = ServerFacts(
    server_version="18.6",
    role="pulse",
    is_superuser=False,
    has_pooler=False,
    fsync=True,
    full_page_writes=True,
    synchronous_commit="on",
    max_connections=100,
    reserved_connections=3,
    connections=10,
    min_wal_mib=4096,
)
OWN_SERVER = Settings(database_url="postgresql://db/pulse")


def checks(exit_code: int, conninfo: str | None, **settings: object) -> dict[str, dict[str, Any]]:
    ended = run_pulse("doctor", "--json", conninfo=conninfo, **settings)
    assert ended.exit_code == exit_code, ended
    found = json.loads(ended.out.splitlines()[-1])  # warnings of the log may precede it
    assert found["healthy"] is (exit_code == 0)
    return {check["name"]: check for check in found["checks"]}


def test_every_check_is_performed(conninfo: str, tmp_path: Path) -> None:
    found = run_pulse("doctor", "--json", conninfo=conninfo, data_dir=tmp_path)
    names = [check["name"] for check in json.loads(found.out)["checks"]]
    assert names == NAMES


def test_each_check_is_one_line(conninfo: str, tmp_path: Path) -> None:
    ended = run_pulse("doctor", conninfo=conninfo, data_dir=tmp_path)
    lines = ended.out.splitlines()
    assert [line.split()[1] for line in lines] == NAMES
    assert {line.split()[0] for line in lines} <= {"ok", "warn", "fail"}
    assert ended.exit_code == int(any(line.startswith("fail") for line in lines))


@pytest.mark.parametrize(
    ("changes", "name", "state", "remedy"),
    [
        ({}, "role", "ok", ""),
        ({"is_superuser": True}, "role", "warn", "run Pulse under a role"),
        ({"fsync": False}, "fsync", "fail", "turn it on"),
        ({"full_page_writes": False}, "full_page_writes", "fail", "turn it on"),
        ({"synchronous_commit": "off"}, "synchronous_commit", "fail", "set it to on"),
        ({"synchronous_commit": "local"}, "synchronous_commit", "fail", "set it to on"),
        ({"synchronous_commit": "remote_apply"}, "synchronous_commit", "ok", ""),
        ({"max_connections": 12}, "max_connections", "fail", "raise it"),
        ({"connections": 90}, "max_connections", "warn", "raise it"),
        ({"min_wal_mib": 80}, "min_wal_size", "warn", "set it to 1GB or more"),
    ],
)
def test_a_setting_of_the_server_that_matters_is_named_with_what_to_change(
    changes: dict[str, Any], name: str, state: str, remedy: str
) -> None:
    found = list(check_server(OWN_SERVER, msgspec.structs.replace(GOOD, **changes)))
    (named,) = [check for check in found if check.name == name]
    assert named.state == state
    assert remedy in named.message
    assert all(check.state == "ok" for check in found if check is not named)


def test_the_connections_of_all_processes_are_counted() -> None:
    ten = msgspec.structs.replace(OWN_SERVER, processes=8, worker_processes=2)
    (found,) = (c for c in check_server(ten, GOOD) if c.name == "max_connections")
    assert found.state == "fail"
    assert "the 10 processes of `pulse up` take up to 140" in found.message


def test_the_embedded_server_passes_with_its_own_settings() -> None:
    facts = msgspec.structs.replace(GOOD, is_superuser=True, min_wal_mib=80)
    assert all(check.state == "ok" for check in check_server(Settings(), facts))


def test_a_schema_that_is_not_current_is_a_failure_unless_the_start_migrates_it(
    empty_conninfo: str,
) -> None:
    assert checks(1, empty_conninfo, migrate="false")["schema"]["state"] == "fail"
    found = run_pulse("doctor", "--json", conninfo=empty_conninfo).out
    (schema,) = [check for check in json.loads(found)["checks"] if check["name"] == "schema"]
    assert schema["state"] == "warn"
    assert "the next start migrates it" in schema["message"]


def test_an_unreachable_server_is_one_line_without_its_secrets() -> None:
    url = f"postgresql://pulse:secret-of-mine@127.0.0.1:{free_port()}/pulse"
    ended = run_pulse("doctor", database_url=url)
    assert ended.exit_code == 1
    last = ended.out.splitlines()[-1]
    assert last.startswith("fail  connection")
    assert "Postgres cannot be reached" in last
    assert "secret-of-mine" not in ended.out + ended.err


@pytest.fixture
def reading(conninfo: str) -> Iterator[str]:
    """A role that can only read the tables."""
    role = f"doctor_reads_{uuid4().hex[:12]}"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'".encode())
        try:
            grant = f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
            connection.execute(grant.encode())
            yield make_conninfo(conninfo, user=role, password="x")  # noqa: S106
        finally:
            connection.execute(f"DROP OWNED BY {role}".encode())
            connection.execute(f"DROP ROLE {role}".encode())


def test_a_role_without_the_right_to_append_fails(reading: str) -> None:
    assert checks(1, reading)["append"]["state"] == "fail"


def test_connections_of_other_roles_are_counted_without_the_right_to_see_more(
    conninfo: str, reading: str
) -> None:
    with ExitStack() as others:
        for _ in range(5):
            others.enter_context(psycopg.connect(conninfo))
        message = checks(1, reading)["max_connections"]["message"]
    (in_use,) = re.findall(r" usable, (\d+) in use, ", message)
    assert int(in_use) >= 6


def test_modes_that_let_others_in_are_a_failure(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_text("0" * 64)
    (tmp_path / KEY_FILE).chmod(0o644)
    tmp_path.chmod(0o777)
    found = checks(1, None, data_dir=tmp_path)
    tmp_path.chmod(0o700)
    assert found["files"]["state"] == "fail"
    assert f"chmod go-w {tmp_path}" in found["files"]["message"]
    assert f"chmod 600 {tmp_path / KEY_FILE}" in found["files"]["message"]


def test_before_the_first_start_there_is_only_a_warning(tmp_path: Path) -> None:
    found = checks(0, None, data_dir=tmp_path / "none")
    assert found["connection"]["state"] == "warn"
    assert not (tmp_path / "none").exists()


def test_misspelt_variables_are_a_warning(tmp_path: Path) -> None:
    found = checks(0, None, data_dir=tmp_path / "none", batchsize=5)
    assert found["settings"]["state"] == "warn"
    assert "PULSE_BATCH_SIZE" in found["settings"]["message"]
