"""Logging: structlog for Pulse and for the libraries beneath, as lines for people or as JSON."""

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

import structlog

from pulse.printable import printable_lines
from pulse.streams import drop_unwritten, open_standard_streams

_log = structlog.get_logger("pulse")

_QUIET_LIBRARIES: Final = ("psycopg", "psycopg.pool", "httpx", "httpcore")
_UVICORN: Final = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")
_SHOWN_AS: Final = {"uvicorn.error": "uvicorn"}
"""Uvicorn's logger of everything, a clean start included, has a misleading name."""
_FORMAT_VARIABLE: Final = "PULSE_LOG_FORMAT"
_INTERVAL_SECONDS: Final = 1.0
_ACCESS_LOG: Final = "uvicorn.access"
_SERVER_LOGGERS: Final = ("uvicorn", "asyncio")
"""Their warnings are about what connections sent: garbage, upgrades, resets."""
_LIMITED_EVENTS: Final = frozenset(("pulse.unavailable", "http.unavailable"))
"""Pulse's own events that one request can cause, as many a second as there are requests."""


class WithoutQueries(logging.Filter):
    """Cuts the query string off logged paths: a token sent there by mistake is a token."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record."""
        if isinstance(record.args, tuple):
            record.args = tuple(
                text.partition("?")[0] if isinstance(text, str) else text for text in record.args
            )
        return True


class RateLimit(logging.Filter):
    """Passes at most one record a second of each kind that any caller can cause.

    The kinds: the warnings of uvicorn, those of asyncio, and each of Pulse's own events that a
    request can cause. The next record that passes carries how many were dropped before it, as
    `suppressed`. Every other record passes.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._next_at: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write this record."""
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
    """Add the number of records that `RateLimit` dropped before this one, if any."""
    suppressed = getattr(event_dict.get("_record"), "suppressed", 0)
    if suppressed:
        event_dict["suppressed"] = suppressed
    return event_dict


def _limited_kind(record: logging.LogRecord) -> str | None:
    if isinstance(record.msg, dict):  # structlog's
        event = record.msg.get("event")
        return event if event in _LIMITED_EVENTS else None
    if record.levelno != logging.WARNING or record.name == _ACCESS_LOG:
        return None
    package = record.name.partition(".")[0]
    return package if package in _SERVER_LOGGERS else None


_WITHOUT_QUERIES: Final = WithoutQueries()
_RATE_LIMIT: Final = RateLimit()


def configure_logs(log_format: str, level: str) -> None:
    """Send every log line of this process to stderr, at this level and above.

    `auto` writes for people on a terminal and JSON elsewhere. One format for all: the handlers of
    uvicorn are replaced; Python's warnings and uncaught exceptions become log lines too. Libraries
    other than Pulse log no debug lines.
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
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(number)
    handler.setFormatter(_formatter(shared, console=console, colors=on_terminal))
    handler.addFilter(_RATE_LIMIT)
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


def asked_for_json() -> bool:
    """Whether PULSE_LOG_FORMAT is `json`: then nothing but JSON is written besides answers."""
    return os.environ.get(_FORMAT_VARIABLE, "").strip().lower() == "json"


def report_fault(sentence: str) -> None:
    """Say on stderr why this process ends: a plain line, or where JSON is asked for a log line.

    A stderr that cannot be written loses it.
    """
    if not asked_for_json():
        with contextlib.suppress(OSError, ValueError, AttributeError):  # full, closed, or none
            sys.stderr.write(f"pulse: {printable_lines(sentence)}\n")
        drop_unwritten(sys.stderr)
        return
    if not structlog.is_configured():
        configure_logs("json", "info")
    _log.critical("process.fault", reason=sentence)


def _formatter(
    shared: list[Any], *, console: bool, colors: bool
) -> structlog.stdlib.ProcessorFormatter:
    final: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    if console:
        # plain: the default traceback shows local variables, and among them secrets
        plain = structlog.dev.plain_traceback
        final = [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[_add_suppressed, remove_meta, *final]
    )


def _rename_logger(_: object, __: str, event_dict: Any) -> Any:  # noqa: ANN401 - structlog's types
    name = event_dict["logger"]
    event_dict["logger"] = _SHOWN_AS.get(name, name)
    return event_dict


def _take_over_uvicorn() -> None:
    """Let uvicorn's lines pass through the root handler; an access log turned off stays so."""
    for name in _UVICORN:
        logger = logging.getLogger(name)
        if logger.handlers:
            logger.handlers.clear()
            logger.propagate = True
    access = logging.getLogger("uvicorn.access")
    access.removeFilter(_WITHOUT_QUERIES)
    access.addFilter(_WITHOUT_QUERIES)


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
