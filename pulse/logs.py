"""Configures logging: structlog for Pulse and its libraries, as text for people or as JSON."""

import contextlib
import fcntl
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, TextIO

import structlog

from pulse.printable import printable_lines
from pulse.streams import flush_or_discard, open_standard_streams

_log = structlog.get_logger("pulse")

_QUIET_LIBRARIES: Final = ("psycopg", "psycopg.pool", "httpx", "httpcore")
_UVICORN: Final = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")
_SHOWN_AS: Final = {"uvicorn.error": "uvicorn"}
"""Uvicorn's main logger is called uvicorn.error, although it also logs a normal start."""
_FORMAT_VARIABLE: Final = "PULSE_LOG_FORMAT"
_INTERVAL_SECONDS: Final = 1.0
_ACCESS_LOG: Final = "uvicorn.access"
_SERVER_LOGGERS: Final = ("uvicorn", "asyncio")
"""Their warnings are caused by what clients send: garbage, upgrades, resets."""
_LIMITED_EVENTS: Final = frozenset(("pulse.unavailable", "http.unavailable"))
"""Events of Pulse that any request can cause."""


class QueryStringFilter(logging.Filter):
    """Removes query strings from logged paths, since a client may send a token there by mistake."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Remove the query strings; keep every record."""
        if isinstance(record.args, tuple):
            record.args = tuple(
                text.partition("?")[0] if isinstance(text, str) else text for text in record.args
            )
        return True


class RateLimitFilter(logging.Filter):
    """Limits records that callers can cause: at most one per second of each kind.

    The kinds are: warnings of uvicorn, warnings of asyncio, and each event of Pulse that a request
    can cause. The next record of a kind has the number of dropped ones as `suppressed`. All other
    records pass.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._next_at: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log this record."""
        kind = _limited_kind(record)
        if kind is None:
            return True
        now = self._clock()
        if now < self._next_at.get(kind, now):
            self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
            return False
        self._next_at[kind] = now + _INTERVAL_SECONDS
        record.suppressed = self._suppressed.pop(kind, 0)
        return True


def _add_suppressed(_: object, __: str, event_dict: Any) -> Any:  # noqa: ANN401 - structlog's types
    """Add the number of records that the rate limit dropped before this one, if any."""
    suppressed = getattr(event_dict.get("_record"), "suppressed", 0)
    if suppressed:
        event_dict["suppressed"] = suppressed
    return event_dict


def _add_process(process: str, _: object, __: str, event_dict: Any) -> Any:  # noqa: ANN401 - same
    """Add the name of the process."""
    event_dict["process"] = process
    return event_dict


def _limited_kind(record: logging.LogRecord) -> str | None:
    if isinstance(record.msg, dict):  # structlog's
        event = record.msg.get("event")
        return event if event in _LIMITED_EVENTS else None
    if record.levelno != logging.WARNING or record.name == _ACCESS_LOG:
        return None
    package = record.name.partition(".")[0]
    return package if package in _SERVER_LOGGERS else None


class LogShare(NamedTuple):
    """How this process shares stderr with others: its name in each line, and a lock file."""

    process: str
    lock_file: Path


class LogHandler(logging.StreamHandler[TextIO]):
    """The handler of all lines, on stderr. `renderer` is None if the format is JSON.

    If other processes write to the same stderr, the handler's lock also excludes them. A write to a
    pipe is atomic only up to 4 KiB, so longer lines would be mixed.
    """

    def __init__(
        self, renderer: structlog.dev.ConsoleRenderer | None, share: LogShare | None
    ) -> None:
        self._held = 0
        self._file: int | None = None
        super().__init__(sys.stderr)
        self.renderer = renderer
        self.process = None if share is None else share.process
        if share is not None:
            self._file = os.open(share.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def acquire(self) -> None:
        """Take the lock of threads, then that of processes. A thread may take it repeatedly."""
        super().acquire()
        self._held += 1
        if self._file is not None and self._held == 1:
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def release(self) -> None:
        """Release both locks once for each `acquire`."""
        self._held -= 1
        if self._file is not None and self._held == 0:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        super().release()


_QUERY_STRING_FILTER: Final = QueryStringFilter()
_RATE_LIMIT_FILTER: Final = RateLimitFilter()


def configure_logs(log_format: str, level: str, share: LogShare | None = None) -> None:
    """Log to stderr at this level and above. With `share` other processes write to the same stderr.

    `auto` means text on a terminal and JSON elsewhere. Everything has that format: uvicorn's
    handlers are replaced, and Python warnings and uncaught exceptions become log lines. Libraries
    log no debug lines.
    """
    open_standard_streams()
    number = logging.getLevelNamesMapping()[level.upper()]
    on_terminal = sys.stderr.isatty()
    console = log_format == "console" or (log_format == "auto" and on_terminal)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _rename_logger,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([] if share is None else [partial(_add_process, share.process)]),
    ]
    renderer = _console_renderer(colors=on_terminal) if console else None
    handler = LogHandler(renderer, share)
    handler.setLevel(number)
    handler.setFormatter(_formatter(shared, renderer))
    handler.addFilter(_RATE_LIMIT_FILTER)
    logging.basicConfig(handlers=[handler], level=max(number, logging.INFO), force=True)
    logging.getLogger("pulse").setLevel(number)
    for name in _QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(logging.ERROR)
    _take_over_uvicorn()
    logging.captureWarnings(capture=True)
    _log_uncaught_exceptions()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(number),
        cache_logger_on_first_use=True,
    )


def info_handler() -> LogHandler | None:
    """The handler, if `configure_logs` was called with a level that includes info."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogHandler) and handler.level <= logging.INFO:
            return handler
    return None


def is_json_format() -> bool:
    """Whether PULSE_LOG_FORMAT is `json`: then everything but the output of a command is JSON."""
    return os.environ.get(_FORMAT_VARIABLE, "").strip().lower() == "json"


def report_fatal_error(sentence: str) -> None:
    """Report on stderr why this process exits: as a plain line, or as a log line in JSON format.

    The report is lost if stderr cannot be written.
    """
    if not is_json_format():
        with contextlib.suppress(OSError, ValueError, AttributeError):  # full, closed, or none
            sys.stderr.write(f"pulse: {printable_lines(sentence)}\n")
        flush_or_discard(sys.stderr)
        return
    if not structlog.is_configured():
        configure_logs("json", "info")
    _log.critical("process.fault", reason=sentence)


def _console_renderer(*, colors: bool) -> structlog.dev.ConsoleRenderer:
    # the default traceback shows local variables, which may contain secrets
    plain = structlog.dev.plain_traceback
    return structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)


def _formatter(
    shared: list[Any], renderer: structlog.dev.ConsoleRenderer | None
) -> structlog.stdlib.ProcessorFormatter:
    final: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    if renderer is not None:
        final = [renderer]
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[_add_suppressed, remove_meta, *final]
    )


def _rename_logger(_: object, __: str, event_dict: Any) -> Any:  # noqa: ANN401 - structlog's types
    name = event_dict["logger"]
    event_dict["logger"] = _SHOWN_AS.get(name, name)
    return event_dict


def _take_over_uvicorn() -> None:
    """Send uvicorn's records to the root handler; a disabled access log stays disabled."""
    for name in _UVICORN:
        logger = logging.getLogger(name)
        if logger.handlers:
            logger.handlers.clear()
            logger.propagate = True
    access = logging.getLogger("uvicorn.access")
    access.removeFilter(_QUERY_STRING_FILTER)
    access.addFilter(_QUERY_STRING_FILTER)


def _log_uncaught_exceptions() -> None:
    sys.excepthook = _log_crash
    threading.excepthook = lambda crash: _log_exception("thread.crashed", crash.exc_value)
    sys.unraisablehook = lambda raised: _log_exception(
        "process.exception_ignored", raised.exc_value
    )


def _log_crash(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    _log.critical("process.crashed", exc_info=(kind, error, traceback))


def _log_exception(event: str, error: BaseException | None) -> None:
    if error is not None:
        _log.error(event, exc_info=error)
