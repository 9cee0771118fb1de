"""A log and its seal that are put back to an earlier point, as a restore of the database does."""

from typing import Final

import psycopg

from tests.support.seal import tamper

_TABLES: Final = (
    *("stored_events", "log_identity", "log_forks"),
    *("seal_entries", "seal_nodes", "seal_keys", "seal_state"),
)
_SEQUENCE: Final = "stored_events_notification_id_seq"


def take_backup(conninfo: str) -> None:
    """Copy the log and its seal."""
    with psycopg.connect(conninfo) as connection:
        for table in _TABLES:
            connection.execute(f"DROP TABLE IF EXISTS backup_{table}".encode())
            connection.execute(f"CREATE TABLE backup_{table} AS TABLE {table}".encode())
        connection.execute("DROP TABLE IF EXISTS backup_sequence")
        connection.execute(f"CREATE TABLE backup_sequence AS TABLE {_SEQUENCE}".encode())


def restore_backup(conninfo: str) -> None:
    """Replace the log and its seal by the copy."""
    tamper(
        conninfo,
        *(f"DELETE FROM {table}" for table in _TABLES),
        *(f"INSERT INTO {table} SELECT * FROM backup_{table}" for table in _TABLES),
        f"SELECT setval('{_SEQUENCE}', last_value, is_called) FROM backup_sequence",
    )
