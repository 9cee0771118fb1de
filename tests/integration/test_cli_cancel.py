"""`pulse cancel`: cancels what is left of an order, and says what was released."""

import asyncio
import json
import os
import pwd
from datetime import timedelta
from uuid import uuid4

import msgspec
import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from pulse.application.in_process import InProcessOrders
from pulse.domain import OrderCancelled, SlicesScheduled, order_id_for
from pulse.eventstore import AppendOutcomeUnknown, AppendRefused
from pulse.settings import Settings
from tests.support.api import serving
from tests.support.cli import projected, run_pulse, write
from tests.support.events import (
    MAPPER,
    order_created,
    settled,
    slices_scheduled,
    splitting_failed,
    stored,
)

AUTHOR = f"cli:{pwd.getpwuid(os.getuid()).pw_name}"


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
    write(
        conninfo,
        *stored(
            [
                created,
                scheduled,
                *settled([created, scheduled], scheduled.slices[1].scheduled_at, 1e9),
            ]
        ),
    )
    ended = run_pulse("cancel", str(created.originator_id), conninfo=conninfo)
    assert (ended.exit_code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        f"order {created.originator_id} is cancelled",
        "cancelled: 60 shares in slices 3 to 5",
        f"by {AUTHOR}",
        "released before that: 40 shares in 2 slices, which stay released",
    ]
    assert all(len(line) <= 80 for line in ended.out.splitlines())


def test_repeated_it_says_who_cancelled_it_and_changes_nothing(conninfo: str) -> None:
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
        async with serving(Settings(database_url=conninfo)) as api:
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


def test_a_running_process_projects_it_at_once(conninfo: str) -> None:
    """The command notifies the other processes, whose poll is too slow for this test."""
    created = order_created()
    write(conninfo, *stored([created, slices_scheduled(created)]))
    order_id = str(created.originator_id)
    settings = Settings(database_url=conninfo, poll_interval_seconds=3600, release_slices=False)

    async def states(api: object) -> set[str]:
        listed = (await api.get("/pulse/internal/slices")).json()  # type: ignore[attr-defined]
        return {found["state"] for found in listed["slices"]}

    async def cancelled_while_serving() -> None:
        async with serving(settings) as api:
            while await states(api) != {"SCHEDULED"}:
                await asyncio.sleep(0.05)
            ended = await asyncio.to_thread(run_pulse, "cancel", order_id, conninfo=conninfo)
            assert ended.exit_code == 0
            while await states(api) != {"CANCELLED"}:
                await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(cancelled_while_serving(), 60))


@pytest.mark.parametrize("order_id", [str(uuid4()), "ouk_1"])
def test_an_unknown_order_is_one_line_and_1(conninfo: str, order_id: str) -> None:
    ended = run_pulse("cancel", order_id, conninfo=conninfo)
    assert (ended.exit_code, ended.out) == (1, "")
    assert ended.err.startswith("pulse: no order has the id")
    assert ended.err.count("\n") == 1


def test_nothing_to_cancel_is_one_line_with_the_shares_and_1(conninfo: str) -> None:
    failed, out = order_created(), order_created()
    scheduled = slices_scheduled(out)
    released = settled([out, scheduled], scheduled.slices[4].scheduled_at, 1e9)
    write(conninfo, *stored([failed, splitting_failed(failed), out, scheduled, *released]))
    for created, words in ((failed, "it failed"), (out, "all of its slices are settled")):
        ended = run_pulse("cancel", str(created.originator_id), "--json", conninfo=conninfo)
        assert (ended.exit_code, ended.out) == (1, "")
        assert ended.err.startswith(f"pulse: nothing of this order can be cancelled: {words}")
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
def test_a_failed_append_is_one_line_that_says_what_to_do_and_1(
    conninfo: str, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    async def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(InProcessOrders, "cancel", fail)
    ended = run_pulse("cancel", str(uuid4()), conninfo=conninfo)
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
