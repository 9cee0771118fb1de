"""Reading a page in the order of an index, whatever the planner's statistics say."""

from collections.abc import Mapping
from typing import Any, LiteralString

from pulse.postgres import Connection, load_sql

_KEEP_TO_INDEXES = load_sql(__package__, "keep_to_indexes")


async def select_in_index_order(
    connection: Connection, statement: LiteralString, parameters: Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    """The rows of one statement, thus of one snapshot; in one round trip."""
    async with connection.pipeline(), connection.transaction():
        await connection.execute(_KEEP_TO_INDEXES)
        cursor = connection.cursor(binary=True)
        await cursor.execute(statement, parameters, prepare=True)
        return await cursor.fetchall()
