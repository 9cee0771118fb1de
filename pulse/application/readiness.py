"""Readiness: the checks of whether this process can do its own work now."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from pulse.application.halts import ReleaseHalts
from pulse.application.known_halts import read_halts
from pulse.application.notices import (
    MAX_BEHIND_SECONDS,
    HealthSnapshot,
    Notice,
    ProcessState,
    next_id_taken,
    notices_of,
    read_health_snapshot,
    sequence_below_position,
)
from pulse.application.role_rights import read_role_rights
from pulse.postgres import Database, DatabaseUnavailable
from pulse.postgres.migrations import read_applied
from pulse.postgres.revision import AppliedRevision

_UNKNOWN = "unknown until the checks of database and schema pass"


class ReadinessReport(msgspec.Struct, frozen=True):
    """Each check with what is wrong, None if it passes; and the notices for a person.

    `parked_orders` need a person, `orders_for_newer_code` wait for a newer process. Neither these
    nor any notice makes this process unready.
    """

    checks: dict[str, str | None]
    parked_orders: int | None = None
    orders_for_newer_code: int | None = None
    notices: tuple[Notice, ...] = ()


class Readiness:
    """The checks behind `/health/ready`.

    A process is unready only if it cannot do its own work. A problem of another process or of the
    installation is a notice: taking this process out of service would not help.

    Each callable returns why a part of the process cannot work, or None if it can. `schema` checks
    the revisions of the database; `append` may probe for up to 2 s; `others` are further checks by
    name. The faults of `process` are notices; that of the projector fails a check only if no other
    process projects.
    """

    def __init__(  # noqa: PLR0913 - the parts of the process, wired once
        self,
        database: Database,
        *,
        schema: Callable[[Sequence[AppliedRevision]], str | None],
        append: Callable[[], Awaitable[str | None]],
        others: Callable[[], Mapping[str, str | None]],
        halts: ReleaseHalts,
        process: Callable[[], ProcessState],
        timeout_seconds: float,
    ) -> None:
        self._database = database
        self._schema = schema
        self._append = append
        self._others = others
        self._halts = halts
        self._process = process
        self._timeout_seconds = timeout_seconds
        self._checking: asyncio.Task[tuple[ReadinessReport, HealthSnapshot | None]] | None = None

    async def check(self) -> ReadinessReport:
        """Check now. Concurrent callers share one check and its result."""
        report, _ = await self.check_with_snapshot()
        return report

    async def check_with_snapshot(self) -> tuple[ReadinessReport, HealthSnapshot | None]:
        """The checks as `check` makes them, and the snapshot behind them if it can be read."""
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check())
        return await asyncio.shield(self._checking)

    async def notices(self) -> tuple[Notice, ...]:
        """The current notices.

        Raises:
            DatabaseUnavailable: they cannot be read.
        """
        return notices_of(await self._read_snapshot())

    async def _check(self) -> tuple[ReadinessReport, HealthSnapshot | None]:
        append_fault, (database_fault, schema_fault, snapshot) = await asyncio.gather(
            self._append(), self._database_schema_and_snapshot()
        )
        id_taken = next_id_taken(snapshot.log, snapshot.lag.position) if snapshot else None
        checks: dict[str, str | None] = {
            "database": database_fault,
            "schema": schema_fault,
            "append": append_fault or id_taken,
            "projection": _projection_fault(snapshot) if snapshot else _UNKNOWN,
            **self._others(),
        }
        if snapshot is None:
            return ReadinessReport(checks), None
        lag = snapshot.lag
        report = ReadinessReport(
            checks, lag.parked_orders, lag.orders_for_newer_code, notices_of(snapshot)
        )
        return report, snapshot

    async def _database_schema_and_snapshot(
        self,
    ) -> tuple[str | None, str | None, HealthSnapshot | None]:
        """The faults of database and schema, and the snapshot if there is neither."""
        try:
            await self._database.verify()
            schema_fault = self._schema(await self._database.read(read_applied))
            return None, schema_fault, None if schema_fault else await self._read_snapshot()
        except DatabaseUnavailable as error:
            return str(error), "unknown while the database is unavailable", None

    async def _read_snapshot(self) -> HealthSnapshot:
        halts = await read_halts(self._halts)
        snapshot = await self._database.read(
            lambda connection: read_health_snapshot(connection, self._timeout_seconds, halts)
        )
        rights = await self._database.read(read_role_rights)
        return msgspec.structs.replace(snapshot, rights=rights, process=self._process())


def _projection_fault(snapshot: HealthSnapshot) -> str | None:
    lag = snapshot.lag
    if lag.behind_seconds <= MAX_BEHIND_SECONDS:
        return sequence_below_position(snapshot.log, lag.position)
    why = f": {snapshot.process.projector}" if snapshot.process.projector else ""
    return (
        f"the order queue is {lag.behind_seconds:.0f} s behind the log at position {lag.position}, "
        f"more than {MAX_BEHIND_SECONDS:g} s{why}"
    )
