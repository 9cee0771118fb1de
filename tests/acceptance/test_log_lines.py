"""The log of a process: only JSON if so configured, and a limited rate of lines."""

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.orders import order
from tests.support.processes import (
    UP,
    PulseProcess,
    free_port,
    pulse,
    run_to_end,
    until,
    uvicorn_on,
)

GARBAGE = b"GARBAGE\r\n\r\n"
UPGRADE = (
    b"GET /pulse/health HTTP/1.1\r\nHost: localhost\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
)
FLOOD = 60


def lines_of(process: PulseProcess) -> list[dict[str, Any]]:
    """Every line of both outputs, each of which must be JSON."""
    return [json.loads(line) for line in (process.output + process.logged).splitlines()]


@contextlib.contextmanager
def started(kind: str, home: Path, **settings: Any) -> Iterator[PulseProcess]:
    port = free_port()
    command = UP if kind == "pulse up" else uvicorn_on(port)
    with pulse(home, command=command, port=port, log_format="json", **settings) as process:
        yield process


@pytest.mark.parametrize("kind", ["pulse up", "uvicorn"])
def test_every_log_line_is_json_and_a_clean_start_logs_no_error(
    tmp_path: Path, data_dir: Path, kind: str
) -> None:
    with started(kind, tmp_path, data_dir=data_dir) as process:
        order_id = process.post(order()).json()["order_id"]
        process.until_completed(order_id)
        at_start = lines_of(process)
        process.stop()
        lines = lines_of(process)
    assert "error" not in {line["level"] for line in at_start}
    assert not [line for line in at_start if "error" in line["logger"]]
    assert any("Finished server process" in line["event"] for line in lines)
    if kind == "pulse up":
        assert any("Ctrl-C stops everything" in line.get("text", "") for line in lines)


@pytest.mark.parametrize(
    "command",
    [("-m", "pulse.cli", "up"), ("-m", "pulse.background"), uvicorn_on(free_port())],
    ids=["pulse up", "background", "uvicorn"],
)
@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"data_dir": "/dev/null/x"}], ids=str)
def test_a_refused_start_is_logged_as_json(
    command: tuple[str, ...], wrong: dict[str, object]
) -> None:
    ended = run_to_end(command, log_format="json", **wrong)
    assert ended.returncode in {2, 3}
    lines = [json.loads(line) for line in (ended.stdout + ended.stderr).splitlines()]
    (variable,) = wrong
    assert f"PULSE_{variable.upper()}" in json.dumps(lines)


@pytest.mark.timing
@pytest.mark.parametrize("kind", ["pulse up", "uvicorn"])
def test_floods_of_invalid_requests_are_logged_rarely(
    tmp_path: Path, module_database_url: str, kind: str
) -> None:
    with started(kind, tmp_path, database_url=module_database_url) as process:
        for _ in range(FLOOD):
            for sent in (GARBAGE, UPGRADE):
                with socket.create_connection(("127.0.0.1", process.port), timeout=20) as stranger:
                    stranger.sendall(sent)
                    stranger.settimeout(20)
                    stranger.recv(65_536)
        warnings = [line for line in lines_of(process) if line["level"] == "warning"]
    of_server = [line for line in warnings if line["logger"] == "uvicorn"]
    assert len(of_server) < FLOOD / 3


def test_debug_logs_requests_claims_batches_and_projections(
    tmp_path: Path, module_database_url: str
) -> None:
    settings = {"database_url": module_database_url, "log_level": "debug"}
    with started("pulse up", tmp_path, **settings) as process:
        request = {"X-Request-Id": "r-of-the-caller"}
        placed = process.http.post("/internal/orders", json=order(), headers=request)
        process.until_completed(placed.json()["order_id"])

        def debug() -> dict[str, dict[str, Any]]:
            found = [line for line in lines_of(process) if line["level"] == "debug"]
            return {line["event"]: line for line in reversed(found)}

        wanted = {"http.answered", "projection.advanced", "orders.claimed"}
        until(lambda: wanted <= debug().keys(), "each kind of debug line is there")
        (answered,) = [
            line for line in lines_of(process) if line.get("request_id") == "r-of-the-caller"
        ]
    assert answered["event"] == "http.answered"
    assert (answered["method"], answered["path"]) == ("POST", "/pulse/internal/orders")
    assert answered["status"] == 201
    assert answered["milliseconds"] > 0
