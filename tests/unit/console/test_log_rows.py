"""Events as the log page shows them, and the verdict about the seal."""

from datetime import UTC, datetime
from typing import Any, get_args
from uuid import UUID

import msgspec
import pytest

from pulse.application.event_view import EventType, EventView, LogEntry, log_entry
from pulse.application.seal_status import SealStatus
from pulse.domain import Event
from pulse.eventstore import RecordedEvent
from pulse.evidence.note import Checkpoint
from pulse.evidence.state import SealHealth
from pulse.http.console.log import verdict_of
from pulse.http.console.log_events import MAX_JSON_CHARACTERS, event_row
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
from tests.support.timed_logs import halted

NOON = datetime(2026, 1, 5, 6, 30, tzinfo=UTC)
HEALTH = SealHealth(
    verifier_key="pulse.example/log+00000000+AQ==",
    size=3,
    position=4,
    checkpoint="…",
    checkpoint_size=3,
    idle_seconds=0.1,
    behind_seconds=0.0,
    last_event_in_log=True,
)
STATUS = SealStatus(
    health=HEALTH,
    checkpoint=Checkpoint("pulse.example/log", 3, bytes(32)),
    key_name="pulse.example/log",
    signature_fault=None,
    key_origin="PROCESS",
    has_root=True,
)


def entry_of(event: Event) -> LogEntry:
    stored = MAPPER.to_stored_event(event)
    record = RecordedEvent(
        1, event.originator_id, stored.originator_version, stored.topic, stored.state, NOON
    )
    return log_entry(record, MAPPER)


def unreadable(type_: str, **data: Any) -> LogEntry:
    return LogEntry(EventView(1, UUID(int=1), 1, type_, None, NOON, data), None)


CREATED = order_created("key", timestamp=NOON, placed_by="desk")
SCHEDULED = slices_scheduled(CREATED)


@pytest.mark.parametrize(
    ("event", "actor", "summary"),
    [
        (CREATED, "desk", "BUY 100 shares of NSE:RELIANCE, key key"),
        (SCHEDULED, "worker-1", "5 slices of 100 shares in all"),
        (splitting_failed(CREATED, "TOO_LATE"), "worker-1", "TOO_LATE: a rule is broken"),
        (timed_out(CREATED), "monitor-1", "claimed by worker-1"),
        (order_cancelled(CREATED, reason="typo"), "tester", "100 shares: typo"),
        (order_cancelled(CREATED), "tester", "100 shares"),
        (slices_expired(CREATED, SCHEDULED), "api", " shares: RELEASE_TOO_LATE"),
        (slices_released(CREATED, SCHEDULED), "api", " shares, BUY NSE:RELIANCE"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, msgspec.Struct) else "",
)
def test_an_event_has_its_summary_and_its_author(event: Event, actor: str, summary: str) -> None:
    row = event_row(entry_of(event), whole=True)
    assert summary in row.summary
    assert row.actor
    if not isinstance(event, type(timed_out(CREATED))):
        assert row.actor == actor


@pytest.mark.parametrize(
    ("target", "summary"),
    [
        ({"scope": "ALL"}, "everything: outage"),
        ({"scope": "INSTRUMENT", "instrument": "NSE:TCS"}, "NSE:TCS: outage"),
        ({"scope": "CALLER", "placed_by": "algo-desk"}, "algo-desk: outage"),
    ],
    ids=lambda value: value["scope"] if isinstance(value, dict) else "",
)
def test_the_summary_of_a_halt_has_its_target_and_author(
    target: dict[str, Any], summary: str
) -> None:
    event = msgspec.structs.replace(halted(1), halted_by="ops", reason="outage", **target)
    row = event_row(entry_of(event), whole=True)
    assert (row.summary, row.actor, row.kind) == (summary, "ops", "halted")


@pytest.mark.parametrize("type_", get_args(EventType))
@pytest.mark.parametrize("data", [{}, {"quantity": "many", "slices": [1], "reason": 5}])
def test_an_event_with_unexpected_content_is_shown_as_it_is(
    type_: str, data: dict[str, Any]
) -> None:
    row = event_row(unreadable(type_, **data), whole=True)
    assert '"type": ' in row.json
    assert row.summary == ""


def test_json_is_cut_in_a_list_and_complete_for_a_single_event() -> None:
    event = unreadable("other:Thing", text="x" * 5_000)
    listed, alone = event_row(event, whole=False), event_row(event, whole=True)
    assert (len(listed.json), listed.cut) == (MAX_JSON_CHARACTERS, True)
    assert (len(alone.json) > 5_000, alone.cut) == (True, False)


def test_json_is_escaped_and_keeps_big_numbers() -> None:
    row = event_row(unreadable("other:Thing", text="</pre><b>&\u202e", big=2**80), whole=True)
    assert "&lt;/pre&gt;&lt;b&gt;&amp;\\u202e" in row.json
    assert str(2**80) in row.json


def changed(health: dict[str, Any] | None = None, **changes: Any) -> SealStatus:
    new = msgspec.structs.replace(HEALTH, **(health or {}))
    return msgspec.structs.replace(STATUS, health=new, **changes)


@pytest.mark.parametrize(
    ("status", "style", "text"),
    [
        (STATUS, "notice-good", "valid for the key of this process"),
        (changed(key_origin="DATABASE"), "notice-good", "valid for the key in the database"),
        (None, "", "Not known"),
        (changed({"verifier_key": None, "checkpoint": None}), "", "Not sealed"),
        (changed(checkpoint=None, has_root=None), "", "No checkpoint has been signed yet"),
        (changed({"behind_seconds": 99.0}), "", "position 4, but 99 s behind"),
        (changed(signature_fault="a wrong one"), "notice-bad", "Do not trust it: a wrong one"),
        (changed(has_root=False), "notice-bad", "does not have the root"),
        (changed({"last_event_in_log": False}), "notice-bad", "position 4, is not in the log"),
    ],
    ids=["good", "database", "unknown", "unsealed", "new", "behind", "signature", "root", "event"],
)
def test_the_verdict_says_whether_the_log_can_be_trusted(
    status: SealStatus | None, style: str, text: str
) -> None:
    verdict = verdict_of(status)
    assert verdict.style == style
    assert text in verdict.text
