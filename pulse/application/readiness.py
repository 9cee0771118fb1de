"""Whether this process can do its work now, check by check."""

from collections.abc import Callable
from typing import Final

import psycopg

from pulse.postgres import Connection, Database, DatabaseUnavailable
from pulse.projections import read_lag

MOST_BEHIND_SECONDS: Final = 10.0


class Readiness:
    """The checks behind `/health/ready`.

    `schema_fault` tells why a schema revision will not do for this code, or None if it will.
    """

    def __init__(
        self, database: Database, schema_fault: Callable[[str | None], str | None]
    ) -> None:
        self._database = database
        self._schema_fault = schema_fault

    async def check(self) -> dict[str, str | None]:
        """Each check's name with what is wrong, or None where all is well."""
        try:
            revision = await self._database.read(_schema_revision)
        except DatabaseUnavailable as error:
            unknown = "unknown while the database is away"
            return {"database": str(error), "schema": unknown, "projection": unknown}
        fault = self._schema_fault(revision)
        if fault is not None:
            unknown = "unknown while the schema is not current"
            return {"database": None, "schema": fault, "projection": unknown}
        return {"database": None, "schema": None, "projection": await self._projection_fault()}

    async def _projection_fault(self) -> str | None:
        try:
            lag = await read_lag(self._database)
        except DatabaseUnavailable as error:
            return str(error)
        if lag.behind_seconds <= MOST_BEHIND_SECONDS:
            return None
        return (
            f"the order queue is {lag.behind_seconds:.0f} s behind the log at position "
            f"{lag.position}, more than {MOST_BEHIND_SECONDS:g} s"
        )


async def _schema_revision(connection: Connection) -> str | None:
    try:
        cursor = await connection.execute("SELECT version_num FROM alembic_version")
    except psycopg.errors.UndefinedTable:
        return None
    row = await cursor.fetchone()
    return None if row is None else str(row[0])
