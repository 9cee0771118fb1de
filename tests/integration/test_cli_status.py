"""`pulse status`: the state of the queue, and what needs attention."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from eventsourcing.persistence import StoredEvent
from psycopg.conninfo import make_conninfo

from pulse.domain import Event, OrderCreated
from pulse.postgres import Database
from pulse.projections.overview import read_queue_counts
from tests.support.cli import claim, projected, run_pulse, write
from tests.support.events import (
    order_cancelled,
    order_created,
    orders_created,
    slices_scheduled,
    splitting_failed,
    stored,
    timed_out,
)
from tests.support.splitting import present


def fill(conninfo: str) -> None:
    """Eight orders: two PENDING, one IN_PROGRESS, COMPLETED and CANCELLED, three FAILED."""
    created = orders_created(8)
    write(conninfo, *stored(created))
    outcomes: list[Event] = [
        slices_scheduled(created[3]),
        splitting_failed(created[4], "TOO_LATE"),
        splitting_failed(created[5], "TOO_LATE"),
        timed_out(created[6]),
        order_cancelled(created[7]),
    ]
    write(conninfo, *stored(outcomes))
    projected(conninfo)
    claim(conninfo, created[2].originator_id, "host:1:abc", seconds_ago=100)


def park(conninfo: str) -> None:
    write(
        conninfo, StoredEvent(order_created().originator_id, 1, "pulse.domain:OrderCreated", b"{}")
    )
    projected(conninfo)


def status_json(conninfo: str, exit_code: int, **settings: object) -> dict[str, Any]:
    ended = run_pulse("status", "--json", conninfo=conninfo, **settings)
    assert (ended.exit_code, ended.err) == (exit_code, "")
    assert ended.out.count("\n") == 1
    found: dict[str, Any] = json.loads(ended.out)
    assert found["healthy"] is (exit_code == 0)
    return found


def test_an_empty_queue_is_healthy(conninfo: str) -> None:
    ended = run_pulse("status", conninfo=conninfo)
    assert (ended.exit_code, ended.err) == (0, "")
    assert ended.out.splitlines()[-1] == "Healthy."
    assert "position 0 of 0, all read" in ended.out


def test_every_state_is_counted_and_failures_by_reason(conninfo: str) -> None:
    fill(conninfo)
    with present(conninfo, "host:1:abc"):
        found = status_json(conninfo, 0)
    queue = found["queue"]
    assert queue["orders"] == {
        "PENDING": 2,
        "IN_PROGRESS": 1,
        "COMPLETED": 1,
        "CANCELLED": 1,
        "FAILED": 3,
    }
    assert queue["failed_by_reason"] == {"TOO_LATE": 2, "TIMED_OUT": 1}
    assert queue["exact"] is True
    assert 0 < queue["oldest_pending_seconds"] < 60
    assert 100 <= queue["oldest_in_progress_seconds"] < 160
    assert found["projection"]["position"] == found["projection"]["log_end"] > 0
    assert found["parked_orders"] == 0


def test_states_failures_releases_and_workers_are_printed(conninfo: str) -> None:
    fill(conninfo)
    with present(conninfo, "host:1:abc"), present(conninfo, "host:2:def"):
        lines = run_pulse("status", conninfo=conninfo).out.splitlines()
    assert lines[:3] == ["Orders", lines[1], lines[2]]
    assert lines[1].startswith("  PENDING      2  the oldest for ")
    assert re.match(r"  IN_PROGRESS  1  the oldest for 1 min [45]\d s", lines[2])
    assert lines[3:8] == [
        "  COMPLETED    1",
        "  CANCELLED    1",
        "  FAILED       3",
        "    TOO_LATE   2",
        "    TIMED_OUT  1",
    ]
    assert [line for line in lines if line.startswith("Releases  1 order due, the oldest for ")]
    assert "Workers  2 present" in lines
    held = r"  host:1:abc  1 order, the oldest for 1 min [45]\d s, present"
    assert [line for line in lines if re.fullmatch(held, line)]
    assert lines[-1] == "Healthy."


def test_claims_of_a_missing_worker_need_attention_after_the_timeout(conninfo: str) -> None:
    fill(conninfo)
    with present(conninfo, "host:2:def"):
        text = run_pulse("status", conninfo=conninfo, timeout_seconds=200).out
        assert re.search(r"the oldest for 1 min [45]\d s, gone", text)
        status_json(conninfo, 0, timeout_seconds=200)

        found = status_json(conninfo, 1, timeout_seconds=50)
        assert found["claims"]["by_worker"][0]["overdue"] == 1
        (need,) = found["needs"]
        assert need.startswith("workers that are gone hold 1 claim older than 50 s: start workers")
    with present(conninfo, "host:1:abc"):
        status_json(conninfo, 0, timeout_seconds=50)


def codes(found: dict[str, Any]) -> dict[str, bool]:
    """The notices by code, and whether each needs a person. No test here seals its database."""
    notices = {notice["code"]: notice["needs_person"] for notice in found["notices"]}
    assert notices.pop("not_sealed", False) is False
    return notices


def created_ago(seconds: float, count: int = 1) -> list[OrderCreated]:
    return orders_created(count, timestamp=datetime.now(UTC) - timedelta(seconds=seconds))


def test_orders_without_any_worker_need_attention_after_ten_seconds(
    conninfo: str,
) -> None:
    write(conninfo, *stored(created_ago(0, 2)))
    projected(conninfo)
    assert codes(status_json(conninfo, 0)) == {"no_worker": False}
    write(conninfo, *stored(created_ago(11)))
    projected(conninfo)
    ended = run_pulse("status", conninfo=conninfo)
    assert ended.exit_code == 1
    assert "Needs a person: no worker is present, with 3 orders waiting" in ended.out
    assert "start workers (`pulse background`, or `pulse up`)" in ended.out
    assert "Healthy" not in ended.out
    with present(conninfo, "host:1:abc"):
        assert codes(status_json(conninfo, 0)) == {}


def test_claims_of_missing_workers_count_as_waiting(conninfo: str) -> None:
    (created,) = created_ago(0)
    write(conninfo, *stored([created]))
    projected(conninfo)
    claim(conninfo, created.originator_id, "host:1:abc", seconds_ago=12)
    assert codes(status_json(conninfo, 1)) == {"no_worker": True}


def test_orders_that_wait_for_a_minute_despite_workers_need_attention(
    conninfo: str,
) -> None:
    write(conninfo, *stored(created_ago(70)))
    projected(conninfo)
    with present(conninfo, "host:1:abc"):
        assert codes(status_json(conninfo, 1)) == {"orders_wait": True}


def test_orders_for_newer_code_need_attention_after_a_minute(conninfo: str) -> None:
    now = datetime.now(UTC)
    write(conninfo, *stored([order_created(splitter_version=99, timestamp=now)]))
    projected(conninfo)
    assert codes(status_json(conninfo, 0)) == {"orders_for_newer_code": False}
    ago = now - timedelta(seconds=70)
    write(conninfo, *stored([order_created(splitter_version=99, timestamp=ago)]))
    projected(conninfo)
    assert codes(status_json(conninfo, 1)) == {"orders_for_newer_code": True}


def test_many_recent_failures_need_attention(
    conninfo: str,
) -> None:
    write_failed(conninfo, 4, minutes_ago=5)
    write_failed(conninfo, 9, minutes_ago=20)
    status_json(conninfo, 0)
    write_failed(conninfo, 1, minutes_ago=1)
    ended = run_pulse("status", conninfo=conninfo)
    assert ended.exit_code == 1
    said = "Needs a person: 5 orders FAILED in the last 15 min (5 TOO_LATE): `pulse orders failed`"
    assert said in ended.out


def write_failed(conninfo: str, count: int, minutes_ago: float) -> None:
    created = created_ago(60 * minutes_ago, count)
    write(conninfo, *stored(created))
    write(conninfo, *stored([splitting_failed(c, "TOO_LATE") for c in created]))
    projected(conninfo)


def as_owner(conninfo: str, *statements: str) -> None:
    """Statements that only the owner of the log can run."""
    with psycopg.connect(conninfo) as connection:
        for statement in statements:
            connection.execute(statement.encode())


DISABLE = "ALTER TABLE stored_events DISABLE TRIGGER stored_events_append_only"
SEQUENCE = "public.stored_events_notification_id_seq"


def test_a_log_that_lost_its_end_needs_attention_and_is_not_all_read(conninfo: str) -> None:
    created = orders_created(4, release=False)
    write(conninfo, *stored(created), *stored([slices_scheduled(c) for c in created]))
    projected(conninfo)
    as_owner(conninfo, DISABLE, "DELETE FROM stored_events WHERE notification_id > 2")
    ended = run_pulse("status", conninfo=conninfo)
    assert ended.exit_code == 1
    assert "position 8, beyond the log's end at 2" in ended.out
    assert "all read" not in ended.out
    assert "the log ends at 2, before the projected position 8" in ended.out
    assert codes(status_json(conninfo, 1)) == {
        "log_shorter_than_position": True,
        "orders_unlogged": True,
    }


def test_missing_events_in_the_log_need_attention(conninfo: str) -> None:
    created = orders_created(4, release=False)
    write(conninfo, *stored(created), *stored([slices_scheduled(c) for c in created]))
    projected(conninfo)
    as_owner(conninfo, DISABLE, "DELETE FROM stored_events WHERE notification_id IN (2, 6)")
    ended = run_pulse("status", conninfo=conninfo)
    assert ended.exit_code == 1
    order_id = created[1].originator_id
    assert f"order {order_id} is in the queue, created at position 2, with an event" in ended.out


def write_at(conninfo: str, position: int) -> None:
    (event,) = stored([order_created()])
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            "INSERT INTO stored_events"
            " (originator_id, originator_version, topic, state, notification_id)"
            " VALUES (%s, 1, %s, %s, %s)",
            (event.originator_id, event.topic, event.state, position),
        )


def test_a_log_that_refuses_appends_needs_attention(conninfo: str) -> None:
    with psycopg.connect(conninfo) as connection:
        connection.execute("LOCK TABLE stored_events IN SHARE MODE")
        result = run_pulse("status", conninfo=conninfo)
    assert result.exit_code == 1
    assert "no order is accepted: canceling statement due to lock timeout" in result.out


def test_a_role_without_insert_rights_is_reported(conninfo: str) -> None:
    as_owner(conninfo, "REVOKE INSERT ON stored_events FROM CURRENT_USER")
    role = f"pulse_{uuid4().hex[:12]}"
    as_owner(
        conninfo,
        f"CREATE ROLE {role} LOGIN",
        f"GRANT pulse_reader TO {role}",
    )
    try:
        result = run_pulse("status", conninfo=make_conninfo(conninfo, user=role))
        assert "if Pulse's processes run under this role, no order is accepted" in result.out
    finally:
        as_owner(conninfo, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_an_id_beyond_the_sequence_needs_attention_and_the_repair_is_printed(
    conninfo: str,
) -> None:
    write(conninfo, *stored([slices_scheduled(order_created())]))
    projected(conninfo)
    write_at(conninfo, 5000)
    found = status_json(conninfo, 1)
    assert codes(found)["id_beyond_sequence"]
    (need,) = [need for need in found["needs"] if "5000" in need]
    assert f"call setval('{SEQUENCE}', 5000) in SQL" in need
    as_owner(conninfo, f"SELECT setval('{SEQUENCE}', 5000)")
    projected(conninfo)
    assert "id_beyond_sequence" not in codes(status_json(conninfo, 1))


def test_a_sequence_below_the_end_of_the_log_needs_attention(conninfo: str) -> None:
    write(conninfo, *stored(orders_created(4)))
    as_owner(conninfo, f"SELECT setval('{SEQUENCE}', 2)")
    found = codes(status_json(conninfo, 1))
    assert found["sequence_below_log"]
    projected(conninfo)
    assert "sequence_below_position" not in codes(status_json(conninfo, 1))


def test_a_sequence_below_the_projected_position_needs_attention(conninfo: str) -> None:
    write(conninfo, *stored(orders_created(4)))
    projected(conninfo)
    as_owner(conninfo, f"SELECT setval('{SEQUENCE}', 2)")
    assert codes(status_json(conninfo, 1))["sequence_below_position"]


def test_an_order_that_the_projection_missed_needs_attention_and_is_named(conninfo: str) -> None:
    created = order_created()
    with psycopg.connect(conninfo) as late:
        (event,) = stored([created])
        late.execute(
            "INSERT INTO stored_events (originator_id, originator_version, topic, state)"
            " VALUES (%s, 1, %s, %s)",
            (event.originator_id, event.topic, event.state),
        )
        write(conninfo, *stored(orders_created(3)))
        projected(conninfo)
    ended = run_pulse("status", conninfo=conninfo)
    assert ended.exit_code == 1
    assert "Needs a person: 1 order of the log missing from the queue" in ended.out
    assert f"`pulse projections retry {created.originator_id}` adds it" in ended.out
    run_pulse("projections", "retry", str(created.originator_id), conninfo=conninfo)
    assert "orders_missing" not in codes(status_json(conninfo, 0))


def test_a_role_without_rights_to_sequence_and_audit_sees_the_rest(
    conninfo: str,
) -> None:
    role = f"pulse_{uuid4().hex[:12]}"
    tables = "stored_events, order_queue, pending_orders, due_orders, parked_orders"
    as_owner(
        conninfo,
        f"CREATE ROLE {role} LOGIN",
        f"GRANT SELECT ON {tables}, notification_tracking, pulse_schema TO {role}",
        f"GRANT SELECT ON order_queue_status, order_slices, log_identity TO {role}",
        f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO {role}",
    )
    try:
        found = status_json(make_conninfo(conninfo, user=role), 0)
        unreadable = {
            "sequence_unreadable": False,
            "audit_unreadable": False,
            "seal_unreadable": False,
        }
        assert codes(found) == {"append_refused": False, **unreadable}
    finally:
        as_owner(conninfo, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_slices_that_stay_due_without_a_releaser_need_attention(conninfo: str) -> None:
    late = order_created(timestamp=datetime.now(UTC) - timedelta(minutes=1))
    write(conninfo, *stored([late, slices_scheduled(late)]))
    projected(conninfo)
    found = status_json(conninfo, 1)
    assert codes(found) == {"no_releaser": True}
    assert found["releases"]["due_orders"] == 1
    assert 60 <= found["releases"]["oldest_due_seconds"] < 120
    with present(conninfo, "host:1:abc"):
        assert codes(status_json(conninfo, 1)) == {"releases_late": True}


@pytest.mark.parametrize(
    ("halted", "needs_person"),
    [
        (("--all",), False),
        (("--instrument", "NSE:RELIANCE"), False),
        (("--instrument", "NSE:TCS"), True),
        (("--caller", "algo"), True),
    ],
)
def test_slices_that_stay_due_need_attention_only_if_no_halt_covers_them(
    conninfo: str, halted: tuple[str, ...], *, needs_person: bool
) -> None:
    late = order_created(timestamp=datetime.now(UTC) - timedelta(minutes=1))
    write(conninfo, *stored([late, slices_scheduled(late)]))
    projected(conninfo)
    run_pulse("halt", *halted, "--reason", "test", conninfo=conninfo)
    projected(conninfo)
    with present(conninfo, "host:1:abc"):
        found = codes(status_json(conninfo, int(needs_person)))
        assert found == {"releases_halted": False, "releases_late": needs_person}


def test_a_parked_order_needs_attention(conninfo: str) -> None:
    park(conninfo)
    ended = run_pulse("status", conninfo=conninfo)
    assert ended.exit_code == 1
    assert "Needs a person: 1 order parked: `pulse projections status` says why." in ended.out


def test_a_projection_needs_attention_only_if_it_is_far_behind(
    conninfo: str,
) -> None:
    now = datetime.now(UTC)
    write(conninfo, *stored(orders_created(3)), recorded_at=now)
    found = status_json(conninfo, 0)
    assert (found["projection"]["position"], found["projection"]["log_end"]) == (0, 3)
    projected(conninfo)
    write(conninfo, *stored(orders_created(2)), recorded_at=now - timedelta(seconds=90))
    ended = run_pulse("status", conninfo=conninfo)
    assert ended.exit_code == 1
    assert re.search(r"position 3 of 5, 1 min [345]\d s behind", ended.out)
    assert re.search(
        r"Needs a person: the projection is (9|1[01])\d s behind: check that a Pulse process",
        ended.out,
    )


async def test_settled_orders_are_estimated_if_counting_is_slow(
    conninfo: str, database: Database
) -> None:
    # More rows than can be counted in a millisecond, and few enough to be their own sample.
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            """
            WITH created AS (
                INSERT INTO order_queue
                SELECT gen_random_uuid(), i, 1, now(), 2, 1, 1, true, '', 'BUY', '', '', i::text,
                       2, i, now(), NULL, s.state,
                       CASE s.state WHEN 'FAILED' THEN 'TOO_LATE' END, NULL, '', false, 0, 0,
                       CASE s.state WHEN 'FAILED' THEN 1 ELSE 0 END
                  FROM generate_series(1, 24000) i,
               LATERAL (SELECT (ARRAY['PENDING', 'COMPLETED', 'FAILED'])[i % 3 + 1] AS state) s
                RETURNING *)
            INSERT INTO pending_orders
            SELECT created_position, order_id, created_at, splitter_version, instrument
              FROM created WHERE state = 'PENDING'
            """
        )
    exact = await read_queue_counts(database)
    estimated = await read_queue_counts(database, max_exact_seconds=0.001)
    assert (exact.exact, estimated.exact) == (True, False)
    for overview in (exact, estimated):
        assert [overview.orders(s) for s in ("PENDING", "COMPLETED", "FAILED")] == [8_000] * 3
        assert overview.failed_by_reason == {"TOO_LATE": 8_000}


def test_without_data_status_reports_that_and_creates_none(tmp_path: Path) -> None:
    ended = run_pulse("status", data_dir=tmp_path / "nowhere")
    assert ended.exit_code == 3
    assert "there is no Pulse data" in ended.err
    assert not (tmp_path / "nowhere").exists()
