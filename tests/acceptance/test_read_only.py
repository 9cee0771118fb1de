"""A server that is read-only for a time: reported, orders are refused, and then recovery."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.faults.node import Node
from tests.support.database import migrate
from tests.support.orders import fault, order
from tests.support.processes import PulseProcess, pulse, until

MAX_WARNINGS = 60  # a few for each loop in each of two outages, not one for each attempt


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A separate server; each test leaves it writable."""
    with running(tmp_path_factory.mktemp("primary")) as node:
        node.make()
        node.start()
        migrate(node.conninfo)
        yield node


@contextlib.contextmanager
def running(home: Path) -> Iterator[Node]:
    node = Node(home, {"fsync": "off"})
    try:
        yield node
    finally:
        node.stop_immediately()


def set_read_only(node: Node, value: str) -> None:
    """For every session of the server, including open ones."""
    options = "-c default_transaction_read_only=off"
    with psycopg.connect(node.conninfo, autocommit=True, options=options) as admin:
        admin.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        admin.execute("SELECT pg_reload_conf()")


def database_fault(process: PulseProcess) -> str:
    """The message of the readiness check of the database; empty if it passes."""
    answered = process.http.get("/health/ready").json()
    checks: dict[str, Any] = answered.get("error", {}).get("details", {}).get("checks", {})
    return checks.get("database") or ""


def accepted(process: PulseProcess) -> str | None:
    response = process.post(order())
    if response.status_code == 201:
        order_id: str = response.json()["order_id"]
        return order_id
    fault(response, 503, "UNAVAILABLE")
    return None


def until_well(process: PulseProcess) -> None:
    order_id = until(lambda: accepted(process), "orders are accepted")
    process.until_completed(order_id)
    until(lambda: process.http.get("/health/ready").status_code == 200, "it is ready")


def assert_quiet(process: PulseProcess) -> None:
    assert "Traceback" not in process.logged
    warnings = [line for line in process.logged.splitlines() if "warning" in line]
    assert len(warnings) < MAX_WARNINGS, process.logged


def test_sessions_that_became_read_only_are_replaced_once_the_server_takes_writes(
    primary: Node, tmp_path: Path
) -> None:
    with pulse(tmp_path, database_url=primary.url, log_format="console") as process:
        until_well(process)
        for _ in range(2):
            set_read_only(primary, "on")
            until(
                lambda: "default_transaction_read_only is on" in database_fault(process),
                "readiness names the setting",
            )
            for _ in range(20):
                assert accepted(process) is None
            set_read_only(primary, "off")
            until_well(process)
        assert_quiet(process)


def test_a_standby_is_reported_and_used_only_after_promotion(primary: Node, tmp_path: Path) -> None:
    with running(tmp_path / "standby") as standby:
        standby.copy_of(primary, follow=True)
        standby.start()
        with pulse(tmp_path, database_url=standby.url, log_format="console") as process:
            until(lambda: "standby" in database_fault(process), "readiness says why")
            for _ in range(20):
                assert accepted(process) is None
            until(lambda: "postgres.not_ready" in process.logged, "the log says so")
            lines = [line for line in process.logged.splitlines() if "postgres.not_ready" in line]
            assert len(lines) == 1
            assert "standby" in lines[0]
            standby.promote()
            until_well(process)
            assert_quiet(process)


def test_a_read_only_database_at_the_start_is_reported_and_waited_for(
    primary: Node, tmp_path: Path
) -> None:
    set_read_only(primary, "on")
    with pulse(tmp_path, database_url=primary.url, log_format="console") as process:
        until(
            lambda: "default_transaction_read_only is on" in database_fault(process),
            "readiness names the setting",
        )
        set_read_only(primary, "off")
        until_well(process)
        assert_quiet(process)
