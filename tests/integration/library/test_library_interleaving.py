"""Two recorders on one table: what one of them writes lies together, and so in commit order."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import psycopg
import pytest
from eventsourcing.persistence import ApplicationRecorder, Notification, StoredEvent
from eventsourcing.tests import persistence as cases

from pulse.eventstore import AppendLimits, Factory
from pulse.eventstore.append_statements import AppendStatements
from pulse.eventstore.library import PulseApplicationRecorder
from tests.integration.library.conftest import MakeFactory
from tests.integration.library.stock import until, waiting_for_locks

_LOCK = "(SELECT pg_advisory_xact_lock(%b::bigint)) IS NOT NULL"

# Writing takes long enough that two who begin together are at it together.
_SLOW_WRITING = """
CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(0.005);
    RETURN NEW;
END
$$;
CREATE TRIGGER be_slow BEFORE INSERT ON stored_events
    FOR EACH ROW WHEN (NEW.originator_version % 50 = 49) EXECUTE FUNCTION be_slow();
"""


class SmallBatches(Factory):
    """No two appends share a statement."""

    append_limits = AppendLimits(answer_seconds=15.0, batch_events=1)


class Unlocked(SmallBatches):
    """The same statements without the lock."""

    def application_recorder(self) -> PulseApplicationRecorder:
        recorder = super().application_recorder()
        statements = recorder.table.append_statements
        assert _LOCK in statements.append
        assert _LOCK in statements.append_or_fail
        unlocked = AppendStatements(
            append=statements.append.replace(_LOCK, "%b::bigint IS NOT NULL"),
            append_or_fail=statements.append_or_fail.replace(_LOCK, "%b::bigint IS NOT NULL"),
            select_stored=statements.select_stored,
            lock=statements.lock,
        )
        recorder._writer = recorder._engine.writer(unlocked, channel=None)
        return recorder


class TakingTurns(ApplicationRecorder):
    """Each append goes through the next of several recorders."""

    def __init__(self, *recorders: ApplicationRecorder) -> None:
        self._reader = recorders[0]
        self._turns = cycle(recorders)

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Any:
        return next(self._turns).insert_events(stored_events, **kwargs)

    def max_notification_id(self) -> int | None:
        return self._reader.max_notification_id()

    def select_notifications(self, *args: Any, **kwargs: Any) -> Sequence[Notification]:
        return self._reader.select_notifications(*args, **kwargs)

    def select_events(self, *args: Any, **kwargs: Any) -> Sequence[StoredEvent]:
        return self._reader.select_events(*args, **kwargs)

    def subscribe(self, *args: Any, **kwargs: Any) -> Any:
        return self._reader.subscribe(*args, **kwargs)


@contextmanager
def beginning_together(conninfo: str, connection: psycopg.Connection) -> Iterator[None]:
    """Holds up the first two appends, and lets them go at the same moment."""
    with psycopg.connect(conninfo) as holding:
        holding.execute("LOCK TABLE stored_events IN SHARE MODE")

        def let_go() -> None:
            try:
                until(lambda: waiting_for_locks(connection) == 2, "both wait")
            finally:
                holding.rollback()

        letting_go = threading.Thread(target=let_go)
        letting_go.start()
        try:
            yield
        finally:
            letting_go.join()


class TestNonInterleavingOfTwo(cases.NonInterleavingNotificationIDsBaseCase):
    kind: type[Factory] = SmallBatches

    @pytest.fixture(autouse=True)
    def _beginning_together(
        self, make_factory: MakeFactory, conninfo: str, connection: psycopg.Connection
    ) -> Iterator[None]:
        connection.execute(_SLOW_WRITING)
        self.make_factory = make_factory
        with beginning_together(conninfo, connection):
            yield

    def create_recorder(self) -> ApplicationRecorder:
        return TakingTurns(
            *(self.make_factory(kind=self.kind).application_recorder() for _ in range(2))
        )


class TestTheControlWithoutTheLock(TestNonInterleavingOfTwo):
    kind = Unlocked

    def test(self) -> None:
        with pytest.raises(AssertionError, match="not greater than"):
            super().test()
