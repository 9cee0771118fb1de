"""The shares of an order by state, as one bar."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from markupsafe import Markup

from pulse.domain import Quantities
from pulse.http.console.charts.svg import element, picture

WIDTH: Final = 760
HEIGHT: Final = 20
_MIN_WIDTH: Final = 3.0
"""The width of the smallest part, so that one share of a million is visible."""
_GAP: Final = 2.0
"""The space between two parts."""


class Part(NamedTuple):
    """A part of the bar: a state, its number of shares, and that number in percent of the order."""

    kind: str
    quantity: int
    percent: str


def parts_of(quantities: Quantities) -> list[Part]:
    """Every part in the order of the bar, those without shares included."""
    kinds = ("released", "remaining", "cancelled", "expired")
    counts = [(kind, int(getattr(quantities, kind))) for kind in kinds]
    total = sum(count for _, count in counts)
    return [Part(kind, count, _percent(count, total)) for kind, count in counts]


def quantities_chart(quantities: Quantities) -> Markup:
    """One bar as SVG, with a title for each part. The page shows the numbers as text too."""
    parts = [part for part in parts_of(quantities) if part.quantity]
    words = ", ".join(f"{part.quantity:,} {part.kind}" for part in parts)
    x = 0.0
    drawn: list[Markup] = []
    for part, width in zip(parts, _widths([part.quantity for part in parts]), strict=True):
        title = element("title", f"{part.quantity:,} shares {part.kind}, {part.percent}")
        box = {"x": x, "y": 0, "width": width, "height": HEIGHT}
        fill = element("rect", fill="currentColor", class_="fill", **box)
        drawn.append(element("g", title, fill, class_=f"part part-{part.kind}"))
        x += width + _GAP
    total = sum(part.quantity for part in parts)
    return picture(
        "quantities-chart",
        WIDTH,
        HEIGHT,
        f"{total:,} shares by state",
        f"{words}.",
        *drawn,
        keeps_shape=False,
    )


def _widths(quantities: Sequence[int]) -> list[float]:
    """Widths that with the gaps sum to WIDTH: at least the minimum, the rest in proportion."""
    total = sum(quantities)
    room = WIDTH - _MIN_WIDTH * len(quantities) - _GAP * (len(quantities) - 1)
    return [_MIN_WIDTH + room * quantity / total for quantity in quantities]


def _percent(count: int, total: int) -> str:
    """`count` in percent of `total`; 0 % or 100 % only if it is exactly that."""
    if count in {0, total}:
        return "100 %" if count else "0 %"
    percent = count * 100 / total
    if percent < 0.1:  # noqa: PLR2004 - the smallest that is shown
        return "< 0.1 %"
    return f"{percent:.1f} %" if percent <= 99.9 else "> 99.9 %"  # noqa: PLR2004 - the largest
