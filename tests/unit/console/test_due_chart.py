"""The chart of the slices of the next hour: one bar per minute, halted parts, and a label."""

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest

from pulse.http.console.charts.due import due_chart
from pulse.projections.due_slices import MinuteCount

NOON = datetime(2026, 1, 5, 6, 30, 17, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def counted(minute: int, slices: int, halted: int = 0) -> MinuteCount:
    start = NOON.replace(second=0) + minute * MINUTE
    return MinuteCount(start, slices, 10 * slices, halted)


def drawn(*counts: MinuteCount) -> ET.Element:
    return ET.fromstring(str(due_chart(counts, NOON)))  # noqa: S314 - Pulse wrote it


def heights(chart: ET.Element, kind: str) -> list[int]:
    return [int(bar.get("height", "")) for bar in chart.iter("rect") if bar.get("class") == kind]


def test_without_slices_the_label_says_so() -> None:
    chart = drawn()
    assert chart.get("aria-label") == "No slice is to be released in the next hour."
    assert heights(chart, "due") == []


def test_another_period_is_named() -> None:
    period = "from 06:30 to 07:00"
    empty = ET.fromstring(str(due_chart([], NOON, period)))  # noqa: S314 - Pulse wrote it
    chart = ET.fromstring(str(due_chart([counted(0, 2)], NOON, period)))  # noqa: S314 - likewise
    assert empty.get("aria-label") == "No slice is to be released from 06:30 to 07:00."
    assert str(chart.get("aria-label")).startswith("2 slices to release from 06:30 to 07:00, 0 of")
    assert "06:30" in [text.text for text in chart.iter("text")]
    assert "now" not in [text.text for text in chart.iter("text")]


def test_a_bar_is_as_high_as_its_share_of_the_highest() -> None:
    chart = drawn(counted(0, 100), counted(1, 50), counted(60, 1))
    assert heights(chart, "due") == [100, 50, 2]
    assert chart.get("aria-label") == (
        "151 slices to release in the next hour, 0 of them halted; the most in one minute are 100, "
        "at 06:30 UTC."
    )


def test_the_halted_part_of_a_bar_is_drawn_below_the_rest() -> None:
    chart = drawn(counted(0, 10, 4), counted(5, 10, 10))
    assert heights(chart, "due") == [60]
    assert heights(chart, "halted") == [40, 100]


@pytest.mark.parametrize("minute", [-1, 61])
def test_minutes_outside_the_hour_are_not_drawn(minute: int) -> None:
    assert heights(drawn(counted(minute, 1)), "due") == []


def test_the_title_of_a_bar_has_its_counts() -> None:
    (title,) = drawn(counted(3, 1_234, 5)).iter("title")
    assert title.text == "06:33 UTC: 1,234 slices, 12,340 shares, 5 slices halted"


def test_the_chart_has_no_style_attribute() -> None:
    assert not re.search(r"\sstyle=|<style", str(due_chart([counted(0, 1)], NOON)))
