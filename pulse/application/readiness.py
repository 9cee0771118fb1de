"""Whether this process can do its own work now, check by check, and what a person should see."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from pulse.application.notices import (
    MAX_BEHIND_SECONDS,
    Facts,
    Notice,
    next_id_taken,
    notices_of,
    read_facts,
    sequence_below_position,
)
from pulse.postgres import Database, DatabaseUnavailable
from pulse.postgres.migrations import AppliedRevision, read_applied

_UNKNOWN = "unknown until database and schema are well"


class Ready(msgspec.Struct, frozen=True):
    """Each check's name with what is wrong, None where all is well; and what a person should know.

    `parked_orders` are set aside for a person, `orders_for_newer_code` wait for a newer process;
    neither keeps this one from its work, and no notice does.
    """

    checks: dict[str, str | None]
    parked_orders: int | None = None
    orders_for_newer_code: int | None = None
    notices: tuple[Notice, ...] = ()


class Readiness:
    """The checks behind `/health/ready`.

    Only what this process cannot do itself makes it not ready. What another process or the
    installation lacks is a notice: taking this process out of service would not help.

    The parts of the process say why they cannot work, None if they can: `schema` judges the
    revisions that the database has; `append` may probe, within 2 s; `projector` alone is no fault
    while another process projects; `others` are further checks by name.
    """

    def __init__(  # noqa: PLR0913 - the parts of the process, wired once
        self,
        database: Database,
        *,
        schema: Callable[[Sequence[AppliedRevision]], str | None],
        append: Callable[[], Awaitable[str | None]],
        projector: Callable[[], str | None],
        others: Callable[[], Mapping[str, str | None]],
        timeout_seconds: float,
    ) -> None:
        self._database = database
        self._schema = schema
        self._append = append
        self._projector = projector
        self._others = others
        self._timeout_seconds = timeout_seconds
        self._checking: asyncio.Task[Ready] | None = None

    async def check(self) -> Ready:
        """The state now. Callers that arrive while a check runs share its result."""
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check())
        return await asyncio.shield(self._checking)

    async def notices(self) -> tuple[Notice, ...]:
        """The notices now.

        Raises:
            DatabaseUnavailable: they cannot be read.
        """
        return notices_of(await self._facts())

    async def _check(self) -> Ready:
        append_fault, (database_fault, schema_fault, facts) = await asyncio.gather(
            self._append(), self._database_schema_and_facts()
        )
        id_taken = next_id_taken(facts.log, facts.lag.position) if facts else None
        checks: dict[str, str | None] = {
            "database": database_fault,
            "schema": schema_fault,
            "append": append_fault or id_taken,
            "projection": _projection_fault(facts) if facts else _UNKNOWN,
            **self._others(),
        }
        if facts is None:
            return Ready(checks)
        lag = facts.lag
        return Ready(checks, lag.parked_orders, lag.orders_for_newer_code, notices_of(facts))

    async def _database_schema_and_facts(self) -> tuple[str | None, str | None, Facts | None]:
        """The fault of the database, that of the schema, and the facts where there is neither."""
        try:
            await self._database.verify()
            schema_fault = self._schema(await self._database.read(read_applied))
            return None, schema_fault, None if schema_fault else await self._facts()
        except DatabaseUnavailable as error:
            return str(error), "unknown while the database is away", None

    async def _facts(self) -> Facts:
        facts = await self._database.read(
            lambda connection: read_facts(connection, self._timeout_seconds)
        )
        return msgspec.structs.replace(facts, projector_fault=self._projector())


def _projection_fault(facts: Facts) -> str | None:
    lag = facts.lag
    if lag.behind_seconds <= MAX_BEHIND_SECONDS:
        return sequence_below_position(facts.log, lag.position)
    why = f": {facts.projector_fault}" if facts.projector_fault else ""
    return (
        f"the order queue is {lag.behind_seconds:.0f} s behind the log at position {lag.position}, "
        f"more than {MAX_BEHIND_SECONDS:g} s{why}"
    )
