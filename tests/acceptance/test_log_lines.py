"""The log of a process: only JSON if so configured, and a limited rate of lines."""

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fleet import api_alone
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
    """Every complete line of both outputs, each of which must be JSON."""
    written = [text.rpartition("\n")[0] for text in (process.output, process.logged)]
    return [json.loads(line) for text in written for line in text.splitlines()]


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
                with socket.create_connection(("127.0.0.1", process.port), timeout=20) as client:
                    client.sendall(sent)
                    client.settimeout(20)
                    client.recv(65_536)
        process.stop()
        warnings = [line for line in lines_of(process) if line["level"] == "warning"]
    of_server = [line for line in warnings if line["logger"] == "uvicorn"]
    assert 0 < len(of_server) < FLOOD / 3


def lines_of_request(process: PulseProcess, request_id: str) -> list[dict[str, Any]]:
    lines = [line for line in lines_of(process) if line["event"] == "http.answered"]
    return [line for line in lines if line["request_id"] == request_id]


def test_debug_logs_claims_and_projections(tmp_path: Path, module_database_url: str) -> None:
    settings = {"database_url": module_database_url, "log_level": "debug"}
    with started("pulse up", tmp_path, **settings) as process:
        process.until_completed(process.post(order()).json()["order_id"])

        def events() -> set[str]:
            return {line["event"] for line in lines_of(process) if line["level"] == "debug"}

        wanted = {"projection.advanced", "orders.claimed"}
        until(lambda: wanted <= events(), "each kind of debug line is there")


@pytest.mark.parametrize("kind", ["pulse up", "uvicorn"])
def test_each_request_has_a_line_and_so_has_each_batch_of_a_worker(
    tmp_path: Path, module_database_url: str, kind: str
) -> None:
    with started(kind, tmp_path, database_url=module_database_url) as process:
        placing = {"X-Request-Id": "r-placing", "X-Trace-Id": "t-of-the-caller"}
        order_id = process.http.post("/internal/orders", json=order(), headers=placing).json()[
            "order_id"
        ]
        process.until_completed(order_id)
        for request_id, path in (
            ("r-reading", f"/internal/orders/{order_id}"),
            ("r-history", f"/internal/orders/{order_id}/events?limit=1"),
            ("r-unknown", "/internal/nowhere/secret-in-the-path"),
        ):
            process.http.get(path, headers={"X-Request-Id": request_id})
        until(lambda: lines_of_request(process, "r-unknown"), "the last line is written")
        (placed,) = lines_of_request(process, "r-placing")
        (read,) = lines_of_request(process, "r-reading")
        (history,) = lines_of_request(process, "r-history")
        (unknown,) = lines_of_request(process, "r-unknown")
        until(
            lambda: "orders.split" in {line["event"] for line in lines_of(process)},
            "the batch has its line",
        )
    assert placed.pop("ms") > 0
    assert placed.pop("timestamp").endswith("Z")
    assert placed == {
        "event": "http.answered",
        "level": "info",
        "logger": "pulse.http",
        "method": "POST",
        "route": "/pulse/internal/orders",
        "status": 201,
        "trace_id": "t-of-the-caller",
        "request_id": "r-placing",
        "order_id": order_id,
        "caller": "127.0.0.1",
    }
    one = "/pulse/internal/orders/{order_id}"
    assert (read["route"], read["status"], read["order_id"]) == (one, 200, order_id)
    assert (history["route"], history["status"]) == (f"{one}/events", 400)
    assert history["order_id"] == order_id
    assert (unknown["route"], unknown["status"]) == ("unmatched", 404)
    assert "order_id" not in unknown
    assert "secret-in-the-path" not in json.dumps(unknown)


@pytest.mark.parametrize("which", ["errors", "0", "off"])
def test_request_lines_can_be_turned_off(
    tmp_path: Path, module_database_url: str, which: str
) -> None:
    settings = {"database_url": module_database_url, "log_requests": which}
    with started("pulse up", tmp_path, **settings) as process:
        process.until_completed(process.post(order()).json()["order_id"])
        process.stop()
        events = [line["event"] for line in lines_of(process)]
    assert "http.answered" not in events
    assert "orders.split" in events


def test_in_the_console_format_the_lines_are_text(tmp_path: Path, module_database_url: str) -> None:
    settings = {"database_url": module_database_url, "log_format": "console"}
    with pulse(tmp_path, command=UP, **settings) as process:
        process.http.get("/internal/hello", headers={"X-Request-Id": "r-of-text"})
        until(lambda: "r-of-text" in process.logged, "the line is written")
        (line,) = [line for line in process.logged.splitlines() if "r-of-text" in line]
    assert "http.answered" in line
    assert "route=/pulse/internal/hello" in line
    assert not line.startswith("{")


def test_a_failed_order_has_a_line(tmp_path: Path, module_database_url: str) -> None:
    with api_alone(tmp_path, database_url=module_database_url) as api:
        headers = {"X-Trace-Id": "t-late"}
        placed = api.http.post("/internal/orders", json=order(), headers=headers)
    order_id = placed.json()["order_id"]
    late = {"max_split_delay_seconds": 0.001}
    with started("pulse up", tmp_path, database_url=module_database_url, **late) as process:

        def failed() -> list[dict[str, Any]]:
            found = [line for line in lines_of(process) if line["event"] == "orders.failed"]
            return [line for line in found if line["order_id"] == order_id]

        (line,) = until(failed, "the line is written")
    assert (line["level"], line["reason"], line["trace_id"]) == ("warning", "TOO_LATE", "t-late")
