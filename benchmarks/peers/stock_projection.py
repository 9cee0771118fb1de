"""Pulse's read model, built as in the eventsourcing library's tutorial: one event at a time."""

import time
from typing import Any
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg.sql import SQL

from benchmarks.peers.stock import stock_environment
from pulse.domain import OrderCreated, SlicesScheduled

_CREATE_ORDERS = SQL(
    "CREATE TABLE IF NOT EXISTS stock_orders (order_id uuid PRIMARY KEY, order_unique_key text,"
    " instrument text, side text, total_quantity bigint, num_splits integer, state text,"
    " created_at timestamptz, updated_at timestamptz)"
)
_CREATE_SLICES = SQL(
    "CREATE TABLE IF NOT EXISTS stock_slices (order_id uuid, sequence_number integer,"
    " quantity bigint, scheduled_at timestamptz, PRIMARY KEY (order_id, sequence_number))"
)
_INSERT_ORDER = "INSERT INTO stock_orders VALUES (%s, %s, %s, %s, %s, %s, 'PENDING', %s, %s)"
_COMPLETE = "UPDATE stock_orders SET state = 'COMPLETED', updated_at = %s WHERE order_id = %s"
_INSERT_SLICE = "INSERT INTO stock_slices VALUES (%s, %s, %s, %s)"
_SECONDS = 300.0


class _Stored(Application[UUID]):
    """Pulse's log."""

    name = "stored"


class _View(PostgresTrackingRecorder):
    """Writes the rows and the position of each event in one transaction."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.sql_create_statements += [_CREATE_ORDERS.format(), _CREATE_SLICES.format()]

    def write(self, event: Any, tracking: Tracking) -> None:
        """Write the rows of one event."""
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            match event:
                case OrderCreated():
                    row = (
                        *(event.originator_id, event.order_unique_key, event.instrument),
                        *(event.side, event.total_quantity, event.num_splits),
                        *(event.timestamp, event.timestamp),
                    )
                    cursor.execute(_INSERT_ORDER, row, prepare=True)
                case SlicesScheduled():
                    done = (event.timestamp, event.originator_id)
                    cursor.execute(_COMPLETE, done, prepare=True)
                    cursor.executemany(
                        _INSERT_SLICE,
                        [
                            (event.originator_id, s.sequence_number, s.quantity, s.scheduled_at)
                            for s in event.slices
                        ],
                    )
                case _:
                    pass


class _Stock(Projection[_View]):
    """The library's projection onto that view."""

    name = "stock"

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """Pass the event to the view."""
        self.view.write(domain_event, tracking)


def project_all(conninfo: str, events: int) -> float:
    """Run the library's projection runner over the log; returns the events per second."""
    env = stock_environment(conninfo, MAPPER_TOPIC="pulse.eventstore:EventMapper")
    begun = time.perf_counter()
    with ProjectionRunner(
        application_class=_Stored, projection_class=_Stock, view_class=_View, env=env
    ) as runner:
        runner.wait(events, timeout=_SECONDS)
        return events / (time.perf_counter() - begun)
