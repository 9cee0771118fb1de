"""Runs another splitter over orders and checks it by every rule and law.

A candidate is any function from `SplitTerms` to slices.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import msgspec
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis.errors import NoSuchExample

from pulse.domain import SCHEDULE_RULES, BrokenRule, Slice, SplitTerms, broken_rules, split_v1
from pulse.domain.splitmix import SplitMix64
from pulse.testing.splitter_laws import SPLITTER_LAWS, sample_of
from pulse.testing.strategies import Size, split_terms, terms_below, terms_like

Candidate = Callable[[SplitTerms], Iterable[Slice]]
OnProgress = Callable[[int, int], None]

_ANSWERS: Final = "candidate_answers_with_slices"
_SAME: Final = "same_terms_same_schedule"
CANDIDATE_RULES: Final = (_ANSWERS, _SAME)
"""The rules about the call itself. If one is broken, no rule about the slices is reported."""

_TRIES: Final = 1_000
LAW_SEEDS: Final = tuple(SplitMix64(seed).next() for seed in range(2_000))
_LAW_SIZES: Final = (
    Size(3, 2, 60),
    Size(26, 10, 1),
    Size(1_000, 5, 390),
    Size(10_000, 10, 60),
    Size(25_000, 25, 1),
    Size(5_000, 100, 1440),
)
_STARTS_AT: Final = datetime(2026, 3, 2, 3, 45, tzinfo=UTC)
_QUIET: Final = settings(
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
_NO_SAMPLE: Final = {_ANSWERS, "slices_are_well_formed", "slices_are_numbered"}
"""If one of these rules is broken, the laws cannot be computed."""


class Failure(msgspec.Struct, frozen=True):
    """Terms, the candidate's slices for them, and the rules that these break."""

    terms: SplitTerms
    slices: tuple[Slice, ...]
    broken: tuple[BrokenRule, ...]


class Comparison(msgspec.Struct):
    """The result of the candidate over `orders` orders, including those for the laws.

    `broken` counts orders by rule. `laws` has the breaches by law, None if the law could not be
    checked. Rules and laws that hold are included. `first` is the first order that failed.
    """

    orders: int
    failed: int
    broken: dict[str, int]
    laws: dict[str, list[str] | None]
    first: Failure | None

    @property
    def holds(self) -> bool:
        """Whether no rule is broken, and every law was checked and holds."""
        return not self.failed and all(breaches == [] for breaches in self.laws.values())


def failure_of(candidate: Candidate, terms: SplitTerms) -> Failure | None:
    """What is wrong with the candidate's slices for these terms; None if every rule holds."""
    first = _answer(candidate, terms)
    if not first.broken or first.broken[0].rule != _ANSWERS:
        _answer(candidate, msgspec.structs.replace(terms, seed=terms.seed ^ 1))
        again = _answer(candidate, terms)
        if again.slices != first.slices:
            breach = f"a second call returned {again.slices}, the first one {first.slices}"
            return _failure(terms, _SAME, breach)
    return first if first.broken else None


def compare(
    candidate: Candidate, orders: Sequence[SplitTerms], on_progress: OnProgress
) -> Comparison:
    """Run the candidate over these orders, then over six more with many seeds, for the laws.

    The rules are checked for all of them, but `same_terms_same_schedule` only for `orders`.
    `on_progress` receives the number done and the total.
    """
    names = (*CANDIDATE_RULES, *(rule.__name__ for rule in SCHEDULE_RULES))
    laws: dict[str, list[str] | None] = {law.__name__: None for law in SPLITTER_LAWS}
    found = Comparison(0, 0, dict.fromkeys(names, 0), laws, None)

    def count(failure: Failure | None) -> None:
        found.orders += 1
        if failure is not None and failure.broken:
            found.failed += 1
            found.first = found.first or failure
            for rule in {breach.rule for breach in failure.broken}:
                found.broken[rule] += 1
        on_progress(found.orders, len(orders) + len(_LAW_SIZES) * len(LAW_SEEDS))

    for terms in orders:
        count(failure_of(candidate, terms))
    for size in _LAW_SIZES:
        _check_laws(candidate, size, laws, count)
    return found


def generated_orders(count: int) -> list[SplitTerms]:
    """Terms over the whole accepted range with many edge cases; every call returns the same."""
    found: list[SplitTerms] = []

    @settings(_QUIET, max_examples=count, phases=[Phase.generate])
    @given(split_terms())
    def collect(terms: SplitTerms) -> None:
        found.append(terms)

    collect()
    return found[:count]


def shrink(candidate: Candidate, failure: Failure) -> Failure:
    """The smallest order found that also breaks the first rule of the failure."""
    rule = failure.broken[0].rule

    def breaks_it_too(terms: SplitTerms) -> bool:
        found = failure_of(candidate, terms)
        return found is not None and rule in {breach.rule for breach in found.broken}

    for smaller in (terms_below(failure.terms), terms_like(failure.terms)):
        with suppress(NoSuchExample):
            smallest = find(smaller, breaks_it_too, settings=settings(_QUIET, max_examples=_TRIES))
            return failure_of(candidate, smallest) or failure
    return failure


def last_takes_the_rest(terms: SplitTerms) -> tuple[Slice, ...]:
    """A naive splitter that breaks rules and laws, with the times of version 1.

    All slices except the last are drawn within 20 % of the average, and the last gets the rest. Its
    deviation is the sum of the other deviations and grows with their number. So the last slice can
    exceed the bounds, and may get no shares or a negative number.
    """
    total, count = terms.total_quantity, terms.num_splits
    least, most = terms.quantity_bounds
    random = SplitMix64(terms.seed)
    quantities = [total // count] * (count - 1)
    if terms.randomize:
        quantities = [least + random.below(most - least + 1) for _ in quantities]
    quantities.append(total - sum(quantities))
    return tuple(
        msgspec.structs.replace(s, quantity=quantity)
        for s, quantity in zip(split_v1(terms), quantities, strict=True)
    )


def _answer(candidate: Candidate, terms: SplitTerms) -> Failure:
    """The candidate's slices for these terms; `broken` is empty if nothing is wrong with them."""
    try:
        slices = tuple(candidate(terms))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - only an interrupt ends the run
        return _failure(terms, _ANSWERS, f"it raised {type(error).__name__}: {error}")
    return Failure(terms, slices, broken_rules(terms, slices))


def _failure(terms: SplitTerms, rule: str, breach: str) -> Failure:
    return Failure(terms, (), (BrokenRule(rule=rule, breach=breach),))


def _check_laws(
    candidate: Candidate,
    size: Size,
    laws: dict[str, list[str] | None],
    count: Callable[[Failure | None], None],
) -> None:
    """Check a sample of this size by every law, unless the sample cannot be computed."""
    terms = SplitTerms(**size._asdict(), randomize=True, seed=0, starts_at=_STARTS_AT)
    schedules: dict[int, tuple[Slice, ...]] = {}
    for seed in LAW_SEEDS:
        answer = _answer(candidate, msgspec.structs.replace(terms, seed=seed))
        count(answer)
        if not _NO_SAMPLE.isdisjoint(breach.rule for breach in answer.broken):
            return
        schedules[seed] = answer.slices
    sample = sample_of(lambda seeded: schedules[seeded.seed], terms, LAW_SEEDS)
    order = f"{size.total_quantity:,} shares in {size.num_splits} slices"
    for law in SPLITTER_LAWS:
        breaches = [f"{order}: {breach}" for breach in law(sample)]
        laws[law.__name__] = (laws[law.__name__] or []) + breaches
