"""Writes many log lines without blocking the event loop: buffered, in a thread, bounded."""

import asyncio
import contextlib
import logging
import threading
import time
from typing import Any, Final

from pulse import metrics

FLUSH_SECONDS: Final = 0.2
"""A line is written at most about this long after the request."""

MAX_BUFFERED_BYTES: Final = 4 * 1024 * 1024
"""Lines beyond this are dropped, and counted in pulse_log_lines_dropped_total."""


_LINES_AT_ONCE: Final = 100
"""About 32 KiB. A record of logging waits for the lock, so for so much at most."""


class LineWriter:
    """Writes whole lines to the stream of a logging handler, between the handler's own lines.

    `write` belongs to one event loop. Lines that cannot be written, to a full disk or a pipe
    without a reader, are dropped. So are lines while the reader of a pipe is too slow.
    """

    def __init__(self, handler: "logging.StreamHandler[Any]") -> None:
        self._handler = handler
        self._lines: list[bytes] = []
        self._buffered_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None

    def write(self, line: bytes) -> None:
        """Write a line, which ends with a line break, soon."""
        self._buffered_bytes += len(line)
        if self._buffered_bytes > MAX_BUFFERED_BYTES:
            self._buffered_bytes -= len(line)
            metrics.LOG_LINES_DROPPED.inc()
            return
        self._lines.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    async def close(self) -> None:
        """Write what is buffered. A reader that takes longer than a second loses it."""
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
        loop = asyncio.get_running_loop()
        writing: asyncio.Future[None] = loop.create_future()

        def written() -> None:
            self._buffered_bytes -= sum(map(len, lines))
            if not writing.done():
                writing.set_result(None)

        def work() -> None:
            for first in range(0, len(lines), _LINES_AT_ONCE):
                piece = lines[first : first + _LINES_AT_ONCE]
                try:
                    self._write(b"".join(piece))
                except (OSError, ValueError):
                    metrics.LOG_LINES_DROPPED.inc(len(piece))
                time.sleep(0)  # other lines may be written in between
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(written)

        # A daemon, unlike the threads of an executor: a pipe without a reader must not keep the
        # process from ending.
        threading.Thread(target=work, daemon=True, name="pulse-log").start()
        self._writing = writing
        return writing

    def _write(self, chunk: bytes) -> None:
        """Write under the handler's lock, so that lines are not mixed."""
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
