"""Revisions of the schema: what a migration is, and how the code and a database name them."""

from importlib.resources import files
from typing import Literal, LiteralString, TypeAlias

import msgspec

Phase: TypeAlias = Literal["before", "after"]
"""When a revision is applied: before the processes are replaced, or after."""


class Revision(msgspec.Struct, frozen=True):
    """A migration, whose statements are in the package that owns the tables.

    A version of the code is identified by the last revision it knows. `oldest_code` is the oldest
    code that may run on a database with this revision. A revision of the phase `before` is applied
    before processes of this code start. From revision 17 on it is compatible with the older
    processes that still run. A revision of the phase `after` removes what this code no longer uses,
    and creates nothing. It is applied once no process has code older than `oldest_code`. This code
    runs with and without it.

    With `index`, the only statement is `CREATE INDEX CONCURRENTLY IF NOT EXISTS` of this name. It
    runs outside a transaction, and again if it was interrupted.

    `columns` (each as table.column) are columns that no earlier revision creates. They identify the
    revision of a database that was migrated before revisions were recorded.
    """

    number: int
    name: str
    package: str
    oldest_code: int
    columns: tuple[str, ...] = ()
    phase: Phase = "before"
    index: str | None = None

    def __str__(self) -> str:
        return f"revision {self.number} ({self.name})"

    @property
    def statements(self) -> LiteralString:
        """The text of its .sql file, which is program text, not input."""
        file = f"{self.number:04}_{self.name}.sql"
        return files(self.package).joinpath("migrations", file).read_text(encoding="utf-8")


class AppliedRevision(msgspec.Struct, frozen=True):
    """A revision of a database, as recorded by the code that applied it."""

    number: int
    name: str
    oldest_code: int

    def __str__(self) -> str:
        return f"revision {self.number} ({self.name})"
