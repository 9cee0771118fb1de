"""Sessions: every connection is set up by statements and verified; one that fails is closed.

Statements, because poolers refuse or drop what libpq sends as `options`, and because a role or a
database may have settings of its own. The steps are the same for both kinds of connection.
"""

import asyncio
import contextlib
import os
import re
import socket
import threading
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import psycopg
from psycopg import AsyncClientCursor, AsyncConnection, ClientCursor
from psycopg.rows import TupleRow

from pulse.postgres.limits import Limits, bounded_conninfo
from pulse.postgres.session_steps import (
    Ask,
    SessionUnfit,
    Steps,
    preparation,
    verification,
    wrong_encoding,
)

__all__ = [
    "CONNECTION_KWARGS",
    "WRONG_SESSION_ERRORS",
    "SessionUnfit",
    "connect_blocking",
    "prepare",
    "prepare_blocking",
    "verify",
]

WRONG_SESSION_ERRORS: Final[tuple[type[psycopg.Error], ...]] = (
    SessionUnfit,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.InsufficientPrivilege,  # its role may have been set when it began
    psycopg.errors.InvalidSqlStatementName,  # what this connection has prepared is gone
    psycopg.errors.ProtocolViolation,  # another client has prepared something else by that name
    psycopg.errors.DuplicatePreparedStatement,  # what another client has prepared is there
)
"""Errors that show a session other than the one that was verified: close the connection."""

CONNECTION_KWARGS: Final[dict[str, Any]] = {"autocommit": True, "prepare_threshold": 1}

T = TypeVar("T")
_NO_CONVERSION: Final = re.compile(r"conversion between UTF8 and (\w+) is not supported")


def connect_blocking(conninfo: str, role: str, limits: Limits) -> psycopg.Connection[TupleRow]:
    """A connection whose session is prepared and verified, for code that runs in a thread.

    Raises:
        psycopg.OperationalError: Postgres is away.
        SessionUnfit: the session cannot be made what Pulse needs.
    """
    try:
        connection = psycopg.connect(bounded_conninfo(conninfo, role, limits), **CONNECTION_KWARGS)
    except psycopg.OperationalError as error:
        if found := _NO_CONVERSION.search(str(error)):
            raise wrong_encoding(found[1]) from error
        raise
    prepare_blocking(connection, conninfo, limits)
    return connection


async def prepare(connection: AsyncConnection[TupleRow], conninfo: str, limits: Limits) -> str:
    """Set what Pulse needs and verify what is in force; a connection that fails is closed.

    Returns the schema that unqualified names lead to first.

    Raises:
        psycopg.OperationalError: Postgres is away, or gave no answer within the connect time.
        SessionUnfit: the session cannot be made what Pulse needs.
    """
    try:
        with _deadline(connection, limits.connect_seconds):
            return await _run(connection, preparation(connection.info, conninfo, limits))
    except BaseException:
        await connection.close()
        raise


def prepare_blocking(
    connection: psycopg.Connection[TupleRow], conninfo: str, limits: Limits
) -> None:
    """`prepare` for code that runs in a thread; it returns nothing."""
    try:
        with _deadline(connection, limits.connect_seconds):
            _run_blocking(connection, preparation(connection.info, conninfo, limits))
    except BaseException:
        connection.close()
        raise


async def verify(connection: AsyncConnection[TupleRow], limits: Limits) -> None:
    """Verify a session that is in use; its time to wait for locks may vary.

    Raises:
        SessionUnfit: it is no longer as Pulse needs it.
    """
    await _run(connection, verification(limits, leave_out={"lock_timeout"}))


async def _run(connection: AsyncConnection[TupleRow], steps: Steps[T]) -> T:
    cursor = AsyncClientCursor(connection)  # its simple queries leave nothing prepared behind
    with contextlib.closing(steps):
        try:
            step = next(steps)
            while True:
                try:
                    if isinstance(step, Ask):
                        await cursor.execute(step.statement, step.parameters)
                        answer: Any = await cursor.fetchall() if cursor.description else []
                    else:
                        answer = await asyncio.to_thread(step)
                except psycopg.Error as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            found: T = end.value
            return found


def _run_blocking(connection: psycopg.Connection[TupleRow], steps: Steps[T]) -> T:
    cursor = ClientCursor(connection)
    with contextlib.closing(steps):
        try:
            step = next(steps)
            while True:
                try:
                    if isinstance(step, Ask):
                        cursor.execute(step.statement, step.parameters)
                        answer: Any = cursor.fetchall() if cursor.description else []
                    else:
                        answer = step()
                except psycopg.Error as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            found: T = end.value
            return found


@contextlib.contextmanager
def _deadline(
    connection: psycopg.Connection[TupleRow] | AsyncConnection[TupleRow], seconds: float
) -> Iterator[None]:
    """End the connection when the time is up, so that whatever waits for it fails.

    A pooler lets a client wait for minutes for a server connection, and libpq has no bound of its
    own once it is connected.
    """
    passed = threading.Event()
    with socket.socket(fileno=os.dup(connection.fileno())) as own:

        def end() -> None:
            passed.set()
            with contextlib.suppress(OSError):
                own.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        except psycopg.OperationalError as error:
            if not passed.is_set():
                raise
            raise psycopg.OperationalError(
                f"connected, but no answer within {seconds:g} s: Postgres is overloaded, or a "
                "pooler has no server connection left (raise its default_pool_size)"
            ) from error
        finally:
            timer.cancel()
            timer.join()  # at once: it wakes up, or shuts the socket down
