"""A schedule drawn in characters: shares over time, the even split beside it."""

from collections.abc import Sequence
from typing import Final

import plotille

from pulse.cli.splitter.points import MARGIN_COLUMNS, even_split, minutes, shares
from pulse.domain import Slice, SplitTerms

_ROWS: Final = 16
_WHOLE_FROM: Final = 10
_HEADROOM: Final = 1.1
_ROOM_FOR_THE_LAST: Final = 1.02


def chart_lines(
    terms: SplitTerms, slices: Sequence[Slice], columns: int, *, colours: bool
) -> list[str]:
    """The lines of the chart, at most `columns` wide."""
    even = even_split(terms)
    chart = plotille.Figure()
    chart.width, chart.height = columns - MARGIN_COLUMNS, _ROWS
    chart.with_colors = colours
    chart.origin = False
    chart.set_x_limits(0, terms.duration_minutes * _ROOM_FOR_THE_LAST)
    chart.set_y_limits(0, max(shares([*slices, *even])) * _HEADROOM)
    chart.x_label, chart.y_label = "min", "shares"
    chart.x_ticks_fkt = chart.y_ticks_fkt = _short
    for minute, quantity in zip(minutes(terms, slices), shares(slices), strict=True):
        chart.plot([minute, minute], [0, quantity], lc="cyan" if colours else None)
    chart.scatter(minutes(terms, even), shares(even), lc="yellow" if colours else None, marker="o")
    drawn: str = chart.show()
    return [*drawn.splitlines(), "  bars: the slices   o: the even split"]


def _short(value: float, _: object) -> str:
    """At most nine characters, three digits of which tell the value."""
    for limit, letter in ((1e9, "G"), (1e6, "M")):
        if value >= limit:
            return f"{value / limit:.3g} {letter}"
    return f"{value:,.0f}" if value >= _WHOLE_FROM else f"{value:.2g}"
