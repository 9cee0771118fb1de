"""Bars of what happened in each of the last minutes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from markupsafe import Markup

WIDTH: Final = 380
HEIGHT: Final = 120
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 4, 8, 18
_GAP: Final = 1
_PLOT_HEIGHT: Final = HEIGHT - _TOP - _BOTTOM
_STEPS: Final = (2, 4, 6, 8, 10)
_MIN_TOP: Final = 4
_UNITS: Final = ((10**15, "P"), (10**12, "T"), (10**9, "G"), (10**6, "M"), (1000, "k"))
_TICKS_MINUTES: Final = (60, 45, 30, 15)

Bar = tuple[datetime, int]


def top_of(values: Sequence[int]) -> int:
    """The end of a scale for these values: 2, 4, 6, 8 or 10 times a power of ten, and at least 4.

    Charts that are compared have the same scale.
    """
    largest = max([_MIN_TOP, *values])
    power = 1
    while power * 10 < largest:
        power *= 10
    return next(step * power for step in _STEPS if step * power >= largest)


def short(number: int) -> str:
    """A number for an axis, such as 250, 1.5k or 20M."""
    for size, unit in _UNITS:
        if number >= size:
            tenths = number * 10 // size
            return f"{tenths / 10:g}{unit}"
    return str(number)


def rate_chart(bars: Sequence[Bar], *, kind: str, label: str, top: int) -> Markup:
    """A bar for each minute, the oldest first. The last minute is not over, so its bar is paler.

    `kind` is the class of the bars. `label` describes the chart to screen readers, which skip the
    bars: a table on the page has their numbers. A bar's title has its minute and number.
    """
    width = (WIDTH - _LEFT - _RIGHT) / max(1, len(bars))
    drawn = Markup().join(
        _bar(bar, _LEFT + n * width, width - _GAP, top, _kind(kind, n, bars))
        for n, bar in enumerate(bars)
        if bar[1]
    )
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}{}</svg>'
    ).format(WIDTH, HEIGHT, label, _scale(top), drawn, _minutes(len(bars), width))


def _kind(kind: str, n: int, bars: Sequence[Bar]) -> str:
    """The classes of a bar."""
    return f"{kind} open" if n == len(bars) - 1 else kind


def _bar(bar: Bar, x: float, width: float, top: int, kind: str) -> Markup:
    minute, number = bar
    height = max(1.0, _PLOT_HEIGHT * number / top)
    return Markup(
        '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
        "<title>{:%H:%M} UTC: {:,}</title></rect>"
    ).format(kind, x, _TOP + _PLOT_HEIGHT - height, width, height, minute.astimezone(UTC), number)


def _scale(top: int) -> Markup:
    """The lines at the top, the middle and the base, with their numbers."""
    lines = Markup()
    for share, kind in ((1, "rule"), (0.5, "rule"), (0, "base")):
        y = _TOP + _PLOT_HEIGHT * (1 - share)
        lines += Markup(
            '<path class="{}" d="M{} {:g}H{}"/><text x="{}" y="{:g}" text-anchor="end">{}</text>'
        ).format(kind, _LEFT, y, WIDTH - _RIGHT, _LEFT - 5, y + 4, short(int(top * share)))
    return lines


def _minutes(count: int, width: float) -> Markup:
    """The labels of the time axis, relative to now, so that they hold in any time zone."""
    labels = Markup()
    for ago in _TICKS_MINUTES:
        if ago <= count:
            x = _LEFT + (count - ago) * width
            anchor = "start" if ago == count else "middle"
            labels += Markup('<text x="{:.1f}" y="{}" text-anchor="{}">-{} min</text>').format(
                x, HEIGHT - 4, anchor, ago
            )
    return labels + Markup('<text x="{}" y="{}" text-anchor="end">now</text>').format(
        WIDTH - _RIGHT, HEIGHT - 4
    )
