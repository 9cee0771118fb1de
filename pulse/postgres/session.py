"""Sessions: every new connection is set up with Pulse's settings, verified, and closed if unfit.

The settings are set by statements, because poolers refuse or drop libpq's `options`, and because a
role or a database may have its own settings.
"""

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final, LiteralString

import psycopg
from psycopg import AsyncClientCursor, AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from pulse.database_url import settings_of_options
from pulse.errors import PulseError
from pulse.postgres.limits import PostgresLimits, bounded_conninfo, session_settings
from pulse.postgres.sql import load_sql

Connection = AsyncConnection[TupleRow]

OLDEST_SERVER_VERSION: Final = 150_000
CONNECTION_KWARGS: Final[dict[str, Any]] = {"autocommit": True, "prepare_threshold": 1}

_PROBE_ROUNDS: Final = 5
_PROBE_SECONDS: Final = 1.0
_SET_SESSION: Final = load_sql(__package__, "set_session")
_READ_SESSION: Final = load_sql(__package__, "read_session")
_DISCARD_SESSION: Final = load_sql(__package__, "discard_session")
_SELECT_BACKEND_PID: Final = load_sql(__package__, "select_backend_pid")
_NO_CONVERSION: Final = re.compile(r"conversion between UTF8 and (\w+) is not supported")
_CHANGED_BY_CHECKOUT: Final = frozenset(("lock_timeout",))
_UNKNOWN_TO_SOME_VERSIONS: Final = frozenset(("transaction_timeout",))
_EXPECTED: Final = {
    "transaction_isolation": "read committed",
    "session_replication_role": "origin",
}
"""Settings that Pulse verifies but does not set: an operator set any other value on purpose."""
_READ_ONLY: Final = ("default_transaction_read_only", "transaction_read_only")
_FACTS: Final = (
    *("server_version_num", "server_version", "server_encoding"),
    *_READ_ONLY,
    *_EXPECTED,
)


class SessionUnfit(psycopg.OperationalError, PulseError):
    """A session does not meet Pulse's requirements; the message says why and what to do.

    If `is_permanent`, an operator must change something. Otherwise the fault is transient: a
    database that is temporarily read-only, a standby that may be promoted.
    """

    def __init__(self, fault: str, *, is_permanent: bool = True) -> None:
        super().__init__(fault)
        self.is_permanent = is_permanent


WRONG_SESSION_ERRORS: Final[tuple[type[psycopg.Error], ...]] = (
    SessionUnfit,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.InsufficientPrivilege,  # the session may run as another role
    psycopg.errors.InvalidSqlStatementName,  # this connection's prepared statement is gone
    psycopg.errors.ProtocolViolation,  # another client has prepared a statement of this name
    psycopg.errors.DuplicatePreparedStatement,  # likewise
)
"""Errors which show that the session is not the one that was verified: close the connection."""


class Connector:
    """Creates the sessions to one database: with equal settings, and in the same schema.

    They announce `code_revision`, the last revision of the schema that this code knows. With
    `read_only` they cannot write, and the server may be a standby.
    """

    def __init__(
        self,
        conninfo: str,
        limits: PostgresLimits,
        *,
        code_revision: int | None = None,
        read_only: bool = False,
    ) -> None:
        self._conninfo = conninfo
        self._limits = limits
        self._code_revision = code_revision
        self._read_only = read_only
        self._settings = session_settings(limits, read_only=read_only)
        self._shown: dict[str, str] = {}  # the settings as the server shows them: with units
        self._schema: str | None = None

    async def connect(self, purpose: str) -> Connection:
        """Open a connection in autocommit mode whose session is set up and verified.

        Raises:
            psycopg.OperationalError: Postgres cannot be reached, or did not answer in time.
            SessionUnfit: the session does not meet Pulse's requirements.
        """
        conninfo = bounded_conninfo(self._conninfo, purpose, self._limits, self._code_revision)
        try:
            connection = await AsyncConnection.connect(conninfo, **CONNECTION_KWARGS)
        except psycopg.OperationalError as error:
            if found := _NO_CONVERSION.search(str(error)):
                raise _wrong_encoding(found[1]) from error
            raise
        await self.prepare(connection)
        return connection

    async def prepare(self, connection: Connection) -> None:
        """Apply the settings and verify them; closes the connection on failure.

        If the session's backend pid is not the one that this client received, a pooler is between
        Pulse and Postgres. Then the session must belong to this client alone, or the settings would
        apply to other clients.

        Raises:
            psycopg.OperationalError: Postgres cannot be reached, or did not answer in time.
            SessionUnfit: the session does not meet Pulse's requirements.
        """
        try:
            with _deadline(connection, self._limits.connect_seconds):
                refusal = "a session setting that Pulse needs: let Pulse's role set it"
                shown = await _set(connection, self._settings, refusal, connection.info.backend_pid)
                if not shown:
                    await _refuse_shared_session(connection, self._conninfo)
                    await _run(connection, _DISCARD_SESSION)  # state of an earlier client
                    backend_pid = await _backend_pid(connection)
                    await _set_options(connection, backend_pid)
                    shown = await _set(connection, self._settings, refusal, backend_pid)
                await self._require_fit(connection, shown)
            require_known(self._settings.keys() - shown.keys())
            self._shown = shown
        except BaseException:
            await connection.close()
            raise

    async def verify(self, connection: Connection) -> None:
        """Verify the server and a prepared session again.

        Raises:
            SessionUnfit: the session does not meet Pulse's requirements.
        """
        lasting = self._shown.keys() - _CHANGED_BY_CHECKOUT
        await self._require_fit(connection, {name: self._shown[name] for name in lasting})

    async def _require_fit(self, connection: Connection, needed: Mapping[str, str]) -> None:
        """Read the session and check it against these values, in the form that the server shows."""
        names = [*self._settings, *_FACTS]
        found: dict[str, Any] = dict(await _run(connection, _READ_SESSION, (names,)))
        require_fit(found, needed, read_only=self._read_only)
        schema = found["current_schema"]
        self._schema = self._schema or schema
        if schema != self._schema:
            raise SessionUnfit(
                f"search_path now resolves to schema {schema}, and this process uses schema "
                f"{self._schema}: change search_path back, or restart Pulse if this is intended"
            )


def require_fit(
    found: Mapping[str, Any], needed: Mapping[str, str], *, read_only: bool = False
) -> None:
    """Check the facts and settings of a session. With `read_only` it need not be able to write.

    Raises:
        SessionUnfit: the message says what is wrong and what to do.
    """
    _require_server(found)
    if not read_only:
        _require_writable(found)
    _require_search_path(found)
    for name, value in _EXPECTED.items():
        if found[name] != value:
            raise SessionUnfit(
                f"the session setting {name} is {found[name]!r}, Pulse needs {value!r}: "
                "change it for role and database"
            )
    for name, value in needed.items():
        if found[name] != value:
            raise SessionUnfit(
                f"the session setting {name} is {found[name]!r} although Pulse has set it to "
                f"{value!r}: check the pooler or proxy between Pulse and Postgres"
            )


def require_known(missing: AbstractSet[str]) -> None:
    """Check that the server has each setting, except those that some versions of Postgres lack.

    Raises:
        SessionUnfit: other settings are missing; the message names them.
    """
    if unknown := sorted(missing - _UNKNOWN_TO_SOME_VERSIONS):
        raise SessionUnfit(
            f"this server does not have the settings {', '.join(unknown)}: Pulse needs Postgres"
        )


def _require_server(found: Mapping[str, Any]) -> None:
    if int(found["server_version_num"]) < OLDEST_SERVER_VERSION:
        raise SessionUnfit(
            f"Pulse needs Postgres {OLDEST_SERVER_VERSION // 10_000} or newer, this server is "
            f"{found['server_version']}: move the database to a newer one"
        )
    if found["server_encoding"] != "UTF8":
        raise _wrong_encoding(found["server_encoding"])


def _require_writable(found: Mapping[str, Any]) -> None:
    if found["in_recovery"] == "true":
        raise SessionUnfit(
            "this server is a standby (in recovery) and refuses writes: promote it, or set "
            "PULSE_DATABASE_URL to the primary",
            is_permanent=False,
        )
    for name in _READ_ONLY:
        if found[name] != "off":
            raise SessionUnfit(
                f"the database is read-only ({name} is {found[name]}): check whether its disk "
                "is full, and turn the setting off for database, role and server",
                is_permanent=False,
            )


def _require_search_path(found: Mapping[str, Any]) -> None:
    if not found["current_schema"]:
        raise SessionUnfit(
            "search_path has no existing schema that this role may use: create the schema, or "
            "change search_path for role and database"
        )
    schemas = (found["schemas"] or "").split(",")
    if next(name for name in schemas if not name.startswith("pg_temp")) != "pg_catalog":
        raise SessionUnfit(
            "search_path puts other schemas before pg_catalog, whose functions Pulse calls: leave "
            "pg_catalog out of it"
        )


def _wrong_encoding(encoding: str) -> SessionUnfit:
    return SessionUnfit(
        f"the database's encoding is {encoding}, Pulse needs UTF8: create a database with "
        "ENCODING 'UTF8' and TEMPLATE template0, and set PULSE_DATABASE_URL to it"
    )


async def _refuse_shared_session(connection: Connection, conninfo: str) -> None:
    """Refuse a pooler in transaction or statement mode.

    In these modes two clients that run statements in turn share a server connection, or one client
    switches between several. In session mode each client keeps its own. The second client may get
    no server connection in session mode, so only a failure of the first client is raised.
    """
    info = connection.info
    second = await AsyncConnection.connect(
        make_conninfo(
            conninfo,
            host=info.host or None,
            hostaddr=info.hostaddr or None,
            port=info.port,
            client_encoding="UTF8",
            application_name="pulse:probe",
            connect_timeout=2,
        ),
        autocommit=True,
    )
    own: set[int] = set()
    others: set[int] = set()
    try:
        for _ in range(_PROBE_ROUNDS):
            own |= {await _backend_pid(connection), await _backend_pid(connection)}
            with _deadline(second, _PROBE_SECONDS):
                others.add(await _backend_pid(second))
    except psycopg.OperationalError:
        await _backend_pid(connection)  # raises if this connection failed, not the second one
    finally:
        await second.close()
    if len(own) > 1 or own & others:
        raise SessionUnfit(
            "a connection pooler in transaction or statement mode is between Pulse and Postgres, "
            "and Pulse needs session mode: set pool_mode = session there, or connect to Postgres "
            "directly"
        )


async def _set_options(connection: Connection, backend_pid: int) -> None:
    """Set the settings in libpq's `options`, which a pooler may drop."""
    refusal = "a setting in the options of PULSE_DATABASE_URL or PGOPTIONS"
    try:
        options = settings_of_options(connection.info.get_parameters().get("options", ""))
    except ValueError:
        raise SessionUnfit(f"Postgres refuses {refusal}") from None
    await _set(connection, options, refusal, backend_pid)


async def _set(
    connection: Connection, settings: Mapping[str, str], refusal: str, backend_pid: int
) -> dict[str, str]:
    """Apply the settings if the session has this backend; returns them as the server shows them."""
    parameters = (list(settings), list(settings.values()), backend_pid)
    try:
        return dict(await _run(connection, _SET_SESSION, parameters))
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        raise SessionUnfit(f"Postgres refuses {refusal}") from error


async def _backend_pid(connection: Connection) -> int:
    [(pid,)] = await _run(connection, _SELECT_BACKEND_PID)
    return int(pid)


async def _run(
    connection: Connection, statement: LiteralString, parameters: Sequence[Any] = ()
) -> list[TupleRow]:
    cursor = AsyncClientCursor(connection)  # simple queries, which prepare no statement
    await cursor.execute(statement, parameters)
    return await cursor.fetchall() if cursor.description else []


def abort_connection(connection: Connection) -> bool:
    """Shut the connection's socket down, so that pending reads fail.

    The server gets no cancel request: a statement in progress continues there, up to its time
    limits. False if there is no open socket.
    """
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RDWR)
    except (OSError, psycopg.OperationalError):
        return False
    return True


@contextlib.contextmanager
def _deadline(connection: Connection, seconds: float) -> Iterator[None]:
    """Shut the connection's socket down after `seconds`, so that pending reads fail.

    A pooler may let a client wait minutes for a server connection. libpq has no timeout after
    connecting, and cancelling a statement waits for the server's answer.
    """
    with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        passed = asyncio.Event()

        def shut_down() -> None:
            passed.set()
            with contextlib.suppress(OSError):
                duplicate.shutdown(socket.SHUT_RDWR)

        timer = asyncio.get_running_loop().call_later(seconds, shut_down)
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
