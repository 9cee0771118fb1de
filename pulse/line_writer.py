"""Writes many log lines without blocking the event loop: buffered, in a thread, bounded."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import structlog

from pulse import metrics

_log = structlog.get_logger(__name__)

FLUSH_SECONDS: Final = 0.2
"""How long a line is buffered at most, while the reader of the log keeps up."""

MAX_BUFFERED_LINES: Final = 12_000
"""Lines beyond this are dropped, and counted in pulse_log_lines_dropped_total. About 4 MiB."""


_LINES_AT_ONCE: Final = 100
"""About 32 KiB. A logging record waits at most until this many lines are written."""

Line = TypeVar("Line")


class LineWriter(Generic[Line]):
    """Renders lines and writes them to a logging handler's stream, between the handler's own lines.

    `write` must be called in the event loop. `render` is called in the thread that writes, with
    some lines at a time, and returns complete lines. Lines are dropped if they cannot be written,
    as to a full disk or a pipe without a reader, or while the reader of a pipe is too slow.
    """

    def __init__(
        self, handler: "logging.StreamHandler[Any]", render: Callable[[Sequence[Line]], bytes]
    ) -> None:
        self._handler = handler
        self._render = render
        self._lines: list[Line] = []
        self._being_written = 0
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None

    def write(self, line: Line) -> None:
        """Write a line soon."""
        if len(self._lines) + self._being_written >= MAX_BUFFERED_LINES:
            metrics.LOG_LINES_DROPPED.inc()
            return
        self._lines.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    async def close(self) -> None:
        """Write the buffered lines, after a write in progress. Waits at most 1 s for each."""
        if self._timer is not None:
            self._timer.cancel()
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=1.0)
        if self._lines:
            await asyncio.wait({self._start_writing()}, timeout=1.0)

    def _flush(self) -> None:
        if self._writing is not None and not self._writing.done():
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)
            return
        self._timer = None
        self._start_writing()

    def _start_writing(self) -> "asyncio.Future[None]":
        lines, self._lines = self._lines, []
        self._being_written = len(lines)
        loop = asyncio.get_running_loop()
        writing: asyncio.Future[None] = loop.create_future()

        def written() -> None:
            self._being_written = 0
            if not writing.done():
                writing.set_result(None)

        def work() -> None:
            for first in range(0, len(lines), _LINES_AT_ONCE):
                self._write(lines[first : first + _LINES_AT_ONCE])
                time.sleep(0)  # other lines may be written in between
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(written)

        # A daemon, unlike the threads of an executor: a pipe without a reader must not keep the
        # process from ending.
        threading.Thread(target=work, daemon=True, name="pulse-log").start()
        self._writing = writing
        return writing

    def _write(self, lines: Sequence[Line]) -> None:
        """Write some lines under the handler's lock, so that lines are not mixed."""
        try:
            chunk = self._render(lines)
            self._handler.acquire()
            try:
                stream = self._handler.stream
                stream.flush()
                binary = getattr(stream, "buffer", None)
                if binary is None:
                    stream.write(chunk.decode())
                else:
                    binary.write(chunk)
                stream.flush()
            finally:
                self._handler.release()
        except (OSError, ValueError):
            metrics.LOG_LINES_DROPPED.inc(len(lines))
        except Exception:  # noqa: BLE001 - a bug in rendering must not stop the request log
            metrics.LOG_LINES_DROPPED.inc(len(lines))
            _log.exception("log.lines_not_rendered", lines=len(lines))
