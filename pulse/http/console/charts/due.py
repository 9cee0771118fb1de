"""The chart of the slices to release within an hour, by minute."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from markupsafe import Markup

from pulse.projections.due_slices import MinuteCount

MINUTES: Final = 60

_STEP: Final = 16
_BAR: Final = 13
_LEFT: Final = 44
_TOP: Final = 14
_HEIGHT: Final = 100
_WIDTH: Final = _LEFT + _STEP * (MINUTES + 1) + 4
_LABELS: Final = range(0, MINUTES + 1, 10)
_MINUTE: Final = timedelta(minutes=1)

_RECT: Final = Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>')


def due_chart(counts: Sequence[MinuteCount], start: datetime, period: str | None = None) -> Markup:
    """SVG with a bar for each of the 61 minutes that the hour from `start` touches.

    `period` is the time that is counted, in words; None for the next hour, which starts now.

    The part of a bar that a halt covers has another class and is at the bottom. The numbers are in
    the title of each bar, and the sum in the label of the chart.
    """
    first = start.astimezone(UTC).replace(second=0, microsecond=0)
    highest = max((count.slices for count in counts), default=0)
    return Markup(
        '<svg class="chart chart-due" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(
        _WIDTH,
        _TOP + _HEIGHT + 22,
        _label(counts, period or "in the next hour"),
        Markup().join((*_axis(highest, first if period else None), *_bars(counts, first, highest))),
    )


def _label(counts: Sequence[MinuteCount], period: str) -> str:
    slices = sum(count.slices for count in counts)
    if not slices:
        return f"No slice is to be released {period}."
    most = max(counts, key=lambda count: count.slices)
    halted = sum(count.halted for count in counts)
    return (
        f"{slices:,} slices to release {period}, {halted:,} of them halted; "
        f"the most in one minute are {most.slices:,}, at {most.minute:%H:%M} UTC."
    )


def _axis(highest: int, first: datetime | None) -> Iterator[Markup]:
    """The axes. `first` is the time at the left end, None if that is now."""
    bottom = _TOP + _HEIGHT
    yield Markup('<path class="axis" d="M{} {}H{}"/>').format(_LEFT, bottom + 0.5, _WIDTH)
    if highest:
        text = Markup('<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>')
        yield text.format(_LEFT - 6, _TOP + 4, f"{highest:,}")
        yield text.format(_LEFT - 6, bottom + 4, 0)
    for minute in _LABELS:
        text = Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>')
        start = f"{first:%H:%M}" if first else "now"
        shown = f"+{minute} min" if minute else start
        yield text.format(min(_x(minute) + _BAR // 2, _WIDTH - 24), bottom + 16, shown)


def _bars(counts: Sequence[MinuteCount], first: datetime, highest: int) -> Iterator[Markup]:
    for count in counts:
        minute = (count.minute - first) // _MINUTE
        if 0 <= minute <= MINUTES:
            title = (
                f"{count.minute.astimezone(UTC):%H:%M} UTC: {count.slices:,} slices, "
                f"{count.quantity:,} shares, {count.halted:,} slices halted"
            )
            bars = Markup().join(_bar(count, _x(minute), highest))
            yield Markup("<g><title>{}</title>{}</g>").format(title, bars)


def _bar(count: MinuteCount, x: int, highest: int) -> Iterator[Markup]:
    bottom = _TOP + _HEIGHT
    halted, whole = _height(count.halted, highest), _height(count.slices, highest)
    if whole > halted:
        yield _RECT.format("due", x, bottom - whole, _BAR, whole - halted)
    if halted:
        yield _RECT.format("halted", x, bottom - halted, _BAR, halted)


def _x(minute: int) -> int:
    return _LEFT + _STEP * minute


def _height(slices: int, highest: int) -> int:
    """The height of a bar; at least 2, so that a single slice is visible next to many."""
    return max(2, round(_HEIGHT * slices / highest)) if slices else 0
