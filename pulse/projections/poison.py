"""Whose fault an error is that applying events raised: the event's, the connection's, or unclear.

Poison is not a list of types: whatever applying one event alone raises is that event's fault,
unless the connection, the server or the schema is known to be at fault.
"""

from enum import Enum, auto
from typing import Final

import psycopg

from pulse.errors import PulseError
from pulse.eventstore import EventTooNew
from pulse.postgres import DatabaseUnavailable, describe
from pulse.printable import printable


class Blame(Enum):
    """Whose fault an error is."""

    EVENT = auto()
    """The event can never be applied as it is."""
    UNCLEAR = auto()
    """The event exceeds a limit of the server, or the server or schema is at fault for every event.
    Only a control shows which: whether another event, of the same type if any, can be applied."""
    ELSEWHERE = auto()
    """Not the event's: the same event may be applied later, or by newer code."""


_UNCLEAR_STATES: Final = ("57014", "53000", "53200", "53400")
"""A cancelled statement (timeouts included), no memory, a limit of the configuration."""
_UNCLEAR_CLASSES: Final = ("0A", "3F", "42", "58", "XX")
"""Unsupported, no such schema, no such object or no right to it, input/output, internal error."""
_ELSEWHERE_CLASSES: Final = ("08", "25", "26", "28", "3D", "40", "53", "55", "57")
"""The connection; the transaction's state (read-only); the session; authentication; the database;
serialization and deadlock; resources (disk full); locks; an operator's intervention (shutdown)."""

_MAX_REASON_CHARACTERS: Final = 500


def blame_of(error: Exception) -> Blame:
    """Whose fault an error is that was raised by applying events."""
    if isinstance(error, psycopg.Error):
        return _blame_of_database(error)
    if isinstance(error, (EventTooNew, DatabaseUnavailable, ConnectionError, TimeoutError)):
        return Blame.ELSEWHERE
    return Blame.UNCLEAR if isinstance(error, (MemoryError, OSError)) else Blame.EVENT


def reason_of(error: Exception) -> str:
    """Why an order is parked: one line of ASCII, which any database can store."""
    if isinstance(error, (PulseError, psycopg.Error)):
        text = describe(error)
    else:
        text = f"{type(error).__name__}: {error}"
    text = printable(text.encode("ascii", "backslashreplace").decode("ascii"))
    return text[:_MAX_REASON_CHARACTERS]


def _blame_of_database(error: psycopg.Error) -> Blame:
    state = error.sqlstate
    if state is None:  # raised by the client: of the connection, or of a value it cannot encode
        broken = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
        return Blame.ELSEWHERE if broken else Blame.EVENT
    if state in _UNCLEAR_STATES or state[:2] in _UNCLEAR_CLASSES:
        return Blame.UNCLEAR
    return Blame.ELSEWHERE if state[:2] in _ELSEWHERE_CLASSES else Blame.EVENT
