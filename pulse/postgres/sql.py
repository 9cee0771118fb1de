"""SQL lies in `.sql` files beside the module that owns the table."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.sql import Composed


def load_sql(package: str, name: str) -> LiteralString:
    """The text of `sql/<name>.sql` in that package: a part of the program, never input."""
    return files(package).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


async def fetch(
    connection: AsyncConnection[TupleRow],
    statement: LiteralString | Composed,
    parameters: Sequence[Any] | Mapping[str, Any] = (),
    *,
    prepare: bool = True,
) -> list[TupleRow]:
    """All rows of a statement that is prepared once a connection.

    With `prepare=False` it is planned at each call. Use this for a join with a table that is
    sometimes empty and sometimes large: a plan cached while it was empty scans it whole.
    """
    cursor = connection.cursor(binary=True)
    await cursor.execute(statement, parameters, prepare=prepare)
    return await cursor.fetchall()
