"""Plausible bugs of releases, expiries and cancels to plant; the simulation must find each."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from uuid import UUID

from eventsourcing.persistence import StoredEvent

from pulse.application.callers import Caller
from pulse.application.in_process import InProcessOrders
from pulse.application.orders import OrderNotFound
from pulse.application.origin import Clock, Origin
from pulse.domain import CancelOrder, Halts, Slice, Trace, decide, releases
from pulse.eventstore import (
    AppendCondition,
    AppendOutcomeUnknown,
    AppendResult,
    EventStore,
    VersionTaken,
)
from pulse.projections.order_view import OrderReader, OrderView
from pulse.workers import releases as workers_releases
from pulse.workers.releases import Releaser, ReleaseStep
from tests.simulation.memory import statements
from tests.simulation.memory.server import Result, Server, Session
from tests.simulation.memory.statements import Statement
from tests.simulation.planted import Planted, with_replaced

if TYPE_CHECKING:
    from tests.simulation.world import World

_FAST = timedelta(seconds=0.02)


class VersionTakenIgnored(Planted):
    """A releaser that lost a race appends its decision at the next version."""

    class NextVersionStore:
        def __init__(self, store: EventStore) -> None:
            self.mapper = store.mapper
            self.appender = self
            self._store = store

        async def append_each(
            self,
            events: Sequence[StoredEvent],
            conditions: Sequence[AppendCondition | None],
            spans: None,
        ) -> list[AppendResult]:
            results = await self._store.appender.append_each(events, conditions, spans)
            lost = [n for n, result in enumerate(results) if isinstance(result, VersionTaken)]
            for number in lost:
                event = events[number]
                again = replace(event, originator_version=event.originator_version + 1)
                results[number] = (await self._store.appender.append_each([again]))[0]
            return results

    class NextVersionReleaser(Releaser):
        def __init__(self, database: Any, store: Any, *parts: Any, **settings: Any) -> None:
            store = VersionTakenIgnored.NextVersionStore(store)
            super().__init__(database, store, *parts, **settings)

    releaser = NextVersionReleaser


class SuccessorIgnored(Planted):
    """Only the maximum delay makes a slice expire, so it can be released with its successor."""

    def __enter__(self) -> None:
        def expires_at(s: Slice, _: Slice | None, max_delay_seconds: float) -> datetime:
            return s.scheduled_at + timedelta(seconds=max_delay_seconds)

        modules = (releases, workers_releases)
        self._patches = [patch.object(module, "expires_at", expires_at) for module in modules]
        for one in self._patches:
            one.start()

    def __exit__(self, *_: object) -> None:
        for one in self._patches:
            one.stop()


class DistanceIgnored(Planted):
    """Orders are due at the time of their next slice, however late the one before it was."""

    def statements(self, world: "World") -> Mapping[str, Statement]:  # noqa: ARG002
        def select_due_orders(server: Server, _: Session, parameters: Any) -> Result:
            tables = server.tables
            settled = {p: len(tables.orders[tables.ids[p]]["settled"]) for p in tables.due}
            due = {p: tables.slices[p, number + 1][1] for p, number in settled.items()}
            return statements.due_orders_at(server.now, tables, due, parameters)

        return with_replaced(statements.select_due_orders, select_due_orders)


class FastReleaser(Planted):
    """The releaser decides by a clock that is 0.02 s fast, instead of the database's."""

    def statements(self, world: "World") -> Mapping[str, Statement]:  # noqa: ARG002
        def select_due_orders(server: Server, _: Session, parameters: Any) -> Result:
            now, tables = server.now + _FAST, server.tables
            return statements.due_orders_at(now, tables, tables.due, parameters)

        return with_replaced(statements.select_due_orders, select_due_orders)


class StaleDecision(Planted):
    """A releaser that was frozen while it waited for the due orders appends what it decided."""

    def __enter__(self) -> None:
        never = datetime.max.replace(tzinfo=UTC)
        self._patch = patch.object(workers_releases, "expires_at", lambda *_: never)
        self._patch.start()

    def __exit__(self, *_: object) -> None:
        self._patch.stop()


class GuardIgnored(Planted):
    """Postgres does not check that the halts are those that the releaser has read."""

    def statements(self, world: "World") -> Mapping[str, Statement]:  # noqa: ARG002
        def append_events(server: Server, session: Session, parameters: Any) -> Result:
            *others, guards, times = parameters
            unguarded = (*others, [None] * len(guards), times)
            return statements.append_events(server, session, unguarded)

        return with_replaced(statements.append_events, append_events)


class HaltsReadOnce(Planted):
    """The releaser reads the halts once, when its process starts."""

    class ReadingOnce(Releaser):
        def __init__(self, *parts: Any, halts: Any, **settings: Any) -> None:
            known: list[Halts] = []

            async def first() -> Halts:
                if not known:
                    known.append(await halts())
                return known[0]

            super().__init__(*parts, halts=first, **settings)

    releaser = ReadingOnce


class ExpiryHalted(Planted):
    """The due orders leave out those that a halt covers, though their slices expire."""

    def statements(self, world: "World") -> Mapping[str, Statement]:  # noqa: ARG002
        def select_due_orders(server: Server, session: Session, parameters: Any) -> Result:
            never = {**parameters, "max_delay_seconds": 1e6, "min_release_seconds": 1e6}
            return statements.select_due_orders(server, session, never)

        return with_replaced(statements.select_due_orders, select_due_orders)


class OnlyPolls(Planted):
    """The releaser does not wait for the time of the next order, only for its poll interval."""

    class PollingReleaser(Releaser):
        def poll_after(self, result: ReleaseStep) -> float:  # noqa: ARG002 - the planted bug
            return self.poll_seconds

    releaser = PollingReleaser


class DueNotRefreshed(Planted):
    """The projection does not change an order's due row after the split."""

    def statements(self, world: "World") -> Mapping[str, Statement]:  # noqa: ARG002
        def settle_slices(server: Server, session: Session, parameters: Any) -> Result:
            changes = server.begin(session)
            due = dict(changes.due)
            result = statements.settle_slices(server, session, parameters)
            changes.due = due
            return result

        return with_replaced(statements.settle_slices, settle_slices)


class CancelOnce(Planted):
    """After a conflict a cancel does not try again, and answers with the order as it is."""

    class CancelsOnce(InProcessOrders):
        ignored: type[Exception] = VersionTaken

        def __init__(
            self, store: EventStore, reader: OrderReader, clock: Clock, origin: Origin, **_: Any
        ) -> None:
            super().__init__(store, reader, clock, origin)
            self.store, self.reader, self.clock = store, reader, clock
            self.recorded_by = origin.recorded_by("api")

        async def cancel(
            self, order_id: UUID, reason: str | None, caller: Caller, trace: Trace
        ) -> OrderView:
            stream = await self.reader.folded(order_id)
            if stream is None:
                raise OrderNotFound(str(order_id))
            command = CancelOrder(
                reason=reason,
                cancelled_by=caller.placed_by,
                at=self.clock(),
                recorded_by=self.recorded_by,
                trace=trace,
            )
            try:
                for event in decide(command, stream.order):
                    await self.store.append(event)
            except self.ignored:
                pass
            return await self.order(order_id, caller)

    orders = CancelsOnce


class CancelAssumed(CancelOnce):
    """After a lost reply a cancel answers as if the order were cancelled."""

    class Assuming(CancelOnce.CancelsOnce):
        ignored = AppendOutcomeUnknown

    orders = Assuming
