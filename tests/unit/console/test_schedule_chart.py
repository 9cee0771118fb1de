import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final
from xml.etree import ElementTree as ET

import pytest

from pulse.domain import (
    Session,
    Slice,
    SliceState,
    SplitTerms,
    Window,
    split,
    splitter_version_for,
)
from pulse.http.console.charts.schedule import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    even_split,
    schedule_chart,
)
from pulse.http.console.charts.time_scale import TimeScale
from pulse.projections.order_view import SliceView

STARTS_AT: Final = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
SESSIONS: Final = tuple(
    Session(
        opens_at=datetime(2026, 3, day, 3, 45, tzinfo=UTC),
        closes_at=datetime(2026, 3, day, 10, 0, tzinfo=UTC),
    )
    for day in (2, 4)
)


def terms(**changes: Any) -> SplitTerms:
    """An hour for 1,000 shares in 5 slices."""
    values: dict[str, Any] = {
        "total_quantity": 1000,
        "num_splits": 5,
        "duration_minutes": 60,
        "randomize": True,
        "seed": 7,
        "starts_at": STARTS_AT,
    }
    return SplitTerms(**values | changes)


def slices_of(of: SplitTerms, *states: SliceState) -> list[SliceView]:
    """The order's slices with these states; the others are SCHEDULED."""
    slices = split(of, splitter_version_for(of.sessions))
    return [
        SliceView(
            s.sequence_number,
            s.quantity,
            s.scheduled_at,
            states[place] if place < len(states) else "SCHEDULED",
        )
        for place, s in enumerate(slices)
    ]


def drawn(slices: Sequence[SliceView], of: SplitTerms, now: datetime | None = None) -> ET.Element:
    """The chart as a tree. It is well-formed XML."""
    return ET.fromstring(schedule_chart(slices, of, now))  # noqa: S314 - our own text


def of_class(chart: ET.Element, name: str) -> list[ET.Element]:
    return [one for one in chart.iter() if name in one.get("class", "").split()]


def labels(chart: ET.Element) -> list[str]:
    return [one.text or "" for one in of_class(chart, "label")]


def test_each_slice_is_a_mark_at_its_time_and_quantity() -> None:
    even = terms(randomize=False)

    chart = drawn(slices_of(even), even)

    stems = of_class(chart, "stem")
    assert len(stems) == len(of_class(chart, "slice")) == 5
    margin = (RIGHT - LEFT) * 0.03 / 1.06
    inner = RIGHT - LEFT - 2 * margin
    for place, stem in enumerate(stems):
        expected = LEFT + margin + inner * place / 4
        assert float(stem.get("x1", "")) == pytest.approx(expected, abs=0.01)
        assert stem.get("x1") == stem.get("x2")
        assert float(stem.get("y1", "")) == BOTTOM
    assert {stem.get("y2") for stem in stems} == {stems[0].get("y2")}


def test_a_larger_quantity_is_higher_in_proportion() -> None:
    of = terms()
    slices = slices_of(of)

    chart = drawn(slices, of)

    heads = [one for one in of_class(chart, "head") if one.tag == "circle"]
    top = max(s.quantity for s in slices) * 1.08
    for s, head in zip(slices, heads, strict=True):
        expected = BOTTOM - s.quantity / top * (BOTTOM - TOP)
        assert float(head.get("cy", "")) == pytest.approx(expected, abs=0.01)


def test_each_state_has_its_class_and_its_shape() -> None:
    of = terms(num_splits=4)
    states: tuple[SliceState, ...] = ("RELEASED", "EXPIRED", "CANCELLED", "SCHEDULED")

    marks = of_class(drawn(slices_of(of, *states), of), "slice")

    assert [mark.get("class") for mark in marks] == [
        "slice slice-released",
        "slice slice-expired",
        "slice slice-cancelled",
        "slice slice-scheduled",
    ]
    shapes = [(mark[-1].tag, mark[-1].get("fill")) for mark in marks]
    assert len(set(shapes)) == 4
    titles = [mark[0].text or "" for mark in marks]
    assert [title.rpartition(", ")[2] for title in titles] == [
        "released",
        "expired",
        "cancelled",
        "scheduled",
    ]


def test_the_even_split_is_a_line_at_the_average_with_its_times() -> None:
    of = terms()

    chart = drawn(slices_of(of), of)

    (line,) = of_class(chart, "even")
    assert line[0].text == "Even split: 200 shares in each slice"
    (ticks,) = of_class(chart, "even-times")
    assert ticks.get("d", "").count("M") == 5
    assert [one.quantity for one in even_split(of)] == [200] * 5


def test_an_order_without_slices_shows_only_the_even_split() -> None:
    chart = drawn([], terms())

    assert of_class(chart, "slice") == []
    (ticks,) = of_class(chart, "even-times")
    assert ticks.get("d", "").count("M") == 5
    (description,) = (one.text for one in chart.iter("desc"))
    assert description == (
        "The order has no slices. An even split has 200 shares in each of 5 slices."
    )


def test_the_description_says_what_the_chart_shows() -> None:
    of = terms(randomize=False)

    chart = drawn(slices_of(of, "RELEASED", "RELEASED", "CANCELLED"), of)

    (description,) = (one.text for one in chart.iter("desc"))
    assert description == (
        "5 slices of 200 to 200 shares, from 2026-03-02 04:00:00 UTC to 2026-03-02 05:00:00 UTC: "
        "2 scheduled, 2 released, 1 cancelled. An even split has 200 shares in each of 5 slices."
    )
    names = {one.tag: one.get("id") for one in chart if one.tag in {"title", "desc"}}
    assert chart.get("aria-labelledby") == names["title"]
    assert chart.get("aria-describedby") == names["desc"]
    assert chart.get("role") == "img"


def test_the_window_is_shaded_inside_the_plot() -> None:
    of = terms()

    chart = drawn(slices_of(of), of)

    (window,) = of_class(chart, "window")
    stems = of_class(chart, "stem")
    left, width = float(window.get("x", "")), float(window.get("width", ""))
    assert left == pytest.approx(float(stems[0].get("x1", "")), abs=0.01)
    assert left + width == pytest.approx(float(stems[-1].get("x1", "")), abs=0.01)
    assert of_class(chart, "closed") == []


def test_time_outside_sessions_is_shaded_and_compressed() -> None:
    starts_at = SESSIONS[0].closes_at - timedelta(hours=2)
    of = terms(duration_minutes=240, starts_at=starts_at, sessions=SESSIONS)

    chart = drawn(slices_of(of), of)

    closed = of_class(chart, "closed")
    titles = [one[0].text for one in closed]
    assert titles == [
        "Outside trading sessions: 2026-03-02 10:00:00 UTC to 2026-03-04 03:45:00 UTC"
    ]
    assert float(closed[0].get("width", "")) < 0.05 * (RIGHT - LEFT)
    assert any("2026-03-04" in label for label in labels(chart))


def test_time_before_the_first_session_is_shaded() -> None:
    of = terms(starts_at=SESSIONS[0].opens_at, sessions=SESSIONS[:1])

    closed = of_class(drawn(slices_of(of), of), "closed")

    assert [float(one.get("x", "")) for one in closed] == [LEFT]


def test_now_is_a_line_only_while_it_is_on_the_axis() -> None:
    of = terms()
    slices = slices_of(of)

    (line,) = of_class(drawn(slices, of, STARTS_AT + timedelta(minutes=30)), "now")

    assert float(line.get("x1", "")) == pytest.approx((LEFT + RIGHT) / 2, abs=0.01)
    assert of_class(drawn(slices, of, STARTS_AT + timedelta(days=1)), "now") == []
    assert of_class(drawn(slices, of), "now") == []


@pytest.mark.parametrize("minutes", [1, 7, 60, 375, 1440])
def test_time_labels_are_in_utc_at_round_times_and_do_not_overlap(minutes: int) -> None:
    of = terms(duration_minutes=minutes)

    chart = drawn(slices_of(of), of)

    times = [one for one in of_class(chart, "label") if re.fullmatch(r"[\d:]{5,8}", one.text or "")]
    xs = [float(one.get("x", "")) for one in times]
    assert 2 <= len(times) <= 9
    assert all(after - before >= 58 for before, after in pairwise(xs))
    assert any(label == "2026-03-02 UTC" for label in labels(chart))


def test_quantities_are_labelled_with_round_numbers() -> None:
    of = terms(total_quantity=1_000_000_000, num_splits=2)

    assert {"0", "200M", "400M"} <= set(labels(drawn(slices_of(of), of)))


def test_the_marks_of_a_hundred_slices_do_not_overlap() -> None:
    of = terms(num_splits=100, total_quantity=100_000, duration_minutes=375)

    chart = drawn(slices_of(of), of)

    stems = of_class(chart, "stem")
    xs = [float(stem.get("x1", "")) for stem in stems]
    widest = max(float(stem.get("stroke-width", "")) for stem in stems)
    assert len(stems) == 100
    assert min(after - before for before, after in pairwise(xs)) > widest
    assert len(schedule_chart(slices_of(of), of)) < 60_000


def test_the_chart_scales_and_has_no_inline_style() -> None:
    text = schedule_chart(slices_of(terms()), terms(), STARTS_AT)

    assert 'viewBox="0 0 760 300"' in text
    assert "style=" not in text
    assert "<script" not in text
    assert not re.search(r"<svg[^>]* width=", text)


def test_a_slice_outside_its_window_is_drawn_at_the_edge() -> None:
    late = Slice(sequence_number=1, quantity=5, scheduled_at=STARTS_AT + timedelta(days=3))
    view = SliceView(1, late.quantity, late.scheduled_at, "SCHEDULED")

    (stem,) = of_class(drawn([view], terms()), "stem")

    assert float(stem.get("x1", "")) == RIGHT


def test_the_time_scale_keeps_order_over_many_short_sessions() -> None:
    sessions = [
        Session(
            opens_at=STARTS_AT + timedelta(days=day),
            closes_at=STARTS_AT + timedelta(days=day, minutes=10),
        )
        for day in range(60)
    ]
    window = Window(starts_at=STARTS_AT, ends_at=sessions[-1].closes_at)
    scale = TimeScale(window, sessions, left=0, right=600)

    xs = [scale.x(session.opens_at) for session in sessions]

    assert all(x is not None for x in xs)
    assert xs == sorted(xs, key=lambda x: x or 0)
    opened = sum(span.right - span.left for span in scale.spans if span.is_open)
    assert opened > 600 * 0.7
