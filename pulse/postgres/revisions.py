"""Revisions of the schema: those of this code, those of a database, and whether the two fit."""

from collections.abc import Sequence
from importlib.resources import files
from typing import LiteralString

import msgspec
import psycopg

from pulse.postgres.database import Connection
from pulse.postgres.sql import load_sql

_SELECT_APPLIED = load_sql(__package__, "select_applied_revisions")


class Revision(msgspec.Struct, frozen=True):
    """A step of the schema, whose statements lie in the package that owns what it creates.

    Code is named by the last revision it knows. `oldest_code` is the oldest code that may run on a
    database that has this revision. `columns` (each as table.column) are what it alone creates: by
    them a database is recognised that was migrated before revisions were recorded.
    """

    number: int
    name: str
    package: str
    oldest_code: int
    columns: tuple[str, ...] = ()

    @property
    def statements(self) -> LiteralString:
        """The text of its file: a part of the program, never input."""
        file = f"{self.number:04}_{self.name}.sql"
        return files(self.package).joinpath("migrations", file).read_text(encoding="utf-8")


class AppliedRevision(msgspec.Struct, frozen=True):
    """A revision that a database has, as recorded by the code that applied it."""

    number: int
    name: str
    oldest_code: int


def fault_of_schema(known: Sequence[Revision], applied: Sequence[AppliedRevision]) -> str | None:
    """Why code with these known revisions may not run on these applied ones; None if it may.

    A newer revision is fine if it admits this code. The text says what to do.
    """
    unknown = _unknown(known, applied)
    if unknown is not None:
        return unknown
    code = known[-1].number
    if is_behind(known, applied):
        at = f"is at revision {applied[-1].number}" if applied else "has no revision of Pulse's"
        return f"the schema {at}, this code needs revision {code}: run `pulse migrate`"
    strictest = max(applied, key=lambda revision: revision.oldest_code)
    if strictest.oldest_code > code:
        return (
            f"the schema has revision {strictest.number} ({strictest.name}), on which only code of "
            f"revision {strictest.oldest_code} or newer may run, and this code is of revision "
            f"{code}: start a newer release of Pulse"
        )
    return None


def is_behind(known: Sequence[Revision], applied: Sequence[AppliedRevision]) -> bool:
    """Whether the database has the first of these revisions, in order, and lacks the rest."""
    return len(applied) < len(known) and _unknown(known, applied) is None


def _unknown(known: Sequence[Revision], applied: Sequence[AppliedRevision]) -> str | None:
    """The first recorded revision that is not in the one order that all code shares."""
    for number, found in enumerate(applied, 1):
        own = known[number - 1] if number <= len(known) else None
        if found.number != number or (own is not None and found.name != own.name):
            expected = f"revision {number}" + (f" ({own.name})" if own is not None else "")
            return (
                f"the schema has unknown revision {found.number} ({found.name}) where {expected} "
                "belongs: run the release of Pulse that made it, or restore table pulse_schema"
            )
    return None


async def read_applied(connection: Connection) -> tuple[AppliedRevision, ...]:
    """The revisions that the database has, in order; none where it has no table of them."""
    try:
        cursor = await connection.execute(_SELECT_APPLIED)
    except psycopg.errors.UndefinedTable:
        return ()
    return tuple(AppliedRevision(*row) for row in await cursor.fetchall())
