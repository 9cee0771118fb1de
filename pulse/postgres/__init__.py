"""Postgres as Pulse uses it: the pool and its limits, wake-ups, migrations. Knows no orders."""

from pulse.loop import WakeUp
from pulse.postgres.batch_loader import BatchLoader
from pulse.postgres.database import (
    UNAVAILABLE_ERRORS,
    UNEXPECTED_ERRORS,
    Database,
    DatabaseUnavailable,
    describe,
)
from pulse.postgres.limits import Limits
from pulse.postgres.session import WRONG_SESSION_ERRORS, Connection, Sessions, SessionUnfit
from pulse.postgres.sql import fetch, load_sql
from pulse.postgres.wakeups import Listener, Notifier

__all__ = [
    "UNAVAILABLE_ERRORS",
    "UNEXPECTED_ERRORS",
    "WRONG_SESSION_ERRORS",
    "BatchLoader",
    "Connection",
    "Database",
    "DatabaseUnavailable",
    "Limits",
    "Listener",
    "Notifier",
    "SessionUnfit",
    "Sessions",
    "WakeUp",
    "describe",
    "fetch",
    "load_sql",
]
