"""Pulse's and the driver's errors in the library's words."""

import contextlib
from collections.abc import Iterator

import psycopg
from eventsourcing import persistence

from pulse.eventstore.errors import AppendOutcomeUnknown, AppendRefused, VersionTaken
from pulse.postgres import DatabaseUnavailable, describe

_BY_DRIVER_ERROR: tuple[tuple[type[psycopg.Error], type[persistence.PersistenceError]], ...] = (
    (psycopg.InterfaceError, persistence.InterfaceError),
    (psycopg.DataError, persistence.DataError),
    (psycopg.OperationalError, persistence.OperationalError),
    (psycopg.IntegrityError, persistence.IntegrityError),
    (psycopg.InternalError, persistence.InternalError),
    (psycopg.ProgrammingError, persistence.ProgrammingError),
    (psycopg.NotSupportedError, persistence.NotSupportedError),
    (psycopg.DatabaseError, persistence.DatabaseError),
)


@contextlib.contextmanager
def library_errors() -> Iterator[None]:
    """Raise the library's error for Pulse's and for the driver's; others pass as they are.

    What may or may not have been done (AppendOutcomeUnknown) is an OperationalError as well: the
    caller must read before it repeats. Nothing here repeats anything.
    """
    try:
        yield
    except VersionTaken as error:
        raise persistence.IntegrityError(str(error)) from error
    except AppendOutcomeUnknown as error:
        raise persistence.OperationalError(str(error)) from error
    except (AppendRefused, DatabaseUnavailable) as error:
        raise _unavailable(error) from error
    except psycopg.Error as error:
        raise _in_library_words(error) from error


def is_for_good(error: DatabaseUnavailable) -> bool:
    """Whether trying again is in vain: no such table, or no right to it."""
    return isinstance(error.__cause__, psycopg.ProgrammingError)


def _unavailable(error: AppendRefused | DatabaseUnavailable) -> persistence.PersistenceError:
    if isinstance(error.__cause__, psycopg.ProgrammingError):
        return persistence.ProgrammingError(str(error))
    return persistence.OperationalError(str(error))


def _in_library_words(error: psycopg.Error) -> persistence.PersistenceError:
    for driver_error, library_error in _BY_DRIVER_ERROR:
        if isinstance(error, driver_error):
            return library_error(describe(error))
    return persistence.PersistenceError(describe(error))
