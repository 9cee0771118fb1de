"""Ordinary connections for materialised views, which the library's users write synchronously."""

import contextlib
import weakref
from collections.abc import Iterator

from psycopg import Connection, Cursor
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool

from pulse.eventstore.library.errors import library_errors
from pulse.postgres import Limits
from pulse.postgres.limits import bounded_conninfo
from pulse.postgres.session import CONNECTION_KWARGS, WRONG_SESSION_ERRORS, prepare_blocking

_MOST_WAITING = 500


class Connections:
    """A small pool for any number of threads; each connection is tried before it is given out.

    Ends with `close`, or when nobody has it any more.
    """

    def __init__(self, conninfo: str, *, pool_size: int, limits: Limits | None = None) -> None:
        limits = limits or Limits()

        def prepare(connection: Connection[TupleRow]) -> None:
            prepare_blocking(connection, conninfo, limits)

        pool: ConnectionPool[Connection[TupleRow]] = ConnectionPool(
            bounded_conninfo(conninfo, "views", limits),
            kwargs=CONNECTION_KWARGS,
            configure=prepare,
            min_size=1,
            max_size=pool_size,
            max_waiting=_MOST_WAITING,
            timeout=limits.checkout_seconds,
            reconnect_timeout=2.0,
            check=ConnectionPool.check_connection,
            name="pulse-views",
            open=True,
        )
        self._pool = pool
        self._close = weakref.finalize(self, pool.close)

    @contextlib.contextmanager
    def cursor(self) -> Iterator[Cursor[TupleRow]]:
        """Of a connection in autocommit: each statement is a transaction."""
        with self._connection() as connection, connection.cursor() as cursor:
            yield cursor

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Cursor[TupleRow]]:
        """Of a connection in a transaction, committed unless there is an error."""
        with (
            self._connection() as connection,
            connection.transaction(),
            connection.cursor() as cursor,
        ):
            yield cursor

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Connection[TupleRow]]:
        with library_errors(), self._pool.connection() as connection:
            try:
                yield connection
            except WRONG_SESSION_ERRORS:
                connection.close()  # the pool replaces it by one that is verified
                raise

    def close(self) -> None:
        """Close them."""
        self._close()
