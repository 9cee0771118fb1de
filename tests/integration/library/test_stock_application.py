"""A stock application and projection of the library on Pulse's log; only the mapper is Pulse's."""

import subprocess
import sys
from collections.abc import Iterable
from typing import Any, ClassVar
from uuid import UUID, uuid4

import psycopg
import pytest
from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.persistence import IntegrityError, NotSupportedError, Tracking
from eventsourcing.projection import Projection, ProjectionRunner

from pulse.domain import DomainEvent, Event, Order, OrderCreated, evolve, fold
from tests.integration.library.stock import (
    PostgresTrackingRecorder,
    environment,
    stock_listens,
    until,
)
from tests.support.events import order_created, orders_created, slices_scheduled, stored
from tests.support.library_recorder import LibraryRecorder


class Orders(Application[UUID]):
    """The table is named after the application: `stored_events`, Pulse's log."""

    name = "stored"
    env: ClassVar = {"CREATE_TABLE": "no"}


class OwnersOrders(Application[UUID]):
    """The library creates a composite type for its writes, so its role needs CREATE."""

    name = "stored"


def folded(order: Order | None, events: Iterable[Event]) -> Order | None:
    for event in events:
        order = evolve(order, event)
    return order


def test_the_librarys_repository_gives_the_order_that_pulse_folds_at_any_version(
    conninfo: str, pulse_recorder: LibraryRecorder
) -> None:
    created = order_created()
    events = (created, slices_scheduled(created))
    pulse_recorder.insert_events(stored(events))
    with Orders(env=environment(conninfo)) as orders:
        repository = orders.repository
        order: Order = repository.get(created.originator_id, projector_func=folded)
        assert order == fold(events)
        assert (order.id, order.version, len(order.slices)) == (created.originator_id, 2, 5)
        at_first: Order = repository.get(created.originator_id, version=1, projector_func=folded)
        assert at_first == fold(events[:1])
        with pytest.raises(AggregateNotFoundError):
            repository.get(uuid4(), projector_func=folded)


def test_the_librarys_notification_log_has_every_event_in_order(
    conninfo: str, pulse_recorder: LibraryRecorder
) -> None:
    created = orders_created(12)
    for event in stored(created):
        pulse_recorder.insert_events([event])
    pulse_recorder.insert_events(stored([slices_scheduled(created[0])]))
    with Orders(env=environment(conninfo)) as orders:
        section = orders.notification_log["1,10"]
        assert (section.id, section.next_id) == ("1,10", "11,20")
        assert [item.originator_id for item in section.items] == [
            event.originator_id for event in created[:10]
        ]
        topics = [OrderCreated.TOPIC]
        selected = orders.notification_log.select(start=10, limit=9, topics=topics)
        assert [item.id for item in selected] == [10, 11, 12]


def test_the_library_continues_an_order_and_pulse_reads_its_events(
    conninfo: str, pulse_recorder: LibraryRecorder
) -> None:
    created = order_created()
    scheduled = slices_scheduled(created)
    pulse_recorder.insert_events(stored([created]))
    with OwnersOrders(env=environment(conninfo)) as orders:
        assert [recording.notification.id for recording in orders.save(scheduled)] == [2]
        with pytest.raises(IntegrityError):
            orders.save(scheduled)
    assert pulse_recorder.select_events(created.originator_id) == list(stored([created, scheduled]))
    with pytest.raises(IntegrityError):
        pulse_recorder.insert_events(stored([scheduled]))


def test_a_role_that_may_only_read_the_log_can_use_it(
    conninfo: str, pulse_recorder: LibraryRecorder, connection: psycopg.Connection
) -> None:
    created = order_created()
    pulse_recorder.insert_events(stored([created]))
    role = f"reader_{uuid4().hex[:12]}"
    connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'")
    try:
        connection.execute(f"GRANT SELECT ON stored_events TO {role}")
        reading = environment(conninfo, POSTGRES_USER=role, POSTGRES_PASSWORD=role)
        with Orders(env=reading) as orders:
            order: Order = orders.repository.get(created.originator_id, projector_func=folded)
            assert order == fold([created])
    finally:
        connection.execute(f"DROP OWNED BY {role}")
        connection.execute(f"DROP ROLE {role}")


def test_pulses_mapper_does_not_pretend_to_compress(conninfo: str) -> None:
    with pytest.raises(NotSupportedError):
        Orders(env=environment(conninfo, COMPRESSOR_TOPIC="zlib"))


class SharesView(PostgresTrackingRecorder):
    """How many shares of each instrument have been ordered."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.totals: dict[str, int] = {}

    def add(self, event: OrderCreated, tracking: Tracking) -> None:
        before = self.totals.get(event.instrument, 0)
        self.totals[event.instrument] = before + event.total_quantity
        self.insert_tracking(tracking)  # last: readers that wait for the position read the totals


class Shares(Projection[SharesView]):
    name = "shares"

    @singledispatchmethod
    def process_event(self, domain_event: DomainEvent, tracking: Tracking) -> None:  # noqa: ARG002
        self.view.insert_tracking(tracking)

    @process_event.register
    def _(self, domain_event: OrderCreated, tracking: Tracking) -> None:
        self.view.add(domain_event, tracking)


def test_a_projection_runner_catches_up_follows_and_resumes(
    conninfo: str, pulse_recorder: LibraryRecorder, connection: psycopg.Connection
) -> None:
    def running() -> "ProjectionRunner[Orders, SharesView]":
        return ProjectionRunner(
            application_class=Orders,
            projection_class=Shares,
            view_class=SharesView,
            env=environment(conninfo, SHARES_CREATE_TABLE="yes", STORED_CREATE_TABLE="no"),
        )

    first = orders_created(3, total_quantity=100)
    pulse_recorder.insert_events(stored(first))
    with running() as runner:
        runner.wait(3, timeout=20)
        assert runner.view.totals == {"NSE:RELIANCE": 300}
        until(lambda: stock_listens(connection), "the runner listens")
        pulse_recorder.insert_events(stored([slices_scheduled(first[0])]))
        pulse_recorder.insert_events(stored([order_created(total_quantity=50)]))
        runner.wait(5, timeout=20)
        assert runner.view.totals == {"NSE:RELIANCE": 350}
    pulse_recorder.insert_events(stored([order_created(total_quantity=7)]))
    with running() as runner:
        runner.wait(6, timeout=20)
        assert runner.view.totals == {"NSE:RELIANCE": 7}
        assert runner.view.max_tracking_id("stored") == 6


def test_pulse_alone_does_not_load_the_librarys_applications() -> None:
    code = (
        "import sys, logging; import pulse.eventstore; "
        "print([name for name in ('application', 'postgres', 'projection', 'system') "
        "if f'eventsourcing.{name}' in sys.modules], "
        "logging.getLogger('psycopg').level < logging.ERROR)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert ended.stdout == "[] True\n"
