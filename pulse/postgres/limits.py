"""The timeouts and settings of every connection.

Only migrations, rebuilds and verification run statements without a timeout.
"""

import os
import socket

import msgspec
from psycopg.conninfo import make_conninfo


class PostgresLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How long Pulse waits for Postgres. The server enforces the limits of a statement.

    After a checkout from the pool, or a read's wait for a lock, has timed out, the pool counts as
    exhausted until neither has happened for `exhausted_seconds`. Meanwhile a checkout waits at most
    `exhausted_checkout_seconds`, and so does a read for a lock.

    The session of a rebuild may be idle in a transaction for longer than others: between two
    statements it computes rows, which takes seconds on a starved machine, and a lost session ends
    the whole rebuild. A rebuild that freezes delays the projection by this time. So the limit is
    less than 10 s: a process is not ready if its projection is further behind.
    """

    connect_seconds: int = 5
    checkout_seconds: float = 2.0
    exhausted_checkout_seconds: float = 0.02
    exhausted_seconds: float = 5.0
    statement_seconds: float = 10.0
    lock_seconds: float = 4.0
    idle_in_transaction_seconds: float = 2.0
    rebuild_idle_in_transaction_seconds: float = 6.0
    unacknowledged_seconds: float = 8.0


def bounded_conninfo(
    conninfo: str, purpose: str, limits: PostgresLimits, code_revision: int | None = None
) -> str:
    """The conninfo plus the timeouts that the client enforces, and the application name.

    The connection appears in pg_stat_activity as `pulse:<purpose>@<host>/r<code_revision>:<pid>`.
    `code_revision` is the last revision of the schema that this code knows. A revision that is not
    compatible with older code waits until no session of older code is left. A session without a
    revision counts as older. Timeouts that the server enforces are set by statements (see
    `session`), because poolers refuse or drop them as startup parameters. PgBouncer accepts the
    startup parameters used here in its default configuration.
    """
    host = socket.gethostname()[:28]
    known = "" if code_revision is None else f"/r{code_revision}"
    return make_conninfo(
        conninfo,
        application_name=f"pulse:{purpose}@{host}{known}:{os.getpid()}",
        client_encoding="UTF8",
        connect_timeout=limits.connect_seconds,
        keepalives=1,
        keepalives_idle=5,
        keepalives_interval=3,
        keepalives_count=3,
        tcp_user_timeout=milliseconds(limits.unacknowledged_seconds),
    )


def session_settings(limits: PostgresLimits, *, read_only: bool = False) -> dict[str, str]:
    """The settings of every session: names in lower case, values in the settings' base units.

    With `read_only` the session refuses to write, also on a server that accepts writes.

    `enable_sort` is off so that plans read rows in the order of an index. A generic plan does not
    know the limit of a page or a batch, and statistics lag behind bursts of orders; either makes
    the planner sort a hundred thousand rows to return fifty. Sorts without an alternative still
    happen. Up to Postgres 17 their cost estimate is so high that it triggers JIT compilation, so
    `jit` is off.
    """
    only_reads = {"default_transaction_read_only": "on"} if read_only else {}
    return {
        **only_reads,
        "statement_timeout": milliseconds(limits.statement_seconds),
        "lock_timeout": milliseconds(limits.lock_seconds),
        "idle_in_transaction_session_timeout": milliseconds(limits.idle_in_transaction_seconds),
        "idle_session_timeout": "0",
        "transaction_timeout": "0",
        "tcp_keepalives_idle": "5",
        "tcp_keepalives_interval": "3",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": milliseconds(limits.unacknowledged_seconds),
        "default_transaction_isolation": "read committed",
        "synchronous_commit": "on",
        "exit_on_error": "off",
        "enable_sort": "off",
        "jit": "off",
        "client_encoding": "UTF8",
        "datestyle": "ISO, MDY",
        "intervalstyle": "postgres",
        "timezone": "UTC",
        "bytea_output": "hex",
        "extra_float_digits": "1",
        "standard_conforming_strings": "on",
        "array_nulls": "on",
        "quote_all_identifiers": "off",
        "transform_null_equals": "off",
    }


def milliseconds(seconds: float) -> str:
    """A time as Postgres takes it without a unit."""
    return str(round(seconds * 1000))
