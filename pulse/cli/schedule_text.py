"""Draws a schedule as text: quantity over time, one line per slice."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from rich.text import Text

from pulse.cli.terminal import display_time
from pulse.domain import Slice, SliceState, SplitTerms, broken_rules

_COLUMNS: Final = 80
_MAX_SESSIONS: Final = 3


class _Shown(NamedTuple):
    """How a slice is shown: a word in a column, the character of its bar, and a colour."""

    word: str
    bar: str
    style: str


_STATES: Final[dict[SliceState, _Shown]] = {
    "SCHEDULED": _Shown("scheduled ", "-", "cyan"),
    "RELEASED": _Shown("released  ", "#", "green"),
    "CANCELLED": _Shown("cancelled ", "x", "red"),
    "EXPIRED": _Shown("expired   ", "!", "yellow"),
}
_UNKNOWN: Final = _Shown("", "#", "cyan")


def draw(
    slices: Sequence[Slice], terms: SplitTerms | None, states: Sequence[SliceState] | None = None
) -> Iterator[Text]:
    """A bar per slice, a heading per day, the sum, and the rules that are broken.

    With `states`, each line also has the slice's state, as a word and by the character of its bar.
    """
    yield Text("")
    yield Text("Schedule, times in UTC", "bold")
    most = max([1, *(s.quantity for s in slices)])
    labels = [_label(s, slices[0].scheduled_at) for s in slices]
    shown = [_STATES[state] for state in states] if states else [_UNKNOWN] * len(slices)
    shares = len(f"{most:,}")
    room = _COLUMNS - max(map(len, labels), default=0) - shares - 3
    room -= max((len(state.word) for state in shown), default=0)
    day = None
    for s, label, state in zip(slices, labels, shown, strict=True):
        if s.scheduled_at.date() != day:
            day = s.scheduled_at.date()
            yield Text(f"  {day}", "dim")
        line = Text(f"{label} ").append(f"{s.quantity:>{shares},}", "bold")
        line.append(f" {state.word}", state.style)
        yield line.append(_bar(s.quantity, most, room, state.bar), state.style)
    yield from _verdict(slices, terms)


def window_lines(terms: SplitTerms) -> Iterator[str]:
    """From when to when the order is scheduled, and in which trading sessions."""
    yield f"from {display_time(terms.starts_at)} to {display_time(terms.ends_at)}"
    sessions = terms.sessions
    for session in sessions[:_MAX_SESSIONS]:
        opens_at, closes_at = display_time(session.opens_at), display_time(session.closes_at)
        yield f"in the session from {opens_at} to {closes_at}"
    if len(sessions) > _MAX_SESSIONS:
        last = display_time(sessions[-1].closes_at)
        yield f"and in {len(sessions) - _MAX_SESSIONS} more, the last until {last}"


def _label(s: Slice, start: datetime) -> str:
    at = s.scheduled_at.astimezone(UTC)
    return (
        f"  {s.sequence_number:>3}  {at:%H:%M:%S}.{at.microsecond // 1000:03}  {_after(at, start)}"
    )


def _after(at: datetime, start: datetime) -> str:
    """How long after the first slice, in whole seconds."""
    seconds = int((at - start).total_seconds())
    return f"+{seconds // 3600:>2}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _bar(quantity: int, most: int, room: int, bar: str) -> str:
    return bar * max(1, round(quantity * room / most)) if quantity > 0 else ""


def _verdict(slices: Sequence[Slice], terms: SplitTerms | None) -> Iterator[Text]:
    """The sum of the slices, and every rule they break; `terms` is None if unknown."""
    total = sum(s.quantity for s in slices)
    if terms is None:
        yield Text(
            f"  sum {total:,} shares; its OrderCreated cannot be read, so no rule is checked"
        )
        return
    broken = broken_rules(terms, slices)
    line = Text(f"  sum {total:,} of {terms.total_quantity:,} shares; ")
    if not broken:
        yield line.append("every rule of a schedule holds", "green")
        return
    yield line.append("a rule of a schedule is broken", "bold red")
    for breach in broken:
        yield Text(f"  {breach.rule}: {breach.breach}", "red")
