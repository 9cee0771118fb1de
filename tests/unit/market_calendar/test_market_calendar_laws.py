"""Laws of every calendar: sessions are disjoint, sorted, covered; the digest is of the content."""

import json
import random
from datetime import date, datetime, time, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from pulse.domain.sessions import Session
from pulse.market_calendar.file_format import WEEKDAYS
from pulse.market_calendar.reading import parse
from tests.support.calendars import NAME, SOURCE, calendar_file, mapping, text_of

FIRST = date(2026, 1, 1)
ZONES = ["Asia/Kolkata", "UTC", "Asia/Tokyo", "America/Bogota"]
SYMBOLS = ["TCS", "INFY", "M&M"]
days = st.integers(0, 39).map(lambda number: FIRST + timedelta(days=number))


@st.composite
def sessions(draw: st.DrawFn) -> list[dict[str, str]]:
    count = draw(st.integers(1, 3))
    minutes = draw(st.sets(st.integers(0, 1439), min_size=2 * count, max_size=2 * count))
    bounds = [f"{minute // 60:02}:{minute % 60:02}" for minute in sorted(minutes)]
    return [
        {"opens": opens, "closes": closes}
        for opens, closes in zip(bounds[::2], bounds[1::2], strict=True)
    ]


@st.composite
def segments(draw: st.DrawFn, name: str) -> dict[str, Any]:
    starts = [FIRST, *sorted(draw(st.sets(days.filter(lambda on: on > FIRST), max_size=2)))]
    weekdays = st.lists(st.sampled_from(WEEKDAYS), min_size=1, unique=True)
    return {
        "name": name,
        "hours": [
            {
                "from": str(on),
                "weekdays": draw(weekdays),
                "sessions": draw(sessions()),
                "source": SOURCE,
            }
            for on in starts
        ],
    }


@st.composite
def exchanges(draw: st.DrawFn) -> dict[str, Any]:
    names = ["A", "B", "C"][: draw(st.integers(1, 3))]
    covered = draw(st.integers(1, 40))
    dates = st.sets(days.filter(lambda on: on < FIRST + timedelta(days=covered)), max_size=5)
    return {
        "time_zone": draw(st.sampled_from(ZONES)),
        "coverage": {
            "from": str(FIRST),
            "before": str(FIRST + timedelta(days=covered)),
            "source": SOURCE,
        },
        "segments": [draw(segments(name)) for name in names],
        "holidays": [{"date": str(on), "name": f"H {on}", "source": SOURCE} for on in draw(dates)],
        "special_sessions": [
            {
                "date": str(on),
                "name": f"S {on}",
                "sessions": draw(sessions()),
                "source": SOURCE,
                "segments": draw(st.lists(st.sampled_from(names), unique=True)),
            }
            for on in draw(dates)
        ],
        "instruments": [
            mapping(draw(st.sampled_from(names)), symbol)
            for symbol in draw(st.lists(st.sampled_from(SYMBOLS), unique=True))
        ],
    }


def bounds_of(exchange: dict[str, Any]) -> tuple[datetime, datetime]:
    zone, coverage = ZoneInfo(exchange["time_zone"]), exchange["coverage"]
    first, before = (
        datetime.combine(date.fromisoformat(coverage[name]), time(), zone)
        for name in ("from", "before")
    )
    return first, before


@given(exchanges(), st.data())
def test_sessions_are_sorted_disjoint_covered_and_half_open(
    exchange: dict[str, Any], data: st.DataObject
) -> None:
    calendar = parse(text_of(calendar_file(exchange)).encode(), NAME)
    covered_from, covered_before = bounds_of(exchange)
    for instrument in [f"NSE:{symbol}" for symbol in SYMBOLS]:
        every = calendar.sessions(instrument, covered_from, covered_before)
        for earlier, later in pairwise(every):
            assert earlier.closes_at <= later.opens_at
        for session in every:
            assert covered_from <= session.opens_at < session.closes_at <= covered_before
        begins, ends = sorted(
            data.draw(st.integers(0, int((covered_before - covered_from).total_seconds())))
            for _ in range(2)
        )
        starts_at = covered_from + timedelta(seconds=begins)
        until = covered_from + timedelta(seconds=ends)
        assert calendar.sessions(instrument, starts_at, until) == tuple(
            session
            for session in every
            if max(session.opens_at, starts_at) < min(session.closes_at, until)
        )


@given(exchanges())
def test_an_unmapped_instrument_trades_exactly_while_every_segment_does(
    exchange: dict[str, Any],
) -> None:
    calendar = parse(text_of(calendar_file(exchange)).encode(), NAME)
    starts_on, before = calendar.coverage("NSE")
    not_mapped: list[Session] = []
    for number in range((before - starts_on).days):
        *by_segment, common = calendar.day("NSE", starts_on + timedelta(days=number)).segments
        not_mapped += common.sessions
        bounds = {
            at
            for segment in (*by_segment, common)
            for session in segment.sessions
            for at in (session.opens_at, session.closes_at)
        }
        for at in bounds:
            assert is_open(common.sessions, at) == all(
                is_open(segment.sessions, at) for segment in by_segment
            )
    assert calendar.sessions("NSE:OTHER", *bounds_of(exchange)) == tuple(not_mapped)


def is_open(found: tuple[Session, ...], at: datetime) -> bool:
    return any(session.opens_at <= at < session.closes_at for session in found)


@given(exchanges(), st.randoms(use_true_random=False))
def test_the_digest_does_not_depend_on_how_the_file_is_written(
    exchange: dict[str, Any], chance: random.Random
) -> None:
    file = calendar_file(exchange)
    shuffled = json.loads(text_of(file))
    nse = shuffled["exchanges"]["NSE"]
    for name in ("segments", "holidays", "special_sessions", "instruments"):
        chance.shuffle(nse[name])
    for segment in nse["segments"]:
        for hours in segment["hours"]:
            chance.shuffle(hours["weekdays"])
    text = json.dumps(rekeyed(shuffled, chance), indent=chance.choice([None, 1, 7]))
    if chance.random() < 0.5:  # seconds may be written or left out
        text = text.replace(':00"', ':00:00"')
    first, second = (parse(one.encode(), NAME).digest for one in (text_of(file), text))
    assert first == second


def rekeyed(value: Any, chance: random.Random) -> Any:
    """The same JSON with the names of each object in another order."""
    if isinstance(value, list):
        return [rekeyed(entry, chance) for entry in value]
    if isinstance(value, dict):
        names = list(value)
        chance.shuffle(names)
        return {name: rekeyed(value[name], chance) for name in names}
    return value


@settings(max_examples=10)
@given(exchanges())
def test_different_content_has_a_different_digest(exchange: dict[str, Any]) -> None:
    changed = json.loads(text_of(calendar_file(exchange)))
    hours = changed["exchanges"]["NSE"]["segments"][0]["hours"][0]
    hours["source"] += " 2"
    first, second = (
        parse(text_of(file).encode(), NAME).digest for file in (calendar_file(exchange), changed)
    )
    assert first != second
