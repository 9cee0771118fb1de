"""Positions in other applications' logs, kept in one transaction with what was made of them."""

import contextlib
from collections.abc import Iterator, Sequence

from eventsourcing.persistence import (
    IntegrityError,
    ProcessRecorder,
    StoredEvent,
    Tracking,
    TrackingRecorder,
)
from psycopg import Cursor
from psycopg.rows import TupleRow

from pulse.eventstore.library.connections import Connections
from pulse.eventstore.library.engine import Engine
from pulse.eventstore.library.recorder import PulseApplicationRecorder
from pulse.eventstore.library.rows import as_uuid
from pulse.eventstore.library.tables import Table, statement


class PulseTrackingRecorder(TrackingRecorder):
    """Single-row tracking. A materialised view is a subclass, which writes like this:

        with self.transaction() as cursor:
            cursor.execute("UPDATE ...")
            self.track(cursor, tracking)

    and makes its own tables in `create_tables`. A transaction that stands idle for 2 s is ended by
    the server.
    """  # noqa: D415 - the colon leads to the example

    def __init__(self, connections: Connections, tracking_table: Table) -> None:
        self.tracking_table = tracking_table
        self._connections = connections
        self._insert_tracking = statement("insert_tracking", notification_tracking=tracking_table)
        self._max_tracking = statement(
            "select_max_tracking_id", notification_tracking=tracking_table
        )

    def create_tables(self) -> None:
        """Make the view's own tables where they are absent; called if CREATE_TABLE is on."""

    def insert_tracking(self, tracking: Tracking) -> None:
        """Move the position forward.

        Raises:
            IntegrityError: it stands there already, or further on.
        """
        with self._connections.cursor() as cursor:
            self.track(cursor, tracking)

    def max_tracking_id(self, application_name: str) -> int | None:
        """How far that application's log has been processed; None if it never was."""
        with self._connections.cursor() as cursor:
            row = cursor.execute(self._max_tracking, (application_name,)).fetchone()
            return None if row is None else row[0]

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Cursor[TupleRow]]:
        """Of the view's changes and the position together: committed unless there is an error."""
        with self._connections.transaction() as cursor:
            yield cursor

    def track(self, cursor: Cursor[TupleRow], tracking: Tracking) -> None:
        """Move the position forward in this transaction; errors as `insert_tracking`."""
        position = (tracking.application_name, tracking.notification_id)
        if cursor.execute(self._insert_tracking, position).fetchone() is None:
            raise _not_forward(tracking)


class PulseProcessRecorder(PulseTrackingRecorder, PulseApplicationRecorder, ProcessRecorder):
    """A log whose appends can carry a position in another one: both are written, or neither."""

    def __init__(
        self, engine: Engine, connections: Connections, table: Table, tracking_table: Table
    ) -> None:
        PulseTrackingRecorder.__init__(self, connections, tracking_table)
        PulseApplicationRecorder.__init__(self, engine, table)
        self._lock = table.append_statements.lock
        self._append_tracked = statement(
            "append_tracked", stored_events=table, notification_tracking=tracking_table
        )

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],
        *,
        tracking: Tracking | None = None,
        **_: object,
    ) -> Sequence[int] | None:
        """Append these events, and move the position `tracking` forward with them if it is given.

        Raises:
            IntegrityError: a version is taken, or the position stands there already.
        """
        if tracking is None:
            return super().insert_events(stored_events)
        if not stored_events:
            self.insert_tracking(tracking)
            return None
        return self._insert_with(tracking, stored_events)

    def _insert_with(
        self, tracking: Tracking, stored_events: Sequence[StoredEvent]
    ) -> Sequence[int]:
        """One statement on a connection that is not the appender's, under the same lock."""
        keys = [(as_uuid(event.originator_id), event.originator_version) for event in stored_events]
        parameters = (
            tracking.application_name,
            tracking.notification_id,
            [originator_id for originator_id, _ in keys],
            [originator_version for _, originator_version in keys],
            [event.topic for event in stored_events],
            [event.state for event in stored_events],
            self._lock,
        )
        with self._connections.cursor() as cursor:
            cursor.execute(self._append_tracked, parameters)
            ids = {(row[0], row[1]): row[2] for row in cursor}
        if not ids:
            raise _not_forward(tracking)
        self._engine.announce(self._writer)
        return [ids[key] for key in keys]


def _not_forward(tracking: Tracking) -> IntegrityError:
    return IntegrityError(
        f"the position in '{tracking.application_name}' stands at "
        f"{tracking.notification_id} already, or further on"
    )
