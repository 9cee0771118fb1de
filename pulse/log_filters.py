"""Filters on log records: no secrets of a query string, no floods that callers cause."""

import logging
import time
from collections.abc import Callable
from typing import Any, Final

_INTERVAL_SECONDS: Final = 1.0
_ACCESS_LOG: Final = "uvicorn.access"
_SERVER_LOGGERS: Final = ("uvicorn", "asyncio")
"""Their warnings are about what connections sent: garbage, upgrades, resets."""
_LIMITED_EVENTS: Final = frozenset(("pulse.away", "http.unavailable"))
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


def add_suppressed(_: object, __: str, event_dict: Any) -> Any:  # noqa: ANN401 - structlog's types
    """Processor: add the number of records that `RateLimit` dropped before this one, if any."""
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
