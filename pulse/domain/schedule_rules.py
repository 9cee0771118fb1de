"""The rules that every schedule must satisfy. These functions are their only definition.

Each takes the terms and the slices, and yields for every breach a sentence with its numbers. All
arithmetic is on integers: shares, and microseconds of trading time. The worker, the tests,
`pulse verify`, the table in the documentation and `pulse.testing` all use `SCHEDULE_RULES`. Stored
schedules are verified against them, so a rule may be relaxed but never tightened: a stricter rule
must apply only to new splitter versions.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from pulse.domain.splitting import SplitTerms
from pulse.domain.values import Slice, Value

Rule = Callable[[SplitTerms, Sequence[Slice]], Iterator[str]]

_MICROSECOND = timedelta(microseconds=1)
_MAX_INTEGER: Final = 2**63 - 1
_MIN_INTEGER: Final = -_MAX_INTEGER
_NO_OFFSET: Final = timedelta(0)
_MAX_SHOWN_CHARACTERS: Final = 40


class BrokenRule(Value, frozen=True):
    """One breach: the rule's name and a sentence with the numbers."""

    rule: str
    breach: str


def slices_are_well_formed(_: SplitTerms, slices: Sequence[Slice]) -> Iterator[str]:
    """Every slice has an integer number, an integer quantity and a time in UTC."""
    for place, s in enumerate(slices, 1):
        if not isinstance(s, Slice):
            yield f"item {place} is not a Slice: {type(s).__name__}"
            continue
        if not _is_integer(s.sequence_number):
            yield f"item {place} has the number {_shown(s.sequence_number)}"
        if not _is_integer(s.quantity):
            yield f"item {place} has {_shown(s.quantity)} shares"
        if not _is_utc(s.scheduled_at):
            yield f"item {place} is at {_shown(s.scheduled_at)}"


def slices_are_numbered(terms: SplitTerms, slices: Sequence[Slice]) -> Iterator[str]:
    """There are exactly num_splits slices, numbered 1 to num_splits in order."""
    numbers = [s.sequence_number for s in slices]
    if numbers != list(range(1, terms.num_splits + 1)):
        yield f"{len(numbers)} slices numbered {numbers}, expected 1 to {terms.num_splits}"


def quantities_sum_to_total(terms: SplitTerms, slices: Sequence[Slice]) -> Iterator[str]:
    """The quantities sum to total_quantity: no share is created or destroyed."""
    total = sum(s.quantity for s in slices)
    if total != terms.total_quantity:
        yield f"quantities sum to {total}, expected {terms.total_quantity}"


def quantities_stay_near_average(terms: SplitTerms, slices: Sequence[Slice]) -> Iterator[str]:
    """Every quantity is 80 % (rounded down, at least 1) to 120 % (rounded up) of the average."""
    least, most = terms.quantity_bounds
    for s in slices:
        if not least <= s.quantity <= most:
            yield f"slice {s.sequence_number} has {s.quantity} shares, expected {least} to {most}"


def even_quantities_are_even(terms: SplitTerms, slices: Sequence[Slice]) -> Iterator[str]:
    """Without randomisation quantities differ by at most 1, the surplus spread evenly.

    Spread evenly: the first k slices together hold k/n of the total to within one share.
    """
    if terms.randomize or not slices:
        return
    quantities = [s.quantity for s in slices]
    if max(quantities) - min(quantities) > 1:
        yield f"quantities run from {min(quantities)} to {max(quantities)}"
    held = 0
    for count, quantity in enumerate(quantities, 1):
        held += quantity
        if abs(held * terms.num_splits - count * terms.total_quantity) >= terms.num_splits:
            yield f"the first {count} slices hold {held} shares of {terms.total_quantity}"
            return


def window_is_filled(terms: SplitTerms, slices: Sequence[Slice]) -> Iterator[str]:
    """The first slice is at the window's start, the last at its end."""
    if not slices:
        return
    offsets = _offsets(terms, slices)
    if offsets[0] != 0:
        yield f"slice 1 is {offsets[0]} us after the window's start, expected 0"
    if offsets[-1] != terms.duration_microseconds:
        yield f"the last slice is at {offsets[-1]} us, expected {terms.duration_microseconds}"


def times_stay_near_even(terms: SplitTerms, slices: Sequence[Slice]) -> Iterator[str]:
    """Each time is within 30 % of the interval from its even time; exactly even if not randomised.

    The interval is the duration divided by num_splits - 1. Even times are spaced by it. "Exactly"
    is to the microsecond.
    """
    duration, gaps = terms.duration_microseconds, terms.num_splits - 1
    for i, offset in enumerate(_offsets(terms, slices)):
        distance = abs(offset * gaps - i * duration)  # in microseconds times gaps
        near = 10 * distance <= 3 * duration if terms.randomize else distance < gaps
        if not near:
            yield f"slice {i + 1} is at {offset} us, its even time is {i * duration / gaps:.1f} us"


def times_increase_in_window(terms: SplitTerms, slices: Sequence[Slice]) -> Iterator[str]:
    """Times strictly increase and stay within the window."""
    offsets, duration = _offsets(terms, slices), terms.duration_microseconds
    for i, offset in enumerate(offsets):
        if not 0 <= offset <= duration:
            yield f"slice {i + 1} is at {offset} us, outside the window of {duration} us"
        if i and offset <= offsets[i - 1]:
            yield f"slice {i + 1} is at {offset} us, slice {i} at {offsets[i - 1]} us"


def slices_are_in_sessions(terms: SplitTerms, slices: Sequence[Slice]) -> Iterator[str]:
    """With trading sessions, every slice is inside one: at its open or later, before its close."""
    if not terms.sessions:
        return
    for s in slices:
        if not any(one.opens_at <= s.scheduled_at < one.closes_at for one in terms.sessions):
            yield f"slice {s.sequence_number} is at {_shown(s.scheduled_at)}, outside every session"


SCHEDULE_RULES: Final[tuple[Rule, ...]] = (
    slices_are_well_formed,
    slices_are_numbered,
    quantities_sum_to_total,
    quantities_stay_near_average,
    even_quantities_are_even,
    window_is_filled,
    times_stay_near_even,
    times_increase_in_window,
    slices_are_in_sessions,
)


def broken_rules(terms: SplitTerms, slices: Iterable[Slice]) -> tuple[BrokenRule, ...]:
    """Every breach of every rule; empty for a valid schedule.

    Accepts the result of any splitter and never raises. If the slices are malformed (not integers,
    no time zone), only the breaches of the first rule are returned.
    """
    made = tuple(slices)
    broken: list[BrokenRule] = []
    for rule in SCHEDULE_RULES:
        broken += [BrokenRule(rule=rule.__name__, breach=b) for b in rule(terms, made)]
        if broken and rule is slices_are_well_formed and not all(map(_is_computable, made)):
            break
    return tuple(broken)


def rule_sentence(rule: Callable[..., object]) -> str:
    """What the rule requires: the first line of its docstring."""
    return (rule.__doc__ or "").partition("\n")[0]


def _offsets(terms: SplitTerms, slices: Sequence[Slice]) -> list[int]:
    """The microseconds of trading time from the window's start to each slice."""
    if terms.sessions:
        return [terms.offset_of(s.scheduled_at) for s in slices]
    starts_at = terms.starts_at
    return [(s.scheduled_at - starts_at) // _MICROSECOND for s in slices]


def _is_computable(s: object) -> bool:
    return (
        isinstance(s, Slice)
        and _is_integer(s.sequence_number)
        and _is_integer(s.quantity)
        and _is_zoned_time(s.scheduled_at)
    )


def _is_integer(number: object) -> bool:
    """Whether this is an integer that fits 64 bits; `True` is not."""
    return type(number) is int and _MIN_INTEGER <= number <= _MAX_INTEGER


def _is_utc(at: object) -> bool:
    return isinstance(at, datetime) and (at.tzinfo is UTC or at.utcoffset() == _NO_OFFSET)


def _is_zoned_time(at: object) -> bool:
    """Whether this is a time with a time zone."""
    return isinstance(at, datetime) and at.utcoffset() is not None


def _shown(value: object) -> str:
    """Any value as text of bounded length."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool | float | str | None) or _is_integer(value):
        return repr(value)[:_MAX_SHOWN_CHARACTERS]
    return f"a value of type {type(value).__name__}"
