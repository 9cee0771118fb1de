"""What an appender says to Postgres: for Pulse's own log, or for another table of its layout."""

import re
from typing import Final, LiteralString
from zlib import crc32

import msgspec
from psycopg import sql

from pulse.postgres import load_sql

LOG_TABLE: Final = "stored_events"
LOG_LOCK: Final = 0x50554C53_45000002
"""The advisory lock that serialises appends, so that ids are in commit order."""

_OTHER_LOCKS: Final = 0x50554C54_00000000


class AppendStatements(msgspec.Struct, frozen=True, kw_only=True):
    """The statements of one table, and the lock that keeps its ids in commit order."""

    append: LiteralString
    append_or_fail: LiteralString
    select_stored: LiteralString
    lock: int

    def of_table(self, table: sql.Identifier, name: str) -> "AppendStatements":
        """The same for another table, under a lock that goes with its bare name.

        Two tables may come to share a lock; then they only wait for each other.
        """
        return AppendStatements(
            append=naming(self.append, {LOG_TABLE: table}),
            append_or_fail=naming(self.append_or_fail, {LOG_TABLE: table}),
            select_stored=naming(self.select_stored, {LOG_TABLE: table}),
            lock=lock_of(name),
        )

    def without_positions(self) -> "AppendStatements":
        """The same for a table without notification_id, which is no log: every position is 0."""
        return msgspec.structs.replace(
            self,
            append=_zero_for_position(self.append),
            append_or_fail=_zero_for_position(self.append_or_fail),
            select_stored=_zero_for_position(self.select_stored),
        )


PULSE_LOG: Final = AppendStatements(
    append=load_sql(__package__, "append_events"),
    append_or_fail=load_sql(__package__, "append_events_or_fail"),
    select_stored=load_sql(__package__, "select_stored"),
    lock=LOG_LOCK,
)


def lock_of(table_name: str) -> int:
    """The lock of the appends to a table of that bare name, whichever schema it lies in."""
    return LOG_LOCK if table_name == LOG_TABLE else _OTHER_LOCKS | crc32(table_name.encode())


def naming(text: LiteralString, tables: dict[str, sql.Identifier]) -> LiteralString:
    """The statement with other tables in the place of those it names; the names come in quoted."""
    words = re.split(rf"\b({'|'.join(tables)})\b", text)
    composed = sql.Composed([tables.get(word) or sql.SQL(word) for word in words])
    return composed.as_string()


def _zero_for_position(text: LiteralString) -> LiteralString:
    return re.sub(r"\b(s\.)?notification_id\b", "0::bigint", text)
