"""A schedule drawn in text: quantity over time, one line a slice."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from rich.text import Text

from pulse.domain import OrderCreated, Slice, SplitTerms, broken_rules

_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_LEAST_BAR: Final = 10


def draw(
    slices: Sequence[Slice], created: OrderCreated | None, columns: int, *, blocks: bool
) -> Iterator[Text]:
    """The slices as bars that start at zero, a line a day, their sum, and what the rules say."""
    yield Text("")
    yield Text("Schedule, times in UTC", "bold")
    most = max((s.quantity for s in slices), default=1)
    labels = [_label(s, slices[0].scheduled_at) for s in slices]
    shares = len(f"{most:,}")
    room = max(_LEAST_BAR, columns - max(map(len, labels), default=0) - shares - 3)
    day = None
    for s, label in zip(slices, labels, strict=True):
        if s.scheduled_at.date() != day:
            day = s.scheduled_at.date()
            yield Text(f"  {day}", "dim")
        line = Text(f"{label} ").append(f"{s.quantity:>{shares},}", "bold")
        yield line.append(" ").append(_bar(s.quantity, most, room, blocks=blocks), "cyan")
    yield from _sum(slices, created)


def _label(s: Slice, start: datetime) -> str:
    at = s.scheduled_at.astimezone(UTC)
    return (
        f"  {s.sequence_number:>3}  {at:%H:%M:%S}.{at.microsecond // 1000:03}  {_after(at, start)}"
    )


def _after(at: datetime, start: datetime) -> str:
    """How long after the first slice, in whole seconds."""
    seconds = int((at - start).total_seconds())
    return f"+{seconds // 3600:>2}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _bar(quantity: int, most: int, room: int, *, blocks: bool) -> str:
    if not blocks:
        return "#" * max(1, round(quantity * room / most))
    whole, eighths = divmod(max(1, quantity * room * 8 // most), 8)
    return "█" * whole + _EIGHTHS[eighths].strip()


def _sum(slices: Sequence[Slice], created: OrderCreated | None) -> Iterator[Text]:
    total = sum(s.quantity for s in slices)
    if created is None:
        yield Text(
            f"  sum {total:,} shares; its creation is not readable, so no rule can be checked"
        )
        return
    broken = broken_rules(_terms(created), slices)
    verdict = Text(f"  sum {total:,} of {created.total_quantity:,} shares; ")
    if not broken:
        yield verdict.append("every rule of a schedule holds", "green")
        return
    yield verdict.append("a rule of a schedule is broken: report it", "bold red")
    for breach in broken:
        yield Text(f"  {breach.rule}: {breach.breach}", "red")


def _terms(created: OrderCreated) -> SplitTerms:
    return SplitTerms(
        total_quantity=created.total_quantity,
        num_splits=created.num_splits,
        duration_minutes=created.duration_minutes,
        randomize=created.randomize,
        seed=int(created.split_seed, 16),
        starts_at=created.timestamp,
    )
