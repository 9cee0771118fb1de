"""The services of the compose file, run as processes on a Postgres of their own.

Each has the command and the variables that the compose file and the image give it, except for
addresses, ports and directories. No container engine is used.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import httpx
import jwt
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pulse.postgres.embedded import EmbeddedServer
from tests.support.deployment_files import CONTAINER, compose, image_environment, secret_names
from tests.support.processes import (
    DEADLINE_SECONDS,
    PLAIN_HTTP,
    ROOT,
    PulseProcess,
    environment,
    free_port,
    until,
)
from tests.support.tokens import claims_with

POSTGRES: Final = "@postgres:5432/pulse"
SERVING: Final = ("api", "workers", "gateway")
OPTIONS: Final = {"fsync": "off", "full_page_writes": "off", "shared_buffers": "32MB"}


class Stack:
    """The services with free ports and new secrets, on this server."""

    def __init__(self, conninfo: str, home: Path) -> None:
        self.conninfo = conninfo
        self.secrets = {name: uuid4().hex for name in secret_names()}
        self.ports = {"8001": free_port(), "8002": free_port(), "8003": free_port()}
        self._home = home
        self._services = compose(self.secrets)["services"]

    def create_roles(self) -> None:
        """Run the script that Postgres's image runs on a new volume."""
        where = conninfo_to_dict(self.conninfo)
        variables = {
            **os.environ,
            **self.secrets,
            "PGHOST": str(where["host"]),
            "POSTGRES_USER": str(where["user"]),
            "POSTGRES_DB": str(where["dbname"]),
        }
        subprocess.run([CONTAINER / "roles.sh"], env=variables, check=True, timeout=60)

    def settings(self, name: str) -> dict[str, str]:
        """The variables of a service."""
        given = {**image_environment(), **self._services[name]["environment"]}
        socket = quote(str(conninfo_to_dict(self.conninfo)["host"]), safe="")
        changed = {
            variable: str(value)
            .replace(POSTGRES, f"@/pulse?host={socket}")
            .replace("http://api:", "http://127.0.0.1:")
            for variable, value in given.items()
        }
        changed |= {"PULSE_HOST": "127.0.0.1", "PULSE_DATA_DIR": str(self._home / name)}
        for port, own in self.ports.items():
            changed = {one: value.replace(port, str(own)) for one, value in changed.items()}
        return {one.removeprefix("PULSE_").lower(): value for one, value in changed.items()}

    def command(self, name: str) -> tuple[str, ...]:
        """The command of a service."""
        words = [str(self.ports.get(word, word)) for word in self._services[name]["command"]]
        return ("-m", "pulse.cli", *words)

    def run(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run a service to its end."""
        return subprocess.run(
            [sys.executable, *self.command(name)],
            env=environment(self.settings(name)),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )

    def is_healthy(self, name: str) -> bool:
        """Whether the image's health check succeeds for a service."""
        ended = subprocess.run(
            [sys.executable, CONTAINER / "health.py"],
            env=environment(self.settings(name)),
            capture_output=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        return ended.returncode == 0

    def get(self, path: str) -> Any:
        """What the API answers the service `oms`."""
        return self._call("GET", path).json()

    def _call(self, method: str, path: str) -> httpx.Response:
        token = self.secrets["OMS_TOKEN"]
        url = f"http://127.0.0.1:{self.ports['8001']}{path}"
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.request(
            method, url, headers=headers, trust_env=False, verify=PLAIN_HTTP, timeout=10
        )


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The services, and a new server with the roles of the compose file."""
    home = tmp_path_factory.mktemp("stack")
    with EmbeddedServer.acquire(home / "data", options=OPTIONS) as server:
        made = Stack(server.conninfo, home)
        made.create_roles()
        yield made


@pytest.fixture(scope="module")
def migrated(stack: Stack) -> Stack:
    ended = stack.run("migrate")
    assert ended.returncode == 0, ended.stderr
    return stack


@pytest.fixture(scope="module")
def processes(
    migrated: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, PulseProcess]]:
    home = tmp_path_factory.mktemp("processes")
    with contextlib.ExitStack() as stack:
        started = {}
        for name in SERVING:
            settings: dict[str, Any] = migrated.settings(name)
            port = int(settings.pop("port", 0)) or free_port()
            process = PulseProcess(home, command=migrated.command(name), port=port, **settings)
            stack.callback(process.close)
            started[name] = process
        until(lambda: all(map(migrated.is_healthy, SERVING)), "all are healthy")
        yield started


def test_no_service_is_healthy_before_it_runs(stack: Stack) -> None:
    assert not stack.is_healthy("api")


def test_a_second_migration_changes_nothing(migrated: Stack) -> None:
    ended = migrated.run("migrate")
    assert ended.returncode == 0, ended.stderr
    assert "nothing to change" in ended.stdout


def test_the_role_of_the_processes_cannot_change_the_log(migrated: Stack) -> None:
    conninfo = make_conninfo(migrated.conninfo, user="pulse_app")
    with (
        psycopg.connect(conninfo) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("DELETE FROM stored_events")


def test_an_order_goes_from_the_gateway_to_its_slices(
    migrated: Stack, processes: dict[str, PulseProcess]
) -> None:
    gateway = migrated.settings("gateway")
    claims = claims_with(iss=gateway["jwt_issuer"], aud=gateway["jwt_audience"])
    order = {
        "order_unique_key": "ouk_compose",
        "instrument": "NSE:RELIANCE",
        "side": "BUY",
        "total_quantity": 100,
        "split_config": {"num_splits": 5, "duration_minutes": 60},
    }
    answer = httpx.post(
        f"http://127.0.0.1:{migrated.ports['8002']}/api/orders",
        json=order,
        headers={"Authorization": f"Bearer {jwt.encode(claims, gateway['jwt_secret'])}"},
        trust_env=False,
        verify=PLAIN_HTTP,
    )
    assert answer.status_code == httpx.codes.ACCEPTED, processes["gateway"].logged
    path = f"/internal/orders/{answer.json()['order_id']}"
    until(lambda: migrated.get(path)["order_queue_status"] == "COMPLETED", "the order is split")
    assert sum(one["quantity"] for one in migrated.get(path)["slices"]) == 100


def test_no_notice_says_that_the_log_is_unprotected(
    migrated: Stack, processes: dict[str, PulseProcess]
) -> None:
    codes = {notice["code"] for notice in migrated.get("/health/ready")["notices"]}
    assert "log_not_protected" not in codes, processes["api"].logged


def test_every_process_stops_cleanly(migrated: Stack, processes: dict[str, PulseProcess]) -> None:
    assert {name: processes[name].stop() for name in SERVING} == dict.fromkeys(SERVING, 0)
    assert not any(migrated.is_healthy(name) for name in SERVING)
