import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from pulse.application.event_view import LogEntry, event_view
from pulse.application.known_halts import KnownHalts
from pulse.application.past import AsOfQuery
from pulse.domain import Event, Halt, Halts, HaltTarget, fold
from pulse.eventstore import RecordedEvent
from pulse.http.console.order_facts import (
    Fact,
    cancellation_of,
    commands_for,
    facts_of,
    slice_rows,
    state_sentences,
    versions_of,
)
from pulse.projections.order_view import OrderView, view_of
from tests.support.events import (
    MAPPER,
    order_cancelled,
    order_created,
    slices_expired,
    slices_released,
    slices_scheduled,
    splitting_failed,
    timed_out,
)

AT = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)


def view(*history: Event, claimed_by: str | None = None) -> OrderView:
    """The order after these events."""
    order = fold(history)
    assert order is not None
    return view_of(order, 1, claimed_by, None if claimed_by is None else AT)


def entries(*history: Event) -> list[LogEntry]:
    """The events as they are read from the log."""
    return [_entry(event, position) for position, event in enumerate(history, 1)]


def _entry(event: Event, position: int) -> LogEntry:
    row = MAPPER.to_stored_event(event)
    record = RecordedEvent(
        position, event.originator_id, event.originator_version, row.topic, row.state, AT
    )
    return LogEntry(event_view(record, MAPPER), event)


def values(facts: list[Fact]) -> dict[str, Any]:
    return {fact.label: fact.value for fact in facts}


def test_requested_values_are_listed_with_links_to_the_list() -> None:
    created = order_created("k", timestamp=AT, instrument="NSE:M&M", placed_by="oms")

    facts = facts_of(created, view(created).window)

    found = values(facts)
    assert found["Key"] == "k"
    assert found["Total quantity"] == 100
    assert found["Requested start"] == "none: at acceptance"
    assert found["Session policy"] == "none requested; NONE applied"
    assert (found["Window from"], found["Window to"]) == (AT, AT + timedelta(hours=1))
    assert "Trading sessions" not in found
    paths = {fact.label: fact.path for fact in facts if fact.path}
    assert paths == {
        "Instrument": "/console/orders?instrument=NSE%3AM%26M",
        "Placed by": "/console/orders?placed_by=oms",
        "Trace id": "/console/orders?trace_id=t1",
    }


def test_a_requested_start_and_policy_are_listed() -> None:
    starts_at = AT + timedelta(hours=1)
    created = order_created(
        timestamp=AT,
        start_at=starts_at,
        window_starts_at=starts_at,
        session_policy="CLIP",
        applied_policy="CLIP",
        sessions=((AT, AT + timedelta(hours=6)),),
        release=False,
        randomize=False,
    )

    found = values(facts_of(created, None))

    assert found["Requested start"] == starts_at
    assert found["Session policy"] == "CLIP"
    assert found["Trading sessions"] == 1
    assert found["Released"] == "not by Pulse"
    assert found["Randomised"] == "no, an even split"
    assert "Window to" not in found


def test_each_status_has_its_sentences() -> None:
    created = order_created(timestamp=AT)
    split = slices_scheduled(created)

    assert state_sentences(view(created)) == ["It waits for a worker to split it."]
    assert state_sentences(view(created, claimed_by="w1")) == [
        "Worker w1 has claimed it and is splitting it."
    ]
    assert state_sentences(view(created, split)) == [
        "It is split. Slice 1 is the next to be released."
    ]
    assert state_sentences(view(created, order_cancelled(created)))[0].startswith(
        "It was cancelled before it was split"
    )
    assert state_sentences(view(created, splitting_failed(created)))[0] == (
        "SPLITTING_ERROR: a rule is broken."
    )
    assert "see the worker's log" in state_sentences(view(created, timed_out(created)))[-1]


def test_an_order_that_is_split_says_what_is_left() -> None:
    created = order_created(timestamp=AT)
    split = slices_scheduled(created)
    released = slices_released(created, split, count=2)
    cancelled = order_cancelled(created, split, released)
    expired = slices_expired(created, split, released)
    kept = order_created(timestamp=AT, release=False)

    assert state_sentences(view(created, split, released)) == [
        "It is split. Slice 3 is the next to be released."
    ]
    assert state_sentences(view(created, split, released, cancelled)) == [
        "Its remaining shares were cancelled after it was split.",
        "No share remains: the order no longer changes.",
    ]
    lost, *_ = state_sentences(view(created, split, released, expired))
    assert re.fullmatch(r"\d+ shares expired and will never be released\.", lost)
    assert state_sentences(view(kept, slices_scheduled(kept))) == [
        "It is split. Pulse does not release its slices: they stay scheduled."
    ]


def test_an_order_whose_releases_are_halted_says_by_whom_and_since_when() -> None:
    created = order_created(timestamp=AT, instrument="NSE:TCS", placed_by="algo")
    split = slices_scheduled(created)
    ended = view(created, split, order_cancelled(created, split))
    halts = Halts(
        halts=tuple(
            Halt(
                halt_id=UUID(int=n),
                target=target,
                reason="wrong model",
                halted_by="ops",
                halted_at=AT,
                lifted_at=AT if n == 3 else None,
            )
            for n, target in enumerate(
                (
                    HaltTarget(scope="INSTRUMENT", instrument="NSE:INFY"),
                    HaltTarget(scope="CALLER", placed_by="algo"),
                    HaltTarget(scope="INSTRUMENT", instrument="NSE:TCS"),
                    HaltTarget(scope="ALL"),
                )
            )
        )
    )

    assert state_sentences(view(created, split), KnownHalts(halts)) == [
        "It is split. Slice 1 and later ones are not released while a halt covers the order.",
        "Releases of orders of algo are halted by ops, since 2026-03-02 04:00:00 UTC: wrong model",
        "Releases of NSE:TCS are halted by ops, since 2026-03-02 04:00:00 UTC: wrong model",
    ]
    assert state_sentences(ended, KnownHalts(halts)) == state_sentences(ended)
    assert state_sentences(view(created, split), KnownHalts(Halts(), "written by newer code")) == [
        "It is split. The halts cannot be read, so no slice is released: written by newer code"
    ]


def test_slices_have_the_times_at_which_they_were_settled() -> None:
    created = order_created(timestamp=AT)
    split = slices_scheduled(created)
    late = split.slices[1].scheduled_at + timedelta(seconds=2.5)
    released = slices_released(created, split, count=2, at=late)
    expired = slices_expired(created, split, released)
    cancelled = order_cancelled(created, split, released, expired)
    history = (created, split, released, expired, cancelled)

    rows = slice_rows(view(*history), entries(*history))

    states = ["RELEASED", "RELEASED", "EXPIRED", "CANCELLED", "CANCELLED"]
    assert [row.state for row in rows] == states
    assert [row.settled_at for row in rows] == [
        late,
        late,
        expired.timestamp,
        cancelled.timestamp,
        cancelled.timestamp,
    ]
    assert [row.delay for row in rows][1:] == ["2.5 s", None, None, None]


def test_a_slice_that_is_released_at_its_time_has_a_delay_of_milliseconds() -> None:
    created = order_created(timestamp=AT)
    split = slices_scheduled(created)
    at = split.slices[0].scheduled_at + timedelta(milliseconds=12)
    history = (created, split, slices_released(created, split, at=at))

    first, second, *_ = slice_rows(view(*history), entries(*history))

    assert (first.delay, second.delay, second.settled_at) == ("12 ms", None, None)


@pytest.mark.parametrize(
    ("as_of", "curl", "replay"),
    [
        (AsOfQuery(), "", ""),
        (AsOfQuery(version=3), "?version=3", " --version 3"),
        (AsOfQuery(position=0), "?position=0", " --position 0"),
        (AsOfQuery(at=AT), "?at=2026-03-02T04:00:00%2B00:00", " --at 2026-03-02T04:00:00+00:00"),
    ],
)
def test_the_commands_show_the_order_as_of_the_same_point(
    as_of: AsOfQuery, curl: str, replay: str
) -> None:
    order_id = order_created("k").originator_id

    shown = commands_for(order_id, as_of, "http://localhost:8000/pulse", with_token=False)

    url = f"http://localhost:8000/pulse/internal/orders/{order_id}{curl}"
    expected = f"curl -s {url}" if not curl else f"curl -s '{url}'"
    assert [command.text for command in shown] == [expected, f"pulse replay {order_id}{replay}"]


def test_with_service_tokens_curl_sends_one_from_the_environment() -> None:
    order_id = order_created("k").originator_id

    curl, _ = commands_for(order_id, AsOfQuery(), "https://pulse", with_token=True)

    assert '-H "Authorization: Bearer $PULSE_SERVICE_TOKEN"' in curl.text


def test_versions_are_linked_where_they_exist() -> None:
    order_id = order_created("k").originator_id
    path = f"/console/orders/{order_id}"

    first, middle, last = [versions_of(order_id, n, 3, is_past=True) for n in (1, 2, 3)]

    assert (first.first, first.previous, first.following) == (None, None, f"{path}?version=2")
    assert (middle.first, middle.previous) == (f"{path}?version=1", f"{path}?version=1")
    assert middle.following == f"{path}?version=3"
    assert (last.previous, last.following) == (f"{path}?version=2", None)
    assert last.now == path


def test_a_cancellation_names_slices_and_shares() -> None:
    created = order_created(timestamp=AT)
    split = slices_scheduled(created)
    released = slices_released(created, split, count=4)
    shares = sum(s.quantity for s in released.slices)

    whole = cancellation_of(view(created))
    rest = cancellation_of(view(created, split, released))

    assert whole is not None
    assert rest is not None
    assert (whole.slices, whole.shares) == ("the whole order, before it is split", 100)
    assert (rest.slices, rest.shares, rest.released) == (
        "1 slice, number 5",
        100 - shares,
        shares,
    )
    assert cancellation_of(view(created, splitting_failed(created))) is None
