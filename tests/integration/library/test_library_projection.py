"""A stock projection runner, with a view on Pulse's recorder: it catches up, and it follows."""

from typing import ClassVar
from uuid import UUID

import psycopg
import pytest
from eventsourcing.application import Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Tracking
from eventsourcing.projection import (
    EventSourcedProjectionRunner,
    Projection,
    ProjectionRunner,
)
from eventsourcing.tests.projection import Counters

from pulse.domain import DomainEvent, OrderCreated
from pulse.eventstore.library import PulseTrackingRecorder
from tests.integration.library.stock import environment, terminate, until
from tests.support.events import order_created, orders_created, slices_scheduled


class Orders(Application[UUID]):
    name = "stored"
    env: ClassVar = {"MAPPER_TOPIC": "pulse.eventstore:EventMapper"}


class SharesView(PulseTrackingRecorder):
    """How many shares each instrument has been ordered."""

    def create_tables(self) -> None:
        with self.transaction() as cursor:
            cursor.execute(
                "CREATE TABLE IF NOT EXISTS shares (instrument text PRIMARY KEY, total bigint)"
            )

    def add(self, instrument: str, quantity: int, tracking: Tracking) -> None:
        with self.transaction() as cursor:
            cursor.execute(
                """INSERT INTO shares AS s VALUES (%s, %s)
                   ON CONFLICT (instrument) DO UPDATE SET total = s.total + excluded.total""",
                (instrument, quantity),
            )
            self.track(cursor, tracking)

    def total(self, instrument: str) -> int:
        with self.transaction() as cursor:
            row = cursor.execute(
                "SELECT total FROM shares WHERE instrument = %s", (instrument,)
            ).fetchone()
            return 0 if row is None else int(row[0])


class Shares(Projection[SharesView]):
    name = "shares"

    @singledispatchmethod
    def process_event(self, domain_event: DomainEvent, tracking: Tracking) -> None:  # noqa: ARG002
        self.view.insert_tracking(tracking)

    @process_event.register
    def _(self, domain_event: OrderCreated, tracking: Tracking) -> None:
        self.view.add(domain_event.instrument, domain_event.total_quantity, tracking)


def running(conninfo: str) -> "ProjectionRunner[Orders, SharesView]":
    return ProjectionRunner(
        application_class=Orders,
        projection_class=Shares,
        view_class=SharesView,
        env=environment(conninfo),
    )


def last_id(orders: Orders) -> int | None:
    return orders.recorder.max_notification_id()


def test_it_catches_up_and_follows_and_goes_on_where_it_was(conninfo: str) -> None:
    with Orders(env=environment(conninfo)) as orders:
        first = orders_created(3, total_quantity=100)
        orders.save(*first)
        with running(conninfo) as runner:
            runner.wait(last_id(orders), timeout=20)
            assert runner.view.total("NSE:RELIANCE") == 300
            orders.save(slices_scheduled(first[0]), order_created(total_quantity=50))
            runner.wait(last_id(orders), timeout=20)
            assert runner.view.total("NSE:RELIANCE") == 350
        orders.save(order_created(total_quantity=7))
        with running(conninfo) as runner:
            runner.wait(last_id(orders), timeout=20)
            assert runner.view.total("NSE:RELIANCE") == 357
            assert runner.view.max_tracking_id("stored") == last_id(orders) == 6


def test_it_goes_on_when_its_listener_is_terminated(
    conninfo: str, connection: psycopg.Connection
) -> None:
    with Orders(env=environment(conninfo)) as orders, running(conninfo) as runner:
        for expected in (1, 2, 3):
            until(lambda: terminate(connection, "subscription"), "there is a listener to end")
            orders.save(order_created(total_quantity=1, num_splits=2))
            runner.wait(last_id(orders), timeout=20)
            assert runner.view.total("NSE:RELIANCE") == expected


def test_it_goes_on_when_every_connection_is_terminated(
    conninfo: str, connection: psycopg.Connection
) -> None:
    with Orders(env=environment(conninfo)) as orders, running(conninfo) as runner:
        orders.save(order_created(total_quantity=1))
        runner.wait(last_id(orders), timeout=20)
        for role in ("subscription", "pool", "views", "appender"):
            assert terminate(connection, role)
        orders.save(order_created(total_quantity=1))
        runner.wait(last_id(orders), timeout=20)
        assert runner.view.total("NSE:RELIANCE") == 2


def test_nothing_is_counted_twice_nor_left_out_beside_a_second_runner(conninfo: str) -> None:
    """The position's row decides: the loser's transaction is undone with an IntegrityError."""
    with Orders(env=environment(conninfo)) as orders:
        orders.save(*orders_created(50, total_quantity=2))
        with running(conninfo) as runner:
            runner.wait(50, timeout=20)
            tracking = Tracking("stored", 50)
            with pytest.raises(Exception, match="stands at 50 already"):
                runner.view.add("NSE:RELIANCE", 2, tracking)
            assert runner.view.total("NSE:RELIANCE") == 100


class Dog(Aggregate):
    @event("Registered")
    def __init__(self, name: str) -> None:
        self.name = name


class Kennel(Application[UUID]):
    name = "kennel"


def test_an_event_sourced_projection_writes_its_events_with_its_position(
    conninfo: str, connection: psycopg.Connection
) -> None:
    with (
        Kennel(env=environment(conninfo)) as kennel,
        EventSourcedProjectionRunner(
            application_class=Kennel, projection_class=Counters, env=environment(conninfo)
        ) as runner,
    ):
        recordings = kennel.save(*(Dog(f"dog {number}") for number in range(5)))
        runner.wait(5, timeout=20)
        assert runner.projection.get_count(type(recordings[0].domain_event)) == 5
    row = connection.execute("SELECT count(*) FROM counters_events").fetchone()
    assert row == (6,)
