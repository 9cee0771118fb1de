"""Loads SQL statements, which are in `.sql` files next to the modules that own the tables."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.sql import Composed


def load_sql(package: str, name: str) -> LiteralString:
    """The text of `sql/<name>.sql` in the package. It is program text, not input."""
    return files(package).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


async def fetch(
    connection: AsyncConnection[TupleRow],
    statement: LiteralString | Composed,
    parameters: Sequence[Any] | Mapping[str, Any] = (),
    *,
    prepare: bool = True,
) -> list[TupleRow]:
    """All rows of a statement, which is prepared once per connection.

    `prepare=False` plans it at each call. Use this for a join with a table that is sometimes empty
    and sometimes large: a plan cached while it was empty scans the whole table later.
    """
    cursor = connection.cursor(binary=True)
    await cursor.execute(statement, parameters, prepare=prepare)
    return await cursor.fetchall()
