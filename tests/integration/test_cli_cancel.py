"""`pulse cancel`: it cancels the remaining slices, and prints the released ones."""

import asyncio
import json
import os
import pwd
from datetime import timedelta

import msgspec
import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from pulse.application.in_process import InProcessOrders
from pulse.domain import Event, OrderCancelled, OrderCreated, SlicesScheduled, order_id_for
from pulse.eventstore import LOG_CHANNEL, AppendOutcomeUnknown, AppendRefused
from tests.support.api import api_settings, serving
from tests.support.cli import projected, run_pulse, write
from tests.support.events import (
    MAPPER,
    order_created,
    settled,
    slices_scheduled,
    splitting_failed,
    stored,
)

UNKNOWN_ORDER_ID = "3f2a8c1e-0000-4000-8000-000000000001"
AUTHOR = f"cli:{pwd.getpwuid(os.getuid()).pw_name}"


def released(created: OrderCreated, scheduled: SlicesScheduled, count: int) -> list[Event]:
    """The releases of the first `count` slices, each at its time."""
    history: list[Event] = [created, scheduled]
    for s in scheduled.slices[:count]:
        history += settled(history, s.scheduled_at)
    return history[2:]


def last_event(conninfo: str) -> OrderCancelled:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(
            "SELECT originator_id, originator_version, topic, state FROM stored_events"
            " ORDER BY notification_id DESC LIMIT 1"
        ).fetchone()
    assert row is not None
    event = MAPPER.event_of(StoredEvent(row[0], row[1], row[2], bytes(row[3])))
    assert isinstance(event, OrderCancelled)
    return event


def test_an_order_that_is_not_split_is_cancelled_whole(conninfo: str) -> None:
    created = order_created()
    write(conninfo, *stored([created]))
    ended = run_pulse(
        "cancel", str(created.originator_id), "--reason", "fund closed", conninfo=conninfo
    )
    assert (ended.exit_code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        f"order {created.originator_id} is cancelled",
        "cancelled: 100 shares, before it was split",
        f"by {AUTHOR}, reason: fund closed",
    ]
    event = last_event(conninfo)
    assert (event.cancelled_by, event.reason) == (AUTHOR, "fund closed")
    assert event.recorded_by.component == "cli"
    assert event.trace.trace_source == event.trace.request_source == "PULSE_CLI:cancel"


def test_released_slices_are_named(conninfo: str) -> None:
    created = order_created(randomize=False)
    scheduled = slices_scheduled(created)
    write(conninfo, *stored([created, scheduled, *released(created, scheduled, 2)]))
    ended = run_pulse("cancel", str(created.originator_id), conninfo=conninfo)
    assert (ended.exit_code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        f"order {created.originator_id} is cancelled",
        "cancelled: 60 shares in slices 3 to 5",
        f"by {AUTHOR}",
        "released before that: 40 shares in 2 slices, which stay released",
    ]
    assert all(len(line) <= 80 for line in ended.out.splitlines())


def test_a_repeated_cancel_names_the_first_author_and_changes_nothing(conninfo: str) -> None:
    created = order_created()
    write(conninfo, *stored([created]))
    run_pulse("cancel", str(created.originator_id), "--reason", "first", conninfo=conninfo)
    first = last_event(conninfo)
    ended = run_pulse("cancel", str(created.originator_id), "--reason", "again", conninfo=conninfo)
    assert (ended.exit_code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0].startswith(f"order {created.originator_id} was cancelled before, at 20")
    assert lines[2:] == [f"by {AUTHOR}, reason: first", "nothing was changed"]
    assert last_event(conninfo) == first


def test_json_is_the_answer_of_the_api(conninfo: str) -> None:
    created = order_created()
    order_id = str(created.originator_id)
    write(conninfo, *stored([created, slices_scheduled(created)]))

    async def read() -> bytes:
        async with serving(api_settings(conninfo)) as api:
            return (await api.get(f"/pulse/internal/orders/{order_id}")).content

    ended = run_pulse("cancel", order_id, "--json", conninfo=conninfo)
    assert (ended.exit_code, ended.err) == (0, "")
    assert ended.out.encode() == asyncio.run(read()) + b"\n"
    assert json.loads(ended.out)["quantities"]["cancelled"] == 100


def test_a_gateway_callers_order_can_be_cancelled(conninfo: str) -> None:
    scope = "https://issuer.example|alice"
    created = order_created("k", originator_id=order_id_for(scope, "k"), key_scope=scope)
    write(conninfo, *stored([created]))
    assert run_pulse("cancel", str(created.originator_id), conninfo=conninfo).exit_code == 0


def test_the_other_processes_are_notified(conninfo: str) -> None:
    created = order_created()
    write(conninfo, *stored([created]))
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(f"LISTEN {LOG_CHANNEL}")
        assert run_pulse("cancel", str(created.originator_id), conninfo=conninfo).exit_code == 0
        assert len(list(connection.notifies(timeout=20, stop_after=1))) == 1


@pytest.mark.parametrize("order_id", [UNKNOWN_ORDER_ID, "ouk_1"])
def test_an_unknown_order_is_one_error_line_and_exit_code_1(conninfo: str, order_id: str) -> None:
    ended = run_pulse("cancel", order_id, conninfo=conninfo)
    assert (ended.exit_code, ended.out) == (1, "")
    assert ended.err.startswith("pulse: no order has the id")
    assert ended.err.count("\n") == 1


def test_nothing_to_cancel_is_one_error_line_and_exit_code_1(conninfo: str) -> None:
    failed, out = order_created(), order_created()
    scheduled = slices_scheduled(out)
    settled = stored([out, scheduled, *released(out, scheduled, 5)])
    write(conninfo, *stored([failed, splitting_failed(failed)]), *settled)
    for created, words in ((failed, "it failed"), (out, "all of its slices are settled")):
        ended = run_pulse("cancel", str(created.originator_id), "--json", conninfo=conninfo)
        assert (ended.exit_code, ended.out) == (1, "")
        assert ended.err.startswith(f"pulse: this order cannot be cancelled: {words}")
        assert ended.err.count("\n") == 1
    assert ended.err.endswith(" (100 shares released)\n")


def test_a_parked_order_is_refused(conninfo: str) -> None:
    created = order_created()
    broken = StoredEvent(created.originator_id, 2, SlicesScheduled.TOPIC, b"broken")
    write(conninfo, *stored([created]), broken)
    projected(conninfo)
    ended = run_pulse("cancel", str(created.originator_id), conninfo=conninfo)
    assert (ended.exit_code, ended.out) == (1, "")
    assert "its events cannot be read" in ended.err


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (AppendRefused("the disk is full"), "nothing was cancelled: the disk is full"),
        (AppendOutcomeUnknown("no answer"), "it is not known whether the order is cancelled"),
    ],
)
def test_a_failed_append_is_one_line_with_advice_and_exit_code_1(
    conninfo: str, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    async def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(InProcessOrders, "cancel", fail)
    ended = run_pulse("cancel", UNKNOWN_ORDER_ID, conninfo=conninfo)
    assert (ended.exit_code, ended.out) == (1, "")
    assert ended.err.startswith(f"pulse: {words}")
    assert ended.err.endswith("; run this again\n")


def test_control_characters_of_a_reason_do_not_reach_the_terminal(conninfo: str) -> None:
    created = order_created()
    write(conninfo, *stored([created]))
    ended = run_pulse(
        "cancel", str(created.originator_id), "--reason", "a\x1b[2Jb", conninfo=conninfo
    )
    assert "reason: a\\x1b[2Jb" in ended.out


def test_the_event_has_the_time_of_the_database(conninfo: str) -> None:
    created = order_created()
    write(conninfo, *stored([created]))
    run_pulse("cancel", str(created.originator_id), conninfo=conninfo)
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("SELECT max(recorded_at) FROM stored_events").fetchone()
    assert row is not None
    assert abs(row[0] - last_event(conninfo).timestamp) < timedelta(seconds=30)
    assert msgspec.structs.astuple(last_event(conninfo))
