"""`pulse replay`: an order's history as text and as JSON."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from eventsourcing.persistence import StoredEvent

from pulse.domain import Event, OrderCreated, Slice, order_id_for
from tests.support.api import api_settings, serving
from tests.support.cli import claim, projected, run_pulse, write
from tests.support.events import (
    foreign_event,
    order_cancelled,
    order_created,
    settled,
    slices_scheduled,
    splitting_failed,
    stored,
    timed_out,
)

GOLDEN = Path(__file__).parent / "golden" / "replay.txt"
GOLDEN_OF_A_LIFE = GOLDEN.with_name("replay-releases.txt")
T0 = datetime(2026, 3, 2, 3, 45, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def replay_output(conninfo: str, created: OrderCreated, *outcome: Event) -> str:
    """The output of replay for an order with these events, without wrapped lines."""
    write(conninfo, *stored([created, *outcome]))
    ended = run_pulse("replay", str(created.originator_id), conninfo=conninfo)
    assert (ended.exit_code, ended.err) == (0, "")
    return ended.out


def test_a_history_is_printed_event_by_event_with_its_schedule(conninfo: str) -> None:
    created = order_created("ouk_golden", timestamp=T0, total_quantity=12_345, duration_minutes=375)
    split = slices_scheduled(created, worker="host:2:def")
    write(conninfo, *stored([created]), recorded_at=T0 + 3 * MILLISECOND)
    write(conninfo, *stored([split]), recorded_at=split.timestamp - MILLISECOND / 2)

    ended = run_pulse("replay", str(created.originator_id), conninfo=conninfo)

    assert ended.out == GOLDEN.read_text(encoding="utf-8")
    assert (ended.exit_code, ended.err) == (0, "")


def test_each_state_of_a_slice_is_drawn_differently_and_a_release_is_one_line(
    conninfo: str,
) -> None:
    created = order_created("ouk_golden", timestamp=T0, total_quantity=12_345, duration_minutes=375)
    split = slices_scheduled(created, worker="host:2:def")
    history: list[Event] = [created, split]
    for s in split.slices[:2]:
        history += settled(history, s.scheduled_at + 12 * MILLISECOND)
    history += settled(history, split.slices[2].scheduled_at + timedelta(seconds=70))
    at = history[-1].timestamp + timedelta(seconds=1)
    history.append(order_cancelled(*history, at=at, reason="the fund is closed"))
    for event in history:
        write(conninfo, *stored([event]), recorded_at=event.timestamp + MILLISECOND)

    ended = run_pulse("replay", str(created.originator_id), conninfo=conninfo)

    assert ended.out == GOLDEN_OF_A_LIFE.read_text(encoding="utf-8")
    assert (ended.exit_code, ended.err) == (0, "")


def test_a_hundred_releases_are_a_hundred_lines(conninfo: str) -> None:
    created = order_created(num_splits=100, total_quantity=1_000_000_000, duration_minutes=1440)
    history: list[Event] = [created, slices_scheduled(created)]
    for s in slices_scheduled(created).slices[:-1]:
        history += settled(history, s.scheduled_at)
    write(conninfo, *stored(history))
    lines = run_pulse("replay", str(created.originator_id), conninfo=conninfo).out.splitlines()
    numbers = [n for n, line in enumerate(lines) if "SlicesReleased" in line]
    assert numbers == list(range(numbers[0], numbers[0] + 99))
    assert lines[-3] == "What is left"
    assert lines[-2].endswith(" shares released")
    assert lines[-1].startswith("  Slice 100 is the next: due at ")


def test_the_remaining_shares_of_an_order_are_printed(conninfo: str) -> None:
    for created, words in (
        (order_created(), "Slice 1 is the next: due at"),
        (order_created(release=False), "Pulse does not release the slices of this order"),
    ):
        text = replay_output(conninfo, created, slices_scheduled(created))
        assert "What is left\n  100 shares remaining\n" in text
        assert words in text
    created = order_created()
    text = replay_output(conninfo, created, order_cancelled(created))
    assert "is CANCELLED\n" in text
    assert "tester cancelled what was left of it, 100 shares.\n" in text
    assert "  100 shares cancelled\n  No share remains" in text


def test_the_drawing_is_plain_ascii_in_a_pipe_whatever_the_terminal_is(
    conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "300")
    created = order_created(num_splits=100, total_quantity=1_000_000_000, duration_minutes=1440)
    lines = replay_output(conninfo, created, slices_scheduled(created)).splitlines()
    bars = [line for line in lines if line.endswith("-")]
    assert len(bars) == 100
    assert max(map(len, bars)) == 79
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert "  sum 1,000,000,000 of 1,000,000,000 shares; every rule of a schedule holds" in lines


def test_json_equals_the_answer_of_the_api(conninfo: str) -> None:
    created = order_created()
    order_id = str(created.originator_id)
    write(conninfo, *stored([created, slices_scheduled(created)]))

    async def ask() -> bytes:
        async with serving(api_settings(conninfo)) as api:
            return (await api.get(f"/pulse/internal/orders/{order_id}/events")).content

    ended = run_pulse("replay", order_id, "--json", conninfo=conninfo)
    assert ended.exit_code == 0
    assert ended.out.encode() == asyncio.run(ask()) + b"\n"


@pytest.mark.parametrize(
    "order_id", ["3f2a8c1e-0000-4000-8000-000000000001", "ouk_1", "x" * 500, ""]
)
def test_an_unknown_order_id_is_one_error_line_and_exit_code_1(
    conninfo: str, order_id: str
) -> None:
    for machine in ([], ["--json"]):
        ended = run_pulse("replay", order_id, *machine, conninfo=conninfo)
        assert (ended.exit_code, ended.out) == (1, "")
        assert ended.err.startswith("pulse: no order has the id")
        assert ended.err.count("\n") == 1
        assert len(ended.err) < 250


@pytest.mark.parametrize(
    ("reason", "what_to_do"),
    [
        ("TOO_LATE", "`pulse status`"),
        ("SPLITTING_ERROR", "report it"),
        ("SOMETHING_NEW", "under a new key"),
    ],
)
def test_a_failed_order_is_printed_with_reason_and_advice(
    conninfo: str, reason: str, what_to_do: str
) -> None:
    created = order_created()
    text = replay_output(conninfo, created, splitting_failed(created, reason=reason))
    assert "is FAILED" in text
    assert f"{reason}: a rule is broken" in text
    assert what_to_do in text
    assert "FAILED is final" in text
    assert "Schedule" not in text


def test_a_timed_out_order_is_printed_with_its_worker_and_advice(conninfo: str) -> None:
    created = order_created()
    text = replay_output(conninfo, created, timed_out(created))
    assert "did not split it within 300 s of its first claim; monitor-1 timed it out" in text
    assert "TIMED_OUT: claimed by worker-1" in text
    assert "place it again under a new key" in text


def test_a_pending_order_is_printed_with_what_it_waits_for(conninfo: str) -> None:
    created = order_created()
    text = replay_output(conninfo, created)
    assert "is PENDING" in text
    assert "`pulse status` says whether one is present" in text
    projected(conninfo)
    claim(conninfo, created.originator_id, "host:9:abc")
    text = run_pulse("replay", str(created.originator_id), conninfo=conninfo).out
    assert "is IN_PROGRESS" in text
    assert "Worker host:9:abc, which claimed it at" in text


def test_an_unreadable_event_is_printed_as_stored(conninfo: str) -> None:
    created = order_created()
    write(conninfo, *stored([created]))
    write(conninfo, StoredEvent(created.originator_id, 2, "pulse.domain:TimedOut", b'{"a":7}'))
    projected(conninfo)
    ended = run_pulse("replay", str(created.originator_id), conninfo=conninfo)
    assert ended.exit_code == 0
    assert "cannot be read" in ended.out
    assert 'as stored: {"a":7}' in ended.out
    assert "`pulse projections status`" in ended.out
    assert "An order to BUY 100 shares" in ended.out


def test_a_foreign_stream_is_printed_without_control_codes(conninfo: str) -> None:
    event = foreign_event(state=b'{"text":"\\u001b[31mred\\u202e"}')
    write(conninfo, event)
    ended = run_pulse("replay", str(event.originator_id), conninfo=conninfo)
    assert ended.exit_code == 0
    assert "elsewhere:Happened" in ended.out
    assert "its stream has no event of Pulse" in ended.out
    assert all(line.isprintable() for line in ended.out.splitlines())


def test_a_schedule_that_breaks_a_rule_is_printed_with_the_rule(conninfo: str) -> None:
    created = order_created(num_splits=2, timestamp=T0)
    split = slices_scheduled(created)
    first = Slice(sequence_number=1, quantity=1, scheduled_at=T0)
    broken = type(split)(
        **{name: getattr(split, name) for name in split.__struct_fields__ if name != "slices"},
        slices=(first, split.slices[1]),
    )
    text = replay_output(conninfo, created, broken)
    assert "a rule of a schedule is broken" in text
    assert "quantities_sum_to_total" in text


def test_json_has_the_type_of_every_event(conninfo: str) -> None:
    created = order_created()
    write(conninfo, *stored([created, timed_out(created)]))
    ended = run_pulse("replay", str(created.originator_id), "--json", conninfo=conninfo)
    events = json.loads(ended.out)["events"]
    assert [event["type"] for event in events] == ["OrderCreated", "TimedOut"]


def test_an_order_is_found_by_its_key(conninfo: str) -> None:
    created = order_created("key of one")
    other = order_created("k", key_scope="i|s", originator_id=order_id_for("i|s", "k"))
    write(conninfo, *stored([created, other]))
    by_id = run_pulse("replay", str(created.originator_id), conninfo=conninfo)
    by_key = run_pulse("replay", "--key", "key of one", conninfo=conninfo)
    assert (by_key.exit_code, by_key.out) == (0, by_id.out)
    ended = run_pulse("replay", "--key", "k", "--key-scope", "i|s", "--json", conninfo=conninfo)
    assert json.loads(ended.out)["order_id"] == str(other.originator_id)


def test_a_key_that_no_order_of_the_scope_has_is_named(conninfo: str) -> None:
    ended = run_pulse("replay", "--key", "k", conninfo=conninfo)
    assert ended.exit_code == 1
    assert "no order has the key k in this scope" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--key-scope", "i|s"],
        ["9ff54a4d-a8eb-5a4c-a146-a92918cb5546", "--key", "k"],
        ["--key", ""],
        ["--key", "k", "--key-scope", "elsewhere"],
    ],
)
def test_neither_or_both_of_id_and_key_is_wrong_usage(conninfo: str, arguments: list[str]) -> None:
    ended = run_pulse("replay", *arguments, conninfo=conninfo)
    assert ended.exit_code == 2


def in_sessions() -> OrderCreated:
    """An order that rolls over four sessions of ten minutes."""
    opens = [T0 + timedelta(days=day) for day in range(4)]
    return order_created(
        timestamp=T0 - timedelta(hours=1),
        start_at=T0,
        window_starts_at=T0,
        applied_policy="ROLL",
        duration_minutes=35,
        splitter_version=2,
        sessions=tuple((at, at + timedelta(minutes=10)) for at in opens),
        calendar_digest="0" * 64,
    )


def test_a_window_in_sessions_is_shown_with_what_was_asked(conninfo: str) -> None:
    created = in_sessions()
    shown = replay_output(conninfo, created, slices_scheduled(created))
    assert (
        "  requested start: 2026-03-02T03:45:00.000000Z\n"
        "  session policy ROLL, requested: none, so the default applies\n"
        "  from 2026-03-02T03:45:00.000000Z to 2026-03-05T03:50:00.000000Z\n"
        "  in the session from 2026-03-02T03:45:00.000000Z to 2026-03-02T03:55:00.000000Z\n"
        "  in the session from 2026-03-03T03:45:00.000000Z to 2026-03-03T03:55:00.000000Z\n"
        "  in the session from 2026-03-04T03:45:00.000000Z to 2026-03-04T03:55:00.000000Z\n"
        "  and in 1 more, the last until 2026-03-05T03:55:00.000000Z\n"
    ) in shown
    assert "every rule of a schedule holds" in shown


def test_the_requested_policy_is_shown(conninfo: str) -> None:
    created = order_created(session_policy="NONE")
    shown = replay_output(conninfo, created, slices_scheduled(created))
    assert "  session policy NONE, requested: NONE\n" in shown


@pytest.fixture
def lived(conninfo: str) -> tuple[str, str]:
    """The database, and an order that was split after a second and cancelled after a minute."""
    created = order_created(timestamp=T0)
    split = slices_scheduled(created)
    cancelled = order_cancelled(created, split, at=T0 + timedelta(seconds=60))
    for event in (created, split, cancelled):
        write(conninfo, *stored([event]), recorded_at=event.timestamp + MILLISECOND)
    return conninfo, str(created.originator_id)


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        (("--version", "2"), " as of position 2, 2026-03-02T03:45:01.001000Z was COMPLETED"),
        (("--position", "1"), " as of position 1, 2026-03-02T03:45:00.001000Z was PENDING"),
        (
            ("--at", "2026-03-02T09:15:59+05:30"),
            " as of position 2, 2026-03-02T03:45:59.000000Z was COMPLETED",
        ),
    ],
)
def test_an_order_is_printed_as_of_a_point_in_its_past(
    lived: tuple[str, str], point: tuple[str, str], expected: str
) -> None:
    conninfo, order_id = lived
    ended = run_pulse("replay", order_id, *point, conninfo=conninfo)
    assert (ended.exit_code, ended.err) == (0, "")
    assert ended.out.splitlines()[0] == f"Order {order_id}{expected}"
    assert "OrderCancelled" not in ended.out
    assert "shares cancelled" not in ended.out
    as_json = run_pulse("replay", order_id, *point, "--json", conninfo=conninfo)
    versions = [event["version"] for event in json.loads(as_json.out)["events"]]
    assert versions == ([1] if "PENDING" in expected else [1, 2])


@pytest.mark.parametrize(
    ("point", "exit_code", "message"),
    [
        (("--version", "0"), 2, "--version"),
        (("--version", "4"), 1, "the order has only 3 versions"),
        (("--position", "0"), 1, "the order did not exist then"),
        (("--position", "4"), 1, "position 4 is beyond the log's end, which is 3"),
        (("--at", "2026-03-02T03:44:59Z"), 1, "the order did not exist then"),
        (("--at", "9999-01-01T00:00:00Z"), 1, "the time is in the future"),
        (("--at", "2026-03-02T03:44:59"), 2, "--at: is not a valid time"),
        (("--version", "1", "--position", "1"), 2, "--position: is given together with version"),
    ],
)
def test_a_point_that_does_not_exist_is_an_error(
    lived: tuple[str, str], point: tuple[str, ...], exit_code: int, message: str
) -> None:
    conninfo, order_id = lived
    ended = run_pulse("replay", order_id, *point, conninfo=conninfo)
    assert (ended.exit_code, ended.out) == (exit_code, "")
    assert message in ended.err
