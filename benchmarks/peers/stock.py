"""The `eventsourcing` library's Postgres module on a benchmark database."""

from typing import Any

from psycopg.conninfo import conninfo_to_dict


def stock_environment(conninfo: str, **more: str) -> dict[str, str]:
    """The library's environment variables for that database."""
    found: dict[str, Any] = conninfo_to_dict(conninfo)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": found["dbname"],
        "POSTGRES_HOST": found["host"],
        "POSTGRES_PORT": str(found.get("port", 5432)),
        "POSTGRES_USER": found["user"],
        "POSTGRES_PASSWORD": found.get("password", "none"),
        **more,
    }
