"""Request lines: which requests are logged, and that writing them blocks nothing."""

import asyncio
import io
import json
import logging
import os
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import Counter

from pulse import metrics
from pulse.application.callers import Caller
from pulse.domain import Trace
from pulse.http.asgi import CALLER_KEY
from pulse.http.request_log import RequestLine, RequestLog, render_json
from pulse.line_writer import FLUSH_SECONDS, MAX_BUFFERED_LINES, LineWriter


def logged(fraction: float, **changes: Any) -> list[dict[str, Any]]:
    lines: list[RequestLine] = []
    log = RequestLog(lines.append, fraction)
    request: dict[str, Any] = {"status": 201, "seconds": 0.012345678, "trace_id": "t-1", **changes}
    trace = Trace(
        trace_id=request["trace_id"], trace_source="x", request_id="r-1", request_source="x"
    )
    scope = {CALLER_KEY: Caller(placed_by=request.get("caller", "desk"))}
    log.log("POST", "/internal/orders", request["status"], request["seconds"], trace, None, scope)
    return [json.loads(line) for line in render_json(lines).splitlines()]


def test_a_line_has_the_fields_of_the_request() -> None:
    (line,) = logged(1.0)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "http.answered",
        "level": "info",
        "logger": "pulse.http",
        "method": "POST",
        "route": "/internal/orders",
        "status": 201,
        "ms": 12.346,
        "trace_id": "t-1",
        "request_id": "r-1",
        "caller": "desk",
    }


@pytest.mark.parametrize(
    ("changes", "is_logged"),
    [
        ({}, False),
        ({"status": 404}, False),
        ({"status": 429}, False),
        ({"status": 500}, True),
        ({"status": 503}, True),
        ({"status": 0}, True),
        ({"seconds": 1.5}, True),
    ],
)
def test_errors_disconnects_and_slow_requests_are_always_logged(
    changes: dict[str, Any], *, is_logged: bool
) -> None:
    assert bool(logged(0.0, **changes)) is is_logged
    assert logged(1.0, **changes)


def test_a_fraction_is_taken_by_trace_id() -> None:
    traces = [f"t-{n}" for n in range(10_000)]
    taken = [trace for trace in traces if logged(0.1, trace_id=trace)]
    assert 800 < len(taken) < 1200
    assert [trace for trace in traces if logged(0.1, trace_id=trace)] == taken


def test_control_characters_are_escaped() -> None:
    lines: list[RequestLine] = []
    log = RequestLog(lines.append, 1.0)
    trace = Trace(trace_id="t", trace_source="x", request_id="r", request_source="x")
    for name in ("a\u202eb\x85\x1b", "plain", "c\x7f"):
        log.log("GET", "/x", 200, 0, trace, None, {CALLER_KEY: Caller(placed_by=name)})
    first, second, third = render_json(lines).splitlines()
    assert rb"a\u202eb\u0085\u001b" in first
    assert b'"plain"' in second
    assert rb'"c\u007f"' in third


def dropped() -> float:
    counter: Counter = metrics.LOG_LINES_DROPPED
    (metric,) = counter.collect()
    return next(s.value for s in metric.samples if s.name.endswith("_total"))


async def test_lines_are_written_together_and_at_the_end() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    writer = LineWriter(logging.StreamHandler(stream), b"".join)
    for number in range(1000):
        writer.write(b"%d\n" % number)
    await writer.close()
    assert isinstance(stream.buffer, io.BytesIO)
    assert stream.buffer.getvalue() == b"".join(b"%d\n" % n for n in range(1000))


async def test_lines_are_written_without_a_close() -> None:
    stream = io.StringIO()
    writer = LineWriter(logging.StreamHandler(stream), b"".join)
    writer.write(b"one\n")
    async with asyncio.timeout(100 * FLUSH_SECONDS):
        while stream.getvalue() != "one\n":  # noqa: ASYNC110 - another thread writes
            await asyncio.sleep(0.01)


async def test_with_a_slow_reader_lines_beyond_the_buffer_are_dropped() -> None:
    may_write = threading.Event()

    class Slow(io.StringIO):
        def write(self, text: str, /) -> int:
            may_write.wait(20)
            return super().write(text)

    stream, before = Slow(), dropped()
    writer = LineWriter(logging.StreamHandler(stream), b"".join)
    for _ in range(MAX_BUFFERED_LINES + 500):
        writer.write(b"line\n")
    assert dropped() - before == 500
    may_write.set()
    await writer.close()
    assert stream.getvalue().count("\n") == MAX_BUFFERED_LINES


async def test_a_pipe_without_a_reader_loses_lines_and_raises_nothing() -> None:
    reading, writing = os.pipe()
    before = dropped()
    stream = os.fdopen(writing, "w")
    writer = LineWriter(logging.StreamHandler(stream), b"".join)
    os.close(reading)
    writer.write(b"one\n")
    await writer.close()
    assert dropped() - before == 1
    os.dup2(os.open(os.devnull, os.O_WRONLY), writing)
    stream.close()


async def test_a_bug_in_rendering_loses_lines_and_does_not_end_the_log() -> None:
    def render(lines: Sequence[bytes]) -> bytes:
        if b"bad\n" in lines:
            raise TypeError("a bug")
        return b"".join(lines)

    stream, before = io.StringIO(), dropped()
    writer = LineWriter(logging.StreamHandler(stream), render)
    for line in (b"bad\n", *[b"other\n"] * 99, b"good\n"):
        writer.write(line)
    await writer.close()
    assert stream.getvalue() == "good\n"
    assert dropped() - before == 100
