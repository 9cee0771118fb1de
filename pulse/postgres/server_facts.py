"""Facts about the server: its identity, and for `pulse doctor` its settings and connections."""

from datetime import datetime
from typing import Final

import msgspec

from pulse.postgres.session import Connection
from pulse.postgres.sql import fetch, load_sql

_SELECT_SERVER_FACTS: Final = load_sql(__package__, "select_server_facts")
_SELECT_SERVER_IDENTITY: Final = load_sql(__package__, "select_server_identity")
_SETTINGS: Final = (
    *("server_version", "fsync", "full_page_writes", "synchronous_commit"),
    *("max_connections", "superuser_reserved_connections", "min_wal_size"),
)


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts. `has_pooler`: another program is between this client and the server."""

    server_version: str
    role: str
    is_superuser: bool
    has_pooler: bool
    fsync: bool
    full_page_writes: bool
    synchronous_commit: str
    max_connections: int
    reserved_connections: int
    connections: int
    min_wal_mib: int


class ServerIdentity(msgspec.Struct, frozen=True):
    """Which server and database this is. A replica has the first two fields of its primary."""

    system_identifier: int
    database_oid: int
    started_at: datetime
    in_recovery: bool


async def read_server_identity(connection: Connection) -> ServerIdentity:
    """Read the identity. Every role may read it."""
    (row,) = await fetch(connection, _SELECT_SERVER_IDENTITY)
    return ServerIdentity(*row)


async def read_server_facts(connection: Connection) -> ServerFacts:
    """Read the facts. Every role may read them."""
    rows = await fetch(connection, _SELECT_SERVER_FACTS, (list(_SETTINGS),))
    found: dict[str, str] = dict(rows)
    return ServerFacts(
        server_version=found["server_version"],
        role=found["role"],
        is_superuser=found["is_superuser"] == "true",
        has_pooler=int(found["backend_pid"]) != connection.info.backend_pid,
        fsync=found["fsync"] == "on",
        full_page_writes=found["full_page_writes"] == "on",
        synchronous_commit=found["synchronous_commit"],
        max_connections=int(found["max_connections"]),
        reserved_connections=int(found["superuser_reserved_connections"]),
        connections=int(found["connections"]),
        min_wal_mib=int(found["min_wal_size"]),
    )
