"""The library's own recorder test cases, run against Pulse's event store."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from eventsourcing.persistence import ApplicationRecorder
from eventsourcing.tests import persistence as cases

from pulse.eventstore import AppendLimits
from pulse.postgres import Connection, Database
from tests.integration.library.stock import until, waiting_for_locks
from tests.support.library_recorder import LibraryRecorder, library_recorder

SMALL_BATCHES = AppendLimits(answer_seconds=15.0, batch_events=1)
"""Appends without batching."""

# Writing takes long enough that two appends which begin together overlap.
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

# A lock function of the same name that takes no lock.
_NO_LOCK = """
CREATE SCHEMA unlocked;
CREATE FUNCTION unlocked.pg_advisory_xact_lock(bigint) RETURNS boolean LANGUAGE sql
    AS 'SELECT true'
"""


class TestApplicationRecorder(cases.ApplicationRecorderTestCase[Any]):
    @pytest.fixture(autouse=True)
    def _on_a_fresh_log(self, pulse_recorder: LibraryRecorder) -> None:
        self.recorder = pulse_recorder

    def create_recorder(self) -> ApplicationRecorder:
        return self.recorder


class UnlockedDatabase(Database):
    """Its sessions find the function without the lock first."""

    async def connect(self, role: str) -> Connection:
        connection = await super().connect(role)
        await connection.execute("SET search_path = unlocked, pg_catalog, public")
        return connection


class TestNonInterleaving(cases.NonInterleavingNotificationIDsBaseCase):
    """Two stores on one log: each append's ids are consecutive, so ids are in commit order.

    Both appends of the case begin at the same moment, each through a store of its own.
    """

    database_type = Database

    @pytest.fixture(autouse=True)
    def _beginning_together(self, conninfo: str, connection: psycopg.Connection) -> Iterator[None]:
        connection.execute(_SLOW_WRITING)
        connection.execute(_NO_LOCK)
        databases = [self.database_type(conninfo, pool_size=1) for _ in range(2)]
        with (
            library_recorder(*databases, limits=SMALL_BATCHES) as self.recorder,
            appends_begin_together(conninfo, connection),
        ):
            yield

    def create_recorder(self) -> ApplicationRecorder:
        return self.recorder


class TestControlWithoutTheLock(TestNonInterleaving):
    """Shows that the case can fail."""

    database_type = UnlockedDatabase

    def test(self) -> None:
        with pytest.raises(AssertionError, match="not greater than"):
            super().test()


@contextmanager
def appends_begin_together(conninfo: str, connection: psycopg.Connection) -> Iterator[None]:
    """Blocks the first two appends, and releases them at the same moment."""
    with psycopg.connect(conninfo) as blocking:
        blocking.execute("LOCK TABLE stored_events IN SHARE MODE")

        def let_go() -> None:
            try:
                until(lambda: waiting_for_locks(connection) == 2, "both appends wait")
            finally:
                blocking.rollback()

        letting_go = threading.Thread(target=let_go)
        letting_go.start()
        try:
            yield
        finally:
            letting_go.join()
