"""The bounds set on every connection, so that nothing waits for ever or reads without end."""

import os
import socket

import msgspec
from psycopg.conninfo import make_conninfo


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How long Pulse waits for Postgres. A statement's limits are enforced by the server.

    Once a checkout from the pool has timed out, the pool is taken to be exhausted: until
    `exhausted_seconds` have passed without another timeout, no checkout waits longer than
    `exhausted_checkout_seconds`, and no read waits longer than that for a lock.
    """

    connect_seconds: int = 5
    checkout_seconds: float = 2.0
    exhausted_checkout_seconds: float = 0.02
    exhausted_seconds: float = 5.0
    statement_seconds: float = 10.0
    lock_seconds: float = 4.0
    idle_in_transaction_seconds: float = 2.0
    unacknowledged_seconds: float = 8.0


def bounded_conninfo(conninfo: str, role: str, limits: Limits) -> str:
    """The same server with the bounds that the client enforces.

    It shows in pg_stat_activity as `pulse:<role>@<host>:<pid>`. The server's bounds are statements
    of `session`: a pooler refuses them as startup parameters, or drops them. What is given here as
    one, PgBouncer accepts as it is shipped.
    """
    return make_conninfo(
        conninfo,
        application_name=f"pulse:{role}@{socket.gethostname()[:32]}:{os.getpid()}",
        client_encoding="UTF8",
        connect_timeout=limits.connect_seconds,
        keepalives=1,
        keepalives_idle=5,
        keepalives_interval=3,
        keepalives_count=3,
        tcp_user_timeout=milliseconds(limits.unacknowledged_seconds),
    )


def session_settings(limits: Limits) -> dict[str, str]:
    """What must be in force in every session, by name in lower case, in the settings' base units.

    Rows come in the order an index has them (`enable_sort`), never fetched whole and sorted. A plan
    that is made for any parameters does not know that a page or a batch is wanted, and statistics
    are behind where orders come in bursts: either misleads the planner to sort a hundred thousand
    rows for fifty. Sorts without an alternative still happen; up to Postgres 17 they are priced
    beyond all measure, which would have them compiled, hence no `jit`.
    """
    return {
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
    """As Postgres takes a time without a unit."""
    return str(round(seconds * 1000))
