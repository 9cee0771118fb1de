"""Log records: one format, and at most one line per second for what any caller can cause."""

import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from pulse.logs import RateLimitFilter, report_fatal_error
from tests.support.processes import environment

ALL_SOURCES = """
import logging, sys, threading, warnings
import structlog
from pulse.logs import configure_logs
configure_logs("json", sys.argv[1])
warnings.warn("from a warning")
for name in ("uvicorn.error", "asyncio", "other.library"):
    logging.getLogger(name).warning("from %s", name)
    logging.getLogger(name).debug("debug from %s", name)
structlog.get_logger("pulse.workers").debug("from.debug", of="pulse")
crash = threading.Thread(target=lambda: 1 / 0)
crash.start()
crash.join()
raise KeyError("at the end")
"""


def lines_of(level: str) -> list[dict[str, Any]]:
    ended = subprocess.run(
        [sys.executable, "-c", ALL_SOURCES, level],
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    return [json.loads(line) for line in ended.stderr.splitlines()]


def test_every_source_of_lines_writes_json() -> None:
    lines = lines_of("info")
    events = [line["event"] for line in lines]
    assert "from a warning" in events[0]
    assert {"from uvicorn.error", "from asyncio", "from other.library"} <= set(events)
    assert events[-2:] == ["thread.crashed", "process.crashed"]
    assert "ZeroDivisionError" in lines[-2]["exception"]
    assert "KeyError: 'at the end'" in lines[-1]["exception"]
    assert all({"event", "level", "logger", "timestamp"} <= line.keys() for line in lines)


def test_no_line_comes_from_a_logger_named_for_errors() -> None:
    assert "uvicorn" in {line["logger"] for line in lines_of("info")}
    assert not [line for line in lines_of("info") if "error" in line["logger"]]


def test_debug_adds_the_lines_of_pulse_alone() -> None:
    added = [line for line in lines_of("debug") if line["level"] == "debug"]
    assert [(line["event"], line["of"]) for line in added] == [("from.debug", "pulse")]
    assert not [line for line in lines_of("info") if line["level"] == "debug"]


def test_the_level_holds_for_every_source() -> None:
    levels = {line["level"] for line in lines_of("error")}
    assert levels == {"error", "critical"}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def record(
    name: str, message: object = "garbage", level: int = logging.WARNING
) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, message, None, None)


def suppressed(passed: logging.LogRecord) -> int:
    return int(passed.__dict__["suppressed"])


@pytest.mark.parametrize(
    ("name", "messages"),
    [
        ("uvicorn.error", ["Invalid HTTP request received.", "Unsupported upgrade request."]),
        ("asyncio", ["socket.send() raised exception."]),
        ("pulse.application", [{"event": "pulse.unavailable"}]),
        ("pulse.http.errors", [{"event": "http.unavailable"}]),
    ],
)
def test_lines_that_any_caller_can_cause_are_one_per_second_with_a_count(
    name: str, messages: list[object]
) -> None:
    clock = Clock()
    limit = RateLimitFilter(clock)
    flood = [record(name, messages[n % len(messages)]) for n in range(100)]
    assert [limit.filter(each) for each in flood] == [True] + [False] * 99
    assert suppressed(flood[0]) == 0
    clock.now += 0.99
    assert not limit.filter(record(name, messages[0]))
    clock.now += 0.01
    following = record(name, messages[0])
    assert limit.filter(following)
    assert suppressed(following) == 100
    clock.now += 60
    last = record(name, messages[0])
    assert limit.filter(last)
    assert suppressed(last) == 0


@pytest.mark.parametrize(
    "other",
    [
        record("uvicorn.error", "Exception in ASGI application", logging.ERROR),
        record("uvicorn.error", "Started server process", logging.INFO),
        record("uvicorn.access", "GET /", logging.INFO),
        record("pulse.http.errors", {"event": "http.server_error"}, logging.ERROR),
        record("pulse.workers", {"event": "orders.timed_out"}),
    ],
    ids=lambda other: str(other.msg),
)
def test_every_other_line_passes(other: logging.LogRecord) -> None:
    limit = RateLimitFilter(Clock())
    assert limit.filter(record("uvicorn.error"))
    assert all(limit.filter(other) for _ in range(5))


def test_a_fault_is_reported_without_control_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PULSE_LOG_FORMAT", raising=False)
    report_fatal_error("two lines\n\x1b]0;title\x07\u202e")
    assert capsys.readouterr().err == "pulse: two lines\n\\x1b]0;title\\x07\\u202e\n"
