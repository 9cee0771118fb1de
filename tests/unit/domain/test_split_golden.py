"""Schedules pinned for ever: every change of a splitter version is found.

A stored order names its splitter version, so its slices can be derived again at any time and in
any language. Never edit an entry; a new way to split is a new version with entries of its own.
"""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pulse.domain import SPLITTERS, Session, Slice, SplitTerms, split
from pulse.testing import check_schedule

GOLDEN: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "golden" / "schedules.json").read_text(encoding="utf-8")
)


def terms_of(golden: dict[str, Any]) -> SplitTerms:
    terms = golden["terms"]
    return SplitTerms(
        total_quantity=terms["total_quantity"],
        num_splits=terms["num_splits"],
        duration_minutes=terms["duration_minutes"],
        randomize=terms["randomize"],
        seed=int(terms["seed"], 16),
        starts_at=datetime.fromisoformat(terms["starts_at"]),
        sessions=tuple(
            Session(
                opens_at=datetime.fromisoformat(opens_at),
                closes_at=datetime.fromisoformat(closes_at),
            )
            for opens_at, closes_at in terms.get("sessions", ())
        ),
    )


def times_of(golden: dict[str, Any]) -> list[datetime]:
    if "scheduled_at" in golden:
        return [datetime.fromisoformat(at) for at in golden["scheduled_at"]]
    starts_at = datetime.fromisoformat(golden["terms"]["starts_at"])
    return [starts_at + timedelta(microseconds=o) for o in golden["offsets_microseconds"]]


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden["name"])
def test_the_schedule_is_the_pinned_one(golden: dict[str, Any]) -> None:
    terms = terms_of(golden)
    pinned = tuple(
        Slice(sequence_number=number, quantity=quantity, scheduled_at=at)
        for number, (quantity, at) in enumerate(
            zip(golden["quantities"], times_of(golden), strict=True), 1
        )
    )
    assert split(terms, golden["splitter_version"]) == pinned
    assert [terms.offset_of(s.scheduled_at) for s in pinned] == golden["offsets_microseconds"]
    assert pinned[-1].scheduled_at == datetime.fromisoformat(golden["last_scheduled_at"])


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden["name"])
def test_the_pinned_schedule_keeps_every_rule(golden: dict[str, Any]) -> None:
    terms = terms_of(golden)
    check_schedule(terms, split(terms, golden["splitter_version"]))


def test_every_splitter_version_is_pinned() -> None:
    assert {golden["splitter_version"] for golden in GOLDEN} == set(SPLITTERS)
