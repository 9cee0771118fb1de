"""The chart of an order's slices: quantity over time, with the even split as reference."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final, NamedTuple, assert_never

import msgspec
from markupsafe import Markup

from pulse.domain import Slice, SliceState, SplitTerms, Window, split, splitter_version_for
from pulse.http.console.charts.rates import short
from pulse.http.console.charts.svg import Value, element, picture
from pulse.http.console.charts.time_scale import TimeScale
from pulse.projections.order_view import SliceView

WIDTH: Final = 760
HEIGHT: Final = 300
LEFT: Final = 68
RIGHT: Final = 748
TOP: Final = 24
BOTTOM: Final = 240
"""The edges of the plot in the picture."""

_HEADROOM: Final = 1.08
"""The top of the plot, as a multiple of the largest quantity."""
_MAX_QUANTITY_TICKS: Final = 4
_TICK_SPACING: Final = 58
_MAJOR_TICK_SPACING: Final = 150
_EDGE: Final = 34
"""Labels closer than this to an edge of the plot would leave the picture if they were centred."""
_MAJOR_DAY_SPACING: Final = 200
_DAY_SHIFTS: Final = {"start": -_EDGE / 2, "end": _EDGE / 2}
_MIN_RADIUS, _MAX_RADIUS = 2.5, 5.0
_MIN_STEM, _MAX_STEM = 1.5, 4.0
STATE_WORDS: Final[dict[SliceState, str]] = {
    "SCHEDULED": "scheduled",
    "RELEASED": "released",
    "CANCELLED": "cancelled",
    "EXPIRED": "expired",
}


def schedule_chart(
    slices: Sequence[SliceView], terms: SplitTerms, now: datetime | None = None
) -> Markup:
    """The slices as SVG; before the split, only the even split.

    `now` is drawn as a line if it is on the axis. All times are labelled in UTC.
    """
    window = Window(starts_at=terms.starts_at, ends_at=terms.ends_at)
    times = TimeScale(window, terms.sessions, left=LEFT, right=RIGHT)
    even = even_split(terms)
    quantities = _QuantityScale(max([s.quantity for s in slices] + [s.quantity for s in even]))
    return picture(
        "schedule-chart",
        WIDTH,
        HEIGHT,
        "Slices of the order: shares over time",
        describe_schedule(slices, terms),
        *_background(times, window),
        *_axes(times, quantities),
        *_reference(times, quantities, terms, even),
        *_marks(times, quantities, slices),
        *_now(times, now),
    )


def even_split(terms: SplitTerms) -> tuple[Slice, ...]:
    """The schedule of these terms if nothing were randomised."""
    even = msgspec.structs.replace(terms, randomize=False)
    return split(even, splitter_version_for(terms.sessions))


def even_share(terms: SplitTerms) -> str:
    """The shares of each slice if all were equal: `20`, `83.33333333`."""
    return f"{terms.total_quantity / terms.num_splits:,.10g}"


def describe_schedule(slices: Sequence[SliceView], terms: SplitTerms) -> str:
    """The chart in a few sentences, for screen readers."""
    reference = (
        f"An even split has {even_share(terms)} shares in each of {terms.num_splits} slices."
    )
    if not slices:
        return f"The order has no slices. {reference}"
    sizes = [s.quantity for s in slices]
    counts = ((state, sum(s.state == state for s in slices)) for state in STATE_WORDS)
    states = ", ".join(f"{count} {STATE_WORDS[state]}" for state, count in counts if count)
    first, last = slices[0].scheduled_at, slices[-1].scheduled_at
    return (
        f"{len(slices)} slices of {min(sizes):,} to {max(sizes):,} shares, from {_long(first)} to "
        f"{_long(last)}: {states}. {reference}"
    )


class _QuantityScale:
    """Maps shares to the vertical axis, which starts at zero."""

    def __init__(self, most: int) -> None:
        self._most = most

    def y(self, quantity: float) -> float:
        return BOTTOM - quantity / (self._most * _HEADROOM) * (BOTTOM - TOP)

    def ticks(self) -> range:
        """Round quantities: 1, 2 or 5 times a power of ten."""
        power = 1
        while True:
            for step in (power, 2 * power, 5 * power):
                if self._most // step <= _MAX_QUANTITY_TICKS:
                    return range(0, self._most + 1, step)
            power *= 10


class _Sizes(NamedTuple):
    """The sizes of marks: smaller, down to a minimum, if slices are close to each other."""

    radius: float
    stem: float

    @classmethod
    def of(cls, xs: Sequence[float]) -> "_Sizes":
        gaps = [after - before for before, after in pairwise(xs)]
        room = min(gaps, default=_MAX_RADIUS * 2)
        return cls(
            min(_MAX_RADIUS, max(_MIN_RADIUS, room * 0.45)),
            min(_MAX_STEM, max(_MIN_STEM, room * 0.4)),
        )


def _background(times: TimeScale, window: Window) -> Iterator[Markup]:
    """The plot, the time outside sessions, and the window."""
    height = BOTTOM - TOP
    plot = {"y": TOP, "height": height}
    yield element("rect", x=LEFT, width=RIGHT - LEFT, class_="plot", **plot)
    starts, ends = times.x(window.starts_at), times.x(window.ends_at)
    if starts is None or ends is None:
        raise AssertionError("the window is not on its own axis")
    title = element("title", f"Window: {_long(window.starts_at)} to {_long(window.ends_at)}")
    yield element("rect", title, x=starts, width=ends - starts, class_="window", **plot)
    for span in times.spans:
        if not span.is_open:
            until = f"{_long(span.starts_at)} to {_long(span.ends_at)}"
            title = element("title", f"Outside trading sessions: {until}")
            x, width = span.left, span.right - span.left
            yield element("rect", title, x=x, width=width, class_="closed", **plot)


def _axes(times: TimeScale, quantities: _QuantityScale) -> Iterator[Markup]:
    for quantity in quantities.ticks():
        y = quantities.y(quantity)
        yield element("line", x1=LEFT, x2=RIGHT, y1=y, y2=y, class_="grid")
        yield _label(short(quantity), LEFT - 8, y + 4, "end")
    yield _label("shares", LEFT - 8, TOP - 10, "end", "minor")
    ticks = times.ticks(spacing=_TICK_SPACING, major_spacing=_MAJOR_TICK_SPACING)
    for tick in ticks:
        yield element("line", x1=tick.x, x2=tick.x, y1=BOTTOM, y2=BOTTOM + 5, class_="axis")
        yield _label(tick.time, tick.x, BOTTOM + 24, _anchor(tick.x), _extra(tick.is_major))
    last_major = None
    for x, day in ((tick.x, tick.day) for tick in ticks if tick.day is not None):
        is_major = last_major is None or x - last_major >= _MAJOR_DAY_SPACING
        last_major = x if is_major else last_major
        anchor = "start" if x < (LEFT + RIGHT) / 2 else "end"
        yield _label(day, x + _DAY_SHIFTS[anchor], BOTTOM + 48, anchor, _extra(is_major))


def _anchor(x: float) -> str:
    if x < LEFT + _EDGE:
        return "start"
    return "end" if x > RIGHT - _EDGE else "middle"


def _extra(is_major: bool) -> str:  # noqa: FBT001 - its name is the function's
    return "" if is_major else "minor"


def _label(text: str, x: float, y: float, anchor: str, extra: str = "") -> Markup:
    classes = f"label {extra}".rstrip()
    return element("text", text, x=x, y=y, text_anchor=anchor, class_=classes)


def _reference(
    times: TimeScale, quantities: _QuantityScale, terms: SplitTerms, even: Sequence[Slice]
) -> Iterator[Markup]:
    """The even split: a line at its quantity, and a tick at each of its times."""
    share = terms.total_quantity / terms.num_splits
    y = quantities.y(share)
    title = element("title", f"Even split: {even_share(terms)} shares in each slice")
    yield element("line", title, x1=LEFT, x2=RIGHT, y1=y, y2=y, class_="even")
    ticks = "".join(f"M{_x(times, one.scheduled_at):.1f} {y - 3:.1f}v6" for one in even)
    yield element("path", d=ticks, class_="even-times")


def _marks(
    times: TimeScale, quantities: _QuantityScale, slices: Sequence[SliceView]
) -> Iterator[Markup]:
    xs = [_x(times, s.scheduled_at) for s in slices]
    sizes = _Sizes.of(xs)
    for s, x in zip(slices, xs, strict=True):
        y = quantities.y(s.quantity)
        title = f"Slice {s.sequence_number}: {s.quantity:,} shares at {_long(s.scheduled_at)}"
        yield element(
            "g",
            element("title", f"{title}, {STATE_WORDS[s.state]}"),
            element(
                "line",
                x1=x,
                x2=x,
                y1=BOTTOM,
                y2=y + sizes.radius,
                stroke_width=sizes.stem,
                class_="stem",
            ),
            *_head(s.state, x, y, sizes.radius),
            class_=f"slice slice-{s.state.lower()}",
        )


def _head(state: SliceState, x: float, y: float, radius: float) -> Iterator[Markup]:
    """The sign of a state: a disc, a ring, a square or a triangle."""
    outline: dict[str, Value] = {"fill": "none", "stroke": "currentColor", "stroke_width": 1.5}
    match state:
        case "RELEASED":
            yield element("circle", cx=x, cy=y, r=radius, fill="currentColor", class_="head")
        case "SCHEDULED":
            yield element("circle", cx=x, cy=y, r=radius - 0.75, class_="head", **outline)
        case "CANCELLED":
            square = {"x": x - radius + 0.75, "y": y - radius + 0.75}
            square |= dict.fromkeys(("width", "height"), 2 * radius - 1.5)
            yield element("rect", class_="head", **square, **outline)
        case "EXPIRED":
            path = f"M{x - radius:.2f} {y - radius:.2f}h{2 * radius:.2f}L{x:.2f} {y + radius:.2f}z"
            yield element("path", d=path, fill="currentColor", class_="head")
        case _:
            assert_never(state)


def _now(times: TimeScale, now: datetime | None) -> Iterator[Markup]:
    x = None if now is None else times.x(now)
    if x is not None and now is not None:
        title = element("title", f"Now: {_long(now)}")
        yield element("line", title, x1=x, x2=x, y1=TOP - 6, y2=BOTTOM, class_="now")
        yield _label("now", x, TOP - 10, "middle", "now-label")


def _x(times: TimeScale, at: datetime) -> float:
    """The position of a slice. One beyond the axis, as in an altered log, is at the edge."""
    x = times.x(at)
    if x is not None:
        return x
    return float(LEFT if at < times.spans[0].starts_at else RIGHT)


def _long(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
