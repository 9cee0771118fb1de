"""`pulse verify`: the log is checked, and the queue is compared with it."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import msgspec
import psycopg
import pytest

from pulse.domain import MAX_SPLITS, Event, OrderCreated, SlicesScheduled
from pulse.evidence.findings import Fault
from pulse.evidence.verification import Verification
from tests.support.cli import Ended, projected, run_pulse, write
from tests.support.events import (
    ADDED_SINCE_VERSION_1,
    foreign_event,
    order_cancelled,
    order_created,
    slices_expired,
    slices_released,
    slices_scheduled,
    stored,
)
from tests.support.processes import ROOT

T0 = datetime(2026, 3, 2, 3, 45, tzinfo=UTC)
VERIFY = ("verify",)
ORDERS = 700
UNSEALED = "the log is not sealed: a history that was replaced as a whole would not be found\n"


def output_about_the_log(ended: Ended) -> str:
    """The output without the line about the seal; these logs are not sealed."""
    assert UNSEALED in ended.out
    return ended.out.replace(UNSEALED, "")


def completed(number: int, **changes: Any) -> tuple[OrderCreated, SlicesScheduled]:
    """The two events of a COMPLETED order; each number gives another order."""
    n = 2 + number % 19
    created = order_created(
        f"ouk_{number}",
        timestamp=T0 + timedelta(seconds=number, microseconds=number % 3 * 250_000),
        total_quantity=n * (1 + number % 1000),
        num_splits=n,
        duration_minutes=1 + number % 1440,
        randomize=number % 5 != 0,
        split_seed=f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}",
        **changes,
    )
    return created, slices_scheduled(created)


def altered(
    conninfo: str, order_id: object, change: Callable[[dict[str, Any]], None], version: int = 2
) -> None:
    """Alter a stored schedule as the table's owner, with its trigger disabled."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        where = "WHERE originator_id = %s AND originator_version = %s"
        key = (order_id, version)
        row = connection.execute(f"SELECT state FROM stored_events {where}", key).fetchone()
        assert row is not None
        state = json.loads(row[0])
        change(state)
        connection.execute(
            f"UPDATE stored_events SET state = %s {where}",
            (json.dumps(state, separators=(",", ":")).encode(), *key),
        )


def test_one_edited_quantity_among_several_pages_is_found(
    conninfo: str,
) -> None:
    orders = [completed(number) for number in range(ORDERS)]
    write(conninfo, *stored([event for order in orders for event in order]))
    slices = sum(len(split.slices) for _, split in orders)
    proved = run_pulse(*VERIFY, conninfo=conninfo)
    assert re.fullmatch(
        rf"1,400 events of {ORDERS} orders verified up to position 1,400 in [0-9.]+ s, "
        rf"{ORDERS} schedules of {slices:,} slices derived again: nothing was found\n",
        output_about_the_log(proved),
    )
    assert proved.exit_code == 0

    created, split = orders[651]

    def one_share_more(state: dict[str, Any]) -> None:
        state["slices"][2]["quantity"] += 1

    altered(conninfo, created.originator_id, one_share_more)
    found = run_pulse(*VERIFY, conninfo=conninfo)
    assert found.exit_code == 1
    was = split.slices[2]
    at = msgspec.to_builtins(was.scheduled_at)
    first, last = output_about_the_log(found).splitlines()
    assert first == (
        f"position 1,304: order {created.originator_id}: "
        "the schedule differs from the one derived from its creation: "
        f"slice 3 is stored as number 3, {was.quantity + 1} shares at {at}, "
        f"derived number 3, {was.quantity} shares at {at}; breaks quantities_sum_to_total"
    )
    assert last.endswith("derived again: 1 finding (1 SCHEDULE)")

    in_full = run_pulse(*VERIFY, str(created.originator_id), conninfo=conninfo)
    assert in_full.out.splitlines()[1].startswith("  quantities_sum_to_total: quantities sum to ")


def test_progress_is_shown_in_positions_on_stderr(
    conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(conninfo, *stored([event for n in range(20) for event in completed(n)]))
    monkeypatch.setattr("pulse.cli.terminal.PROGRESS_LINE_SECONDS", 0)
    monkeypatch.setattr(Verification, "window_events", 5)
    ended = run_pulse(*VERIFY, conninfo=conninfo)
    assert ended.err.splitlines()[-1] == "position 40 of 40"
    assert len(ended.err.splitlines()) == 9


def shorten(state: dict[str, Any]) -> None:
    del state["slices"][-1]


def move(state: dict[str, Any]) -> None:
    state["slices"][1]["scheduled_at"] = "2026-03-02T03:45:07.5Z"


def renumber(state: dict[str, Any]) -> None:
    state["splitter_version"] = 2


def reorder(state: dict[str, Any]) -> None:
    state["slices"] = [dict(reversed(list(s.items()))) for s in state["slices"]]


def make_unreadable(state: dict[str, Any]) -> None:
    state["slices"][0]["quantity"] = "many"


ALTERATIONS: list[tuple[Callable[[dict[str, Any]], None], str]] = [
    (
        shorten,
        "differs from the one derived from its creation: 8 slices are stored, 9 derived",
    ),
    (move, "slice 2 is stored as number 2, "),
    (renumber, "stored with splitter version 2, but the creation has 1"),
    (reorder, "the stored bytes of SlicesScheduled at version 2 are not those that Pulse writes"),
    (make_unreadable, "the event cannot be read: version 2 of stream "),
]


def name_of(value: object) -> str:
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize(("change", "message"), ALTERATIONS, ids=name_of)
def test_every_alteration_of_a_schedule_has_its_own_message(
    conninfo: str, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    created, split = completed(7)
    write(conninfo, *stored([created, split]))
    altered(conninfo, created.originator_id, change)
    ended = run_pulse(*VERIFY, conninfo=conninfo)
    assert ended.exit_code == 1
    assert message in ended.out.splitlines()[0]


CREATIONS: list[tuple[dict[str, Any], str]] = [
    (
        {"split_seed": "00000000000000fe"},
        "differs from the one derived from its creation: slice 1 ",
    ),
    ({"split_seed": "no seed"}, "the event cannot be read: version 1 of stream "),
    ({"split_seed": "FFFFFFFFFFFFFFFF"}, "the event cannot be read: version 1 of stream "),
    ({"num_splits": 1_000_000_000}, "the order was altered: Pulse never accepted such an order"),
    ({"total_quantity": 3}, "the order was altered: Pulse never accepted such an order"),
    ({"splitter_version": 9}, "not verified: this needs newer code"),
    ({"splitter_version": 0}, "the order was altered: there was never a splitter version 0"),
    (
        {"order_unique_key": "another"},
        "the order's id is wrong: its id is not derived from its key",
    ),
    ({"key_scope": "another"}, "the order's id is wrong: its id is not derived from its key"),
    ({"timestamp": datetime(2026, 3, 2, 3, 45)}, "the order was altered: its time is not in UTC"),  # noqa: DTZ001 - the fault itself
]


@pytest.mark.parametrize(("change", "message"), CREATIONS, ids=str)
def test_every_alteration_of_a_creation_is_found_with_its_message(
    conninfo: str, change: dict[str, Any], message: str
) -> None:
    created, split = completed(7)
    write(conninfo, *stored([msgspec.structs.replace(created, **change), split]))
    ended = run_pulse(*VERIFY, conninfo=conninfo)
    assert ended.exit_code == 1
    assert message in ended.out.splitlines()[0]


def test_a_schedule_without_a_creation_is_reported_and_the_others_are_verified(
    conninfo: str,
) -> None:
    _, orphan = completed(1)
    write(conninfo, *stored([orphan, *completed(2), *completed(3)]))
    ended = run_pulse(*VERIFY, conninfo=conninfo)
    assert ended.exit_code == 1
    assert "a version or position is wrong: version 1 is missing" in ended.out
    assert ended.out.endswith("1 CANNOT_FOLLOW, 1 VERSIONS)\n")


def test_foreign_events_and_orders_without_a_schedule_are_passed_over(conninfo: str) -> None:
    write(conninfo, *stored([order_created(), *completed(2)]), foreign_event())
    ended = run_pulse(*VERIFY, conninfo=conninfo)
    assert ended.exit_code == 0
    assert "1 schedule of 4 slices derived again: nothing was found" in ended.out


def test_an_empty_log_verifies_nothing(conninfo: str) -> None:
    ended = run_pulse(*VERIFY, conninfo=conninfo)
    assert (ended.exit_code, ended.err) == (0, "")
    assert output_about_the_log(ended).startswith("0 events of 0 orders verified up to position 0 ")


def test_no_position_is_passed_over_however_it_was_altered(conninfo: str) -> None:
    created, split = completed(7)
    write(conninfo, *stored([created, split]))
    altered(conninfo, created.originator_id, shorten)
    with psycopg.connect(conninfo) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(
            "UPDATE stored_events SET notification_id = -5 WHERE originator_version = 2"
        )
    ended = run_pulse(*VERIFY, conninfo=conninfo)
    assert "position -5: " in ended.out
    assert "differs from the one derived" in ended.out
    assert "version 2 is before version 1, which is at position 1" in ended.out


def test_an_unexpected_error_is_reported_and_the_others_are_verified(
    conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(created: OrderCreated) -> None:
        if created.order_unique_key == "ouk_1":
            raise LookupError("unforeseen")

    monkeypatch.setattr("pulse.evidence.order_checks.fault_of_creation", crash)
    write(conninfo, *stored([event for n in range(3) for event in completed(n)]))
    ended = run_pulse(*VERIFY, conninfo=conninfo)
    assert "the event cannot be read: LookupError" in ended.out
    assert ended.out.endswith("2 schedules of 6 slices derived again: 1 finding (1 UNREADABLE)\n")


def add(state: dict[str, Any]) -> None:
    state["remark"] = "added later"


def test_a_field_added_to_the_creation_is_found(conninfo: str) -> None:
    created, split = completed(7)
    write(conninfo, *stored([created, split]))
    altered(conninfo, created.originator_id, add, version=1)
    ended = run_pulse(*VERIFY, conninfo=conninfo)
    assert (
        "the stored bytes of OrderCreated at version 1 are not those that Pulse writes" in ended.out
    )


# What became of the slices


def released_expired_and_cancelled(number: int = 7) -> tuple[Event, ...]:
    """An order of 9 slices: two are released, two expire, one is released, four are cancelled."""
    history: tuple[Event, ...] = completed(number)
    history += (slices_released(*history, count=2),)
    history += (slices_expired(*history, count=2),)
    history += (slices_released(*history),)
    return (*history, order_cancelled(*history, reason="the desk closed"))


def of_class_version_1(state: dict[str, Any]) -> None:
    for name in ADDED_SINCE_VERSION_1:
        del state[name]


def test_orders_with_releases_expiries_and_cancellations_are_verified(conninfo: str) -> None:
    history = released_expired_and_cancelled()
    cancelled = order_created("cancelled")
    write(conninfo, *stored([*history, *completed(2), cancelled, order_cancelled(cancelled)]))
    ended = run_pulse(*VERIFY, conninfo=conninfo)
    assert "2 schedules of 13 slices derived again: nothing was found" in ended.out
    assert ended.exit_code == 0


def test_orders_of_class_version_1_are_verified_as_they_were_stored(conninfo: str) -> None:
    created, split = completed(7)
    old = msgspec.structs.replace(created, release=False)
    write(conninfo, *stored([created, split, order_cancelled(old, split)]))
    altered(conninfo, created.originator_id, of_class_version_1, version=1)
    ended = run_pulse(*VERIFY, conninfo=conninfo)
    assert "1 schedule of 9 slices derived again: nothing was found" in ended.out
    assert ended.exit_code == 0

    altered(conninfo, created.originator_id, add, version=1)
    ended = run_pulse(*VERIFY, conninfo=conninfo)
    assert "the stored bytes of OrderCreated at version 1 are not those" in ended.out


def one_more_share(state: dict[str, Any]) -> None:
    state["quantity"] += 1


def one_more_share_in_a_slice(state: dict[str, Any]) -> None:
    state["slices"][-1]["quantity"] += 1


def the_next_slice_too(state: dict[str, Any]) -> None:
    state["sequence_numbers"].append(state["sequence_numbers"][-1] + 1)


def a_slice_twice(state: dict[str, Any]) -> None:
    state["slices"].append(state["slices"][-1])


def no_slice(state: dict[str, Any]) -> None:
    state["slices"] = []


def another_side(state: dict[str, Any]) -> None:
    state["side"] = "SELL"


OUT_OF_PLACE: list[tuple[int, Callable[[dict[str, Any]], None], str]] = [
    (3, one_more_share_in_a_slice, "its slices are not the next unsettled ones"),
    (3, a_slice_twice, "its slices are not the next unsettled ones"),
    (3, no_slice, "it settles no slice"),
    (3, another_side, "its key, instrument or side is not the order's"),
    (4, one_more_share, "its slices have "),
    (4, the_next_slice_too, "its slices have "),
    (6, one_more_share, "its slices have "),
    (6, the_next_slice_too, "it does not cancel every unsettled slice"),
]


@pytest.mark.parametrize(("version", "change", "why"), OUT_OF_PLACE, ids=name_of)
def test_an_event_that_breaks_the_law_is_named_with_its_position_and_the_reason(
    conninfo: str, version: int, change: Callable[[dict[str, Any]], None], why: str
) -> None:
    history = released_expired_and_cancelled()
    order_id = history[0].originator_id
    write(conninfo, *stored([*history, *completed(2)]))
    altered(conninfo, order_id, change, version=version)
    ended = run_pulse(*VERIFY, conninfo=conninfo)
    assert ended.exit_code == 1
    line, last = output_about_the_log(ended).splitlines()
    assert line.startswith(
        f"position {version}: order {order_id}: the event cannot follow the ones before it: "
        f"{type(history[version - 1]).__name__} at version {version} of order {order_id} "
        f"cannot follow: {why}"
    )
    assert last.endswith("1 finding (1 CANNOT_FOLLOW)")
    answer = json.loads(run_pulse(*VERIFY, "--json", conninfo=conninfo).out)
    assert answer["faults"] == {"CANNOT_FOLLOW": 1}
    assert answer["findings"][0]["position"] == version


def test_slices_that_pulse_does_not_release_are_not_released(conninfo: str) -> None:
    created, split = completed(7)
    write(conninfo, *stored([created, split, slices_released(created, split)]))
    altered(conninfo, created.originator_id, of_class_version_1, version=1)
    ended = run_pulse(*VERIFY, conninfo=conninfo)
    assert "cannot follow: the slices of this order are not released" in ended.out


@pytest.mark.parametrize("version", [3, 4, 5, 6])
def test_a_field_added_to_a_later_event_is_found_at_its_position(
    conninfo: str, version: int
) -> None:
    history = released_expired_and_cancelled()
    order_id = history[0].originator_id
    write(conninfo, *stored(history))
    altered(conninfo, order_id, add, version=version)
    ended = run_pulse(*VERIFY, str(order_id), conninfo=conninfo)
    assert ended.exit_code == 1
    kind = type(history[version - 1]).__name__
    assert ended.out.startswith(
        f"position {version}: order {order_id}: the event was altered: the stored bytes of {kind} "
        f"at version {version} are not those that Pulse writes for its content, from byte "
    )


def test_an_event_deleted_between_others_is_found(conninfo: str) -> None:
    history = released_expired_and_cancelled()
    write(conninfo, *stored([event for event in history if event.originator_version != 4]))
    ended = run_pulse(*VERIFY, conninfo=conninfo)
    assert "version 4 is missing: version 5 follows version 3" in ended.out


def test_a_second_schedule_is_found(conninfo: str) -> None:
    created, split = completed(7)
    write(conninfo, *stored([created, split, msgspec.structs.replace(split, originator_version=3)]))
    ended = run_pulse(*VERIFY, conninfo=conninfo)
    assert ended.exit_code == 1
    assert "cannot follow: the order already has an outcome" in ended.out


def test_single_orders_can_be_verified_by_id(conninfo: str) -> None:
    first, second = completed(MAX_SPLITS), completed(3)
    pending = order_created("ouk_pending")
    write(conninfo, *stored([*first, *second, pending]))
    ended = run_pulse(*VERIFY, str(first[0].originator_id), conninfo=conninfo)
    assert f"1 schedule of {len(first[1].slices)} slices " in ended.out
    assert run_pulse(*VERIFY, str(pending.originator_id), conninfo=conninfo).exit_code == 0
    unknown = run_pulse(*VERIFY, "9ff54a4d-a8eb-5a4c-a146-a92918cb5546", conninfo=conninfo)
    assert (unknown.exit_code, unknown.err) == (
        1,
        "pulse: no order has the id 9ff54a4d-a8eb-5a4c-a146-a92918cb5546\n",
    )


def test_json_has_the_same_findings(conninfo: str) -> None:
    created, split = completed(7)
    write(conninfo, *stored([created, split, *completed(8)]))
    altered(conninfo, created.originator_id, shorten)
    ended = run_pulse(*VERIFY, "--json", conninfo=conninfo)
    answer = json.loads(ended.out)
    assert ended.exit_code == 1
    assert (answer["schedules"], answer["position"], answer["faults"]) == (2, 4, {"SCHEDULE": 1})
    assert answer["findings"][0] == {
        "order_id": str(created.originator_id),
        "position": 2,
        "fault": "SCHEDULE",
        "detail": "8 slices are stored, 9 derived",
        "broken_rules": answer["findings"][0]["broken_rules"],
    }
    rules = {breach["rule"] for breach in answer["findings"][0]["broken_rules"]}
    assert {"slices_are_numbered", "quantities_sum_to_total", "window_is_filled"} <= rules


# What it cannot verify


def make_creation_unreadable(state: dict[str, Any]) -> None:
    state["total_quantity"] = "many"


def of_newer_code(state: dict[str, Any]) -> None:
    state["class_version"] = 9


def test_orders_that_cannot_be_read_are_counted_and_the_exit_code_is_1(conninfo: str) -> None:
    unreadable, newer, tomorrow = (order_created(f"stuck_{n}") for n in range(3))
    write(conninfo, *stored([unreadable, newer, *completed(2), tomorrow]))
    altered(conninfo, unreadable.originator_id, make_creation_unreadable, version=1)
    altered(conninfo, newer.originator_id, of_newer_code, version=1)
    write(conninfo, foreign_event(tomorrow.originator_id, 2), foreign_event())
    with psycopg.connect(conninfo) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(
            "UPDATE stored_events SET topic = 'pulse.domain:OrderPaused'"
            " WHERE originator_id = %s AND originator_version = 2",
            (tomorrow.originator_id,),
        )

    ended = run_pulse(*VERIFY, conninfo=conninfo)
    assert ended.exit_code == 1
    *lines, last = output_about_the_log(ended).splitlines()
    assert last.endswith("3 findings (2 NEWER_CODE, 1 UNREADABLE)")
    findings = {line.split(": ")[1]: line for line in lines}
    assert set(findings) == {f"order {one.originator_id}" for one in (unreadable, newer, tomorrow)}
    cannot = "the event cannot be read: version 1 of "
    assert cannot in findings[f"order {unreadable.originator_id}"]
    assert "not verified: this needs newer code: " in findings[f"order {newer.originator_id}"]
    assert "pulse.domain:OrderPaused" in findings[f"order {tomorrow.originator_id}"]

    alone = run_pulse(*VERIFY, str(newer.originator_id), conninfo=conninfo)
    assert alone.exit_code == 1
    assert alone.out.endswith("1 finding (1 NEWER_CODE)\n")


def test_parked_orders_are_counted_and_the_exit_code_is_1(conninfo: str) -> None:
    created = order_created("parked")
    good = completed(2)
    write(conninfo, *stored([created, *good]))
    altered(conninfo, created.originator_id, make_creation_unreadable, version=1)
    projected(conninfo)

    ended = run_pulse(*VERIFY, conninfo=conninfo)
    assert ended.exit_code == 1
    parked = f"order {created.originator_id}: not verified: the order is parked: version 1 of "
    assert parked in ended.out
    assert ended.out.endswith("2 findings (1 PARKED, 1 UNREADABLE)\n")
    alone = run_pulse(*VERIFY, str(created.originator_id), conninfo=conninfo)
    assert "the order is parked" in alone.out
    assert run_pulse(*VERIFY, str(good[0].originator_id), conninfo=conninfo).exit_code == 0


ROLLED = order_created(
    "rolled",
    timestamp=T0,
    session_policy="ROLL",
    applied_policy="ROLL",
    window_starts_at=T0 + timedelta(hours=1),
    splitter_version=2,
    sessions=(
        (T0 + timedelta(hours=1), T0 + timedelta(hours=1, minutes=30)),
        (T0 + timedelta(days=1), T0 + timedelta(days=1, hours=6)),
    ),
    calendar_digest="0" * 64,
)


def test_schedules_in_sessions_are_verified(conninfo: str) -> None:
    write(conninfo, *stored([ROLLED, slices_scheduled(ROLLED)]))
    ended = run_pulse(*VERIFY, conninfo=conninfo)
    assert "1 schedule of 5 slices derived again: nothing was found" in ended.out
    assert ended.exit_code == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"session_policy": "CLIP"}, "CLIP was asked for and ROLL applied"),
        ({"applied_policy": "NONE", "session_policy": None}, "do not belong to the policy NONE"),
        ({"calendar_digest": None}, "do not belong to the policy ROLL"),
        ({"sessions": []}, "do not belong to the policy ROLL"),
        ({"splitter_version": 1}, "does not know trading sessions"),
        (
            {"window_starts_at": "2026-03-02T04:45:00.000001Z"},
            "does not start at the time that its terms give",
        ),
        ({"start_at": "2026-03-02T04:50:00Z"}, "does not start at the time that its terms give"),
        ({"sessions": [["2026-03-02T04:45:00Z", "2026-03-02T04:45:05Z"]]}, "are too short"),
        ({"window_starts_at": "2026-03-02T10:15:00+05:30"}, "is not in UTC"),
        (
            {"sessions": [["2026-03-02T10:15:00+05:30", "2026-03-02T15:30:00+05:30"]]},
            "is not in UTC",
        ),
    ],
)
def test_an_altered_window_is_found(conninfo: str, changes: dict[str, Any], message: str) -> None:
    write(conninfo, *stored([ROLLED, slices_scheduled(ROLLED)]))
    altered(conninfo, ROLLED.originator_id, lambda state: state.update(changes), version=1)
    ended = run_pulse(*VERIFY, conninfo=conninfo)
    assert ended.exit_code == 1
    assert message in ended.out


def test_a_window_of_no_sessions_that_was_moved_is_found(conninfo: str) -> None:
    created, split = completed(7)
    write(conninfo, *stored([created, split]))
    moved = {"window_starts_at": "2026-03-02T03:45:00.000001Z"}
    altered(conninfo, created.originator_id, lambda state: state.update(moved), version=1)
    ended = run_pulse(*VERIFY, conninfo=conninfo)
    assert "its window does not start at the time that its terms give" in ended.out


def test_the_reference_explains_every_fault() -> None:
    page = (ROOT / "docs" / "reference" / "verification.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE)
    assert explained == list(get_args(Fault))
