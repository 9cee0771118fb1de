"""What makes a session fit for Pulse, step by step and without I/O, and what makes it unfit."""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from typing import Any, Final, LiteralString, TypeVar

import msgspec
import psycopg

from pulse.errors import PulseError
from pulse.postgres.limits import Limits, session_settings
from pulse.postgres.pooler import AnotherConnection, settings_of_options
from pulse.postgres.sql import load_sql

T = TypeVar("T")
OLDEST_SERVER_VERSION: Final = 150_000

_PROBE_ROUNDS: Final = 5
_SET_SESSION = load_sql(__package__, "set_session")
_READ_SESSION = load_sql(__package__, "read_session")
_DISCARD_SESSION = load_sql(__package__, "discard_session")
_SELECT_BACKEND_PID = load_sql(__package__, "select_backend_pid")

_FACTS: Final = (
    "server_version_num",
    "server_version",
    "server_encoding",
    "transaction_read_only",
    "default_transaction_read_only",
    "transaction_isolation",
    "session_replication_role",
)
_UNKNOWN_TO_SOME_VERSIONS: Final = frozenset(("transaction_timeout",))
_OF_TCP: Final = "tcp_"


class SessionUnfit(psycopg.OperationalError, PulseError):
    """A session is not as Pulse needs it; the text names what is at fault and what to do.

    `lasting`: a person has to change something. Otherwise it may pass: a database that is read-only
    for a while, a standby that is promoted.
    """

    def __init__(self, fault: str, *, lasting: bool = True) -> None:
        super().__init__(fault)
        self.lasting = lasting


class Ask(msgspec.Struct, frozen=True):
    """A statement to run on the connection; the answer is its rows."""

    statement: LiteralString
    parameters: Sequence[Any] = ()


Steps = Generator[Ask | Callable[[], Any], Any, T]
"""Each step is a statement or a blocking call; its result is sent back."""


def preparation(info: psycopg.ConnectionInfo, conninfo: str, limits: Limits) -> Steps[str]:
    """Set what Pulse needs, and verify in a further statement that it is in force.

    Returns the schema that unqualified names lead to first.

    A pooler gives its clients keys of its own instead of the server's process id. Behind one, it is
    first made sure that the session is this client's alone, so that no setting reaches others.
    """
    settings = session_settings(limits)
    rows = yield Ask(_SELECT_BACKEND_PID)
    if rows[0][0] != info.backend_pid:
        yield from _refuse_shared_session(info, conninfo)
        yield Ask(_DISCARD_SESSION)  # what the client before may have left behind
        options = settings_of_options(info.get_parameters().get("options", ""))
        yield from _setting(
            options, "Postgres refuses a setting in the options of PULSE_DATABASE_URL or PGOPTIONS"
        )
    yield from _setting(
        settings, "Postgres refuses a session setting that Pulse needs: let Pulse's role set it"
    )
    return (yield from verification(limits))


def _setting(settings: Mapping[str, str], refusal: str) -> Steps[None]:
    try:
        yield Ask(_SET_SESSION, (list(settings), list(settings.values())))
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        raise SessionUnfit(refusal) from error


def verification(limits: Limits, *, leave_out: Collection[str] = ()) -> Steps[str]:
    """Read what is in force and refuse what is not as Pulse needs it.

    Returns the schema that unqualified names lead to first.
    """
    needed = session_settings(limits)
    rows = yield Ask(_READ_SESSION, ([*needed, *_FACTS],))
    found: dict[str, str] = dict(rows)
    _refuse_unfit_server(found)
    _refuse_read_only(found)
    _refuse_unfit_names(found)
    for name, value in needed.items():
        if name not in leave_out and not _is_in_force(name, value, found):
            raise SessionUnfit(
                f"the session setting {name} is {found.get(name)!r} where Pulse needs {value!r}, "
                "although Pulse has set it: check the pooler or proxy between Pulse and Postgres"
            )
    return found["current_schema"]


def _is_in_force(name: str, value: str, found: Mapping[str, str]) -> bool:
    if name not in found:
        return name in _UNKNOWN_TO_SOME_VERSIONS
    # of a local socket, and where the system has no such option, they are 0
    return found[name] == value or (name.startswith(_OF_TCP) and found[name] == "0")


def _refuse_unfit_server(found: Mapping[str, str]) -> None:
    if int(found["server_version_num"]) < OLDEST_SERVER_VERSION:
        raise SessionUnfit(
            f"Pulse needs Postgres {OLDEST_SERVER_VERSION // 10_000} or newer, this server is "
            f"{found['server_version']}: move the database to a newer one"
        )
    if found["server_encoding"] != "UTF8":
        raise wrong_encoding(found["server_encoding"])


def wrong_encoding(encoding: str) -> SessionUnfit:
    """The fault of a database that cannot store every text."""
    return SessionUnfit(
        f"the database's encoding is {encoding} and Pulse needs UTF8: create a database with "
        "ENCODING 'UTF8' and TEMPLATE template0, and name it in PULSE_DATABASE_URL"
    )


def _refuse_read_only(found: Mapping[str, str]) -> None:
    if found["in_recovery"] == "true":
        raise SessionUnfit(
            "this server is a standby (in recovery) and takes no writes: promote it, or name the "
            "primary in PULSE_DATABASE_URL",
            lasting=False,
        )
    for name in ("default_transaction_read_only", "transaction_read_only"):
        if found[name] != "off":
            raise SessionUnfit(
                f"the database is read-only ({name} is {found[name]}): check whether its disk "
                "is full, and turn that off for database, role and server",
                lasting=False,
            )


def _refuse_unfit_names(found: Mapping[str, str]) -> None:
    if not found["current_schema"]:
        raise SessionUnfit(
            "search_path names no existing schema that this role may use: create the schema, or "
            "change search_path for role and database"
        )
    schemas = (found["schemas"] or "").split(",")
    if next(name for name in schemas if not name.startswith("pg_temp")) != "pg_catalog":
        raise SessionUnfit(
            "search_path puts other schemas before pg_catalog, whose functions Pulse calls: leave "
            "pg_catalog out of it"
        )
    for name, value in (
        ("transaction_isolation", "read committed"),
        ("session_replication_role", "origin"),
    ):
        if found[name] != value:
            raise SessionUnfit(
                f"the session setting {name} is {found[name]!r} where Pulse needs {value!r}: "
                "change it for role and database"
            )


def _refuse_shared_session(info: psycopg.ConnectionInfo, conninfo: str) -> Steps[None]:
    """Refuse a pooler that gives a client another server connection for each transaction.

    There two clients that run statements in turn meet on one server connection, or one client
    changes between several. Where sessions are held, each client keeps its own; and should the
    pooler have none left for the second client, the first one is answered while the second waits.
    """
    another = AnotherConnection(conninfo, info)
    own: set[int] = set()
    others: set[int] = set()
    try:
        yield another.connect
        for _ in range(_PROBE_ROUNDS):
            for _ in range(2):
                rows = yield Ask(_SELECT_BACKEND_PID)
                own.add(rows[0][0])
            pid = yield another.backend_pid
            if pid is None:
                yield Ask(_SELECT_BACKEND_PID)
                break
            others.add(pid)
    finally:
        another.close()
    if len(own) > 1 or own & others:
        raise SessionUnfit(
            "a connection pooler in transaction or statement mode is between Pulse and Postgres, "
            "and Pulse needs sessions of its own: set pool_mode = session there, or connect "
            "to Postgres directly"
        )
