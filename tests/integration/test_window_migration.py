"""Revision 15 adds the windows of orders to the queue; rows of earlier orders need no change."""

from datetime import timedelta

import psycopg
import pytest

from pulse.postgres import Database
from pulse.process.revisions import REVISIONS
from tests.support.database import migrate
from tests.support.events import order_created, stored
from tests.support.log import write
from tests.support.read_model import project

BEFORE = [revision for revision in REVISIONS if revision.number < 15]
SINCE = [revision for revision in REVISIONS if revision.number <= 15]


@pytest.mark.parametrize("duration_minutes", [1, 1440])
def test_the_window_of_an_earlier_order_starts_at_its_creation(
    empty_conninfo: str, duration_minutes: int
) -> None:
    migrate(empty_conninfo, BEFORE)
    created = order_created(duration_minutes=duration_minutes)
    with psycopg.connect(empty_conninfo) as connection:
        connection.execute(
            "INSERT INTO order_queue (order_id, order_unique_key, scope, placed_by, instrument,"
            " side, total_quantity, num_splits, duration_minutes, randomize, splitter_version,"
            " state, version, position, created_position, created_at, updated_at) VALUES"
            " (%s, %s, 'internal', 'x', 'x', 'BUY', 10, 2, %s, true, 1, 'PENDING', 1, 1, 1, %s,"
            " %s)",
            (
                created.originator_id,
                created.order_unique_key,
                duration_minutes,
                created.timestamp,
                created.timestamp,
            ),
        )
        connection.execute("GRANT SELECT ON order_queue_status TO PUBLIC")
        connection.execute("ALTER VIEW order_queue_status SET (security_barrier = true)")
    migrate(empty_conninfo, SINCE)
    with psycopg.connect(empty_conninfo) as connection:
        (row,) = connection.execute(
            "SELECT start_at, session_policy, window_starts_at, window_ends_at"
            "  FROM order_queue_status"
        ).fetchall()
        ends_at = created.timestamp + timedelta(minutes=duration_minutes)
        assert row == (None, None, created.timestamp, ends_at)
        (options,) = connection.execute(
            "SELECT reloptions, has_table_privilege('public', oid, 'SELECT') FROM pg_class"
            " WHERE oid = 'order_queue_status'::regclass"
        ).fetchall()
        assert options == (["security_barrier=true"], True)


async def test_a_window_with_only_one_end_is_refused(conninfo: str, database: Database) -> None:
    write(conninfo, *stored([order_created()]))
    await project(database)
    with (
        psycopg.connect(conninfo) as connection,
        pytest.raises(psycopg.errors.CheckViolation, match="window_check"),
    ):
        connection.execute("UPDATE order_queue SET window_starts_at = now()")
