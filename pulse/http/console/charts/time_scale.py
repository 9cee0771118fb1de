"""A time axis: maps times to positions. The time between trading sessions is compressed."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final, NamedTuple

from pulse.domain import Session, Window

MAX_TICKS: Final = 8
_STEPS_SECONDS: Final = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600),
    *(43_200, 86_400, 172_800),
)
_MAX_STEP: Final = _STEPS_SECONDS[-1]
_MINUTE: Final = 60
_MARGIN: Final = 0.03
"""The time on the axis before the window, and after it, as a share of the trading time."""
_GAP: Final = 0.04
"""The most that a gap between sessions takes, as a share of the trading time in the window."""
_ALL_GAPS: Final = 0.3
"""The same for all gaps together."""


class Span(NamedTuple):
    """A part of the axis. `is_open`: a session is open, or the order ignores sessions."""

    starts_at: datetime
    ends_at: datetime
    is_open: bool
    left: float
    right: float


class Tick(NamedTuple):
    """A label of the axis. `day` is set on the first tick of each day in UTC."""

    x: float
    time: str
    day: str | None
    is_major: bool


class TimeScale:
    """The axis of a window, from `left` to `right`, with a margin before and after the window.

    A long gap between sessions takes only a small part of the axis.
    """

    def __init__(
        self, window: Window, sessions: Sequence[Session], *, left: float, right: float
    ) -> None:
        margin = _trading_time(window, sessions) * _MARGIN
        spans = list(_spans(window.starts_at - margin, window.ends_at + margin, sessions))
        trading = sum((end - start for start, end, is_open in spans if is_open), timedelta())
        gaps = max(1, sum(not is_open for _, _, is_open in spans))
        longest_gap = trading * min(_GAP, _ALL_GAPS / gaps)
        lengths = [
            end - start if is_open else min(end - start, longest_gap)
            for start, end, is_open in spans
        ]
        unit = (right - left) / (sum(lengths, timedelta()) / timedelta(seconds=1))
        self.spans: list[Span] = []
        """The parts of the axis in order, without gaps between them."""
        x = left
        for (start, end, is_open), length in zip(spans, lengths, strict=True):
            width = length / timedelta(seconds=1) * unit
            self.spans.append(Span(start, end, is_open, x, x + width))
            x += width
        seconds = trading.total_seconds()
        self._step = next((s for s in _STEPS_SECONDS if seconds / s <= MAX_TICKS), _MAX_STEP)

    def x(self, at: datetime) -> float | None:
        """The position of a time; None if it is beyond the axis."""
        for span in self.spans:
            if span.starts_at <= at <= span.ends_at:
                passed = (at - span.starts_at) / (span.ends_at - span.starts_at)
                return span.left + passed * (span.right - span.left)
        return None

    def ticks(self, *, spacing: float, major_spacing: float) -> list[Tick]:
        """Labels at round times of open spans, at least `spacing` apart.

        A span without a round time has a label at its start. Major labels are at least
        `major_spacing` apart; a narrow screen shows only these.
        """
        ticks: list[Tick] = []
        last_major = None
        day = None
        for at in self._round_times():
            x = self.x(at)
            if x is None or (ticks and x - ticks[-1].x < spacing):
                continue
            is_major = last_major is None or x - last_major >= major_spacing
            last_major = x if is_major else last_major
            new_day = f"{at:%Y-%m-%d}" if at.date() != day else None
            if not ticks:
                new_day = f"{at:%Y-%m-%d} UTC"
            day = at.date()
            label = f"{at:%H:%M:%S}" if self._step < _MINUTE else f"{at:%H:%M}"
            ticks.append(Tick(x, label, new_day, is_major))
        return ticks

    def _round_times(self) -> Iterator[datetime]:
        step = self._step
        for span in self.spans:
            if not span.is_open:
                continue
            first = -(-span.starts_at.timestamp() // step) * step
            count = int((span.ends_at.timestamp() - first) // step) + 1
            if count < 1:
                yield span.starts_at.astimezone(UTC)
            for number in range(count):
                yield datetime.fromtimestamp(first + number * step, UTC)


def _trading_time(window: Window, sessions: Sequence[Session]) -> timedelta:
    if not sessions:
        return window.ends_at - window.starts_at
    lengths = (
        min(session.closes_at, window.ends_at) - max(session.opens_at, window.starts_at)
        for session in sessions
    )
    return sum((length for length in lengths if length > timedelta()), timedelta())


def _spans(
    starts_at: datetime, ends_at: datetime, sessions: Sequence[Session]
) -> Iterator[tuple[datetime, datetime, bool]]:
    """The parts between these times: start, end, and whether a session is open."""
    if not sessions:
        yield starts_at, ends_at, True
        return
    bounds = {bound for one in sessions for bound in (one.opens_at, one.closes_at)}
    inner = sorted(bound for bound in bounds if starts_at < bound < ends_at)
    for start, end in pairwise([starts_at, *inner, ends_at]):
        yield start, end, any(one.opens_at <= start < one.closes_at for one in sessions)
