"""Whether this process can do its work now, check by check."""

from collections.abc import Callable
from typing import Final

import psycopg

from pulse.postgres import Connection, Database, DatabaseUnavailable
from pulse.projections import read_lag

MOST_BEHIND_SECONDS: Final = 10.0


class Readiness:
    """The checks behind `/health/ready`.

    `schema_fault` tells why a schema revision will not do for this code, `clock_fault` why the
    process's clock will not, `projector_fault` why this process cannot project on; each None if all
    is well.
    """

    def __init__(
        self,
        database: Database,
        schema_fault: Callable[[str | None], str | None],
        clock_fault: Callable[[], str | None],
        projector_fault: Callable[[], str | None],
    ) -> None:
        self._database = database
        self._schema_fault = schema_fault
        self._clock_fault = clock_fault
        self._projector_fault = projector_fault
        self.parked_orders = 0

    async def check(self) -> dict[str, str | None]:
        """Each check's name with what is wrong, or None where all is well."""
        checks: dict[str, str | None] = {"database": None, "schema": None, "projection": None}
        try:
            revision = await self._database.read(_schema_revision)
        except DatabaseUnavailable as error:
            checks["database"] = str(error)
            checks["schema"] = checks["projection"] = "unknown while the database is away"
        else:
            checks["schema"] = self._schema_fault(revision)
            checks["projection"] = (
                "unknown while the schema is not current"
                if checks["schema"]
                else await self._projection_fault()
            )
        checks["clock"] = self._clock_fault()
        return checks

    async def _projection_fault(self) -> str | None:
        try:
            lag = await read_lag(self._database)
        except DatabaseUnavailable as error:
            return str(error)
        self.parked_orders = lag.parked_orders
        fault = self._projector_fault()
        if fault is not None:
            return fault
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
