"""Whether this process can do its work now, check by check."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from pulse.postgres import Database, DatabaseUnavailable
from pulse.postgres.revisions import AppliedRevision, read_applied
from pulse.projections import Lag, read_lag

MOST_BEHIND_SECONDS: Final = 10.0


class Ready(msgspec.Struct, frozen=True):
    """Each check's name with what is wrong, None where all is well; and what a person should know.

    `parked_orders` are set aside for a person, `orders_for_newer_code` wait for a newer process;
    neither keeps this one from its work.
    """

    checks: dict[str, str | None]
    parked_orders: int | None = None
    orders_for_newer_code: int | None = None


class Readiness:
    """The checks behind `/health/ready`.

    `schema_fault` tells why this code may not run on a schema of such revisions, `clock_fault` why
    the process's clock will not do, `projector_fault` why this process cannot project on; each None
    if all is well.
    """

    def __init__(
        self,
        database: Database,
        schema_fault: Callable[[Sequence[AppliedRevision]], str | None],
        clock_fault: Callable[[], str | None],
        projector_fault: Callable[[], str | None],
    ) -> None:
        self._database = database
        self._schema_fault = schema_fault
        self._clock_fault = clock_fault
        self._projector_fault = projector_fault

    async def check(self) -> Ready:
        """How it stands now."""
        checks: dict[str, str | None] = {"database": None, "schema": None, "projection": None}
        lag: Lag | None = None
        try:
            await self._database.verify()
            checks["schema"] = self._schema_fault(await self._database.read(read_applied))
            if checks["schema"] is None:
                lag = await read_lag(self._database)
        except DatabaseUnavailable as error:
            checks["database"] = str(error)
            checks["schema"] = "unknown while the database is away"
        checks["projection"] = self._projection_fault(lag)
        checks["clock"] = self._clock_fault()
        if lag is None:
            return Ready(checks)
        return Ready(checks, lag.parked_orders, lag.orders_for_newer_code)

    def _projection_fault(self, lag: Lag | None) -> str | None:
        if lag is None:
            return "unknown until database and schema are well"
        fault = self._projector_fault()
        if fault is not None or lag.behind_seconds <= MOST_BEHIND_SECONDS:
            return fault
        return (
            f"the order queue is {lag.behind_seconds:.0f} s behind the log at position "
            f"{lag.position}, more than {MOST_BEHIND_SECONDS:g} s"
        )
