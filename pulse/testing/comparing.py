"""What-if: somebody's own splitter, run over orders and held against every rule and law.

Nothing is written anywhere. A candidate is any function from `SplitTerms` to slices.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import Final

import msgspec
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis.errors import NoSuchExample

from pulse.domain import (
    SCHEDULE_RULES,
    BrokenRule,
    Slice,
    SplitTerms,
    broken_rules,
)
from pulse.domain.splitmix import SplitMix64
from pulse.testing.splitter_laws import SPLITTER_LAWS, sample_of
from pulse.testing.strategies import Size, split_terms, terms_below, terms_like

Candidate = Callable[[SplitTerms], Iterable[Slice]]

_TRIES: Final = 1_000
_MOST_SLICES: Final = 10_000
_LAW_SEEDS: Final = tuple(SplitMix64(seed).next() for seed in range(2_000))
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
_WHATEVER: Final = (Exception, SystemExit)
"""What somebody else's code may raise; an interrupt is not theirs."""


class Failure(msgspec.Struct, frozen=True):
    """Terms, what the candidate made of them, and the rules that this breaks."""

    terms: SplitTerms
    slices: tuple[Slice, ...]
    broken: tuple[BrokenRule, ...]


class Comparison(msgspec.Struct, frozen=True):
    """What became of the candidate over `orders` orders, those of the laws included.

    `broken` counts orders by rule and `laws` has the breaches by law, None where a law could not be
    looked at; both name every rule and law there is, also those that held. `first` is the first
    order that failed.
    """

    orders: int
    failed: int
    broken: dict[str, int]
    laws: dict[str, list[str] | None]
    first: Failure | None

    @property
    def holds(self) -> bool:
        """No rule is broken, every law was looked at, and none is broken."""
        return not self.failed and all(breaches == [] for breaches in self.laws.values())


def candidate_answers_with_slices(candidate: Candidate, terms: SplitTerms) -> Iterator[str]:
    """The splitter answers every order with a sequence of slices, and raises nothing."""
    try:
        made = _answer(candidate, terms)
    except _WHATEVER as error:
        yield _told(error)
        return
    if len(made) == _MOST_SLICES:
        yield f"it answered with {_MOST_SLICES:,} slices and more"


def same_terms_same_schedule(candidate: Candidate, terms: SplitTerms) -> Iterator[str]:
    """The schedule is a function of the terms alone: asked again, the answer is the same."""
    first = _answer(candidate, terms)
    _answer(candidate, msgspec.structs.replace(terms, seed=terms.seed ^ 1))
    second = _answer(candidate, terms)
    for place, (one, other) in enumerate(zip(first, second, strict=False), 1):
        if one != other:
            yield f"asked again, the slice at place {place} is another: {other}, and was {one}"
            return
    if len(first) != len(second):
        yield f"asked again, there are {len(second)} slices and were {len(first)}"


def _answer(candidate: Candidate, terms: SplitTerms) -> tuple[Slice, ...]:
    """What the candidate makes of the terms; of what has no end, a great many."""
    return tuple(islice(candidate(terms), _MOST_SLICES))


def _told(error: BaseException) -> str:
    try:
        return f"it raised {type(error).__name__}: {error}"
    except _WHATEVER:
        return f"it raised {type(error).__name__}"


CANDIDATE_RULES: Final = (candidate_answers_with_slices, same_terms_same_schedule)
"""What a splitter must do before its slices can be looked at."""


def failure_of(candidate: Candidate, terms: SplitTerms) -> Failure | None:
    """What is wrong with the candidate's answer to these terms; None where every rule holds."""
    for rule in CANDIDATE_RULES:
        try:
            breaches = list(rule(candidate, terms))
        except _WHATEVER as error:
            breaches = [f"asked again, {_told(error)}"]
        if breaches:
            return Failure(
                terms, (), tuple(BrokenRule(rule=rule.__name__, breach=b) for b in breaches)
            )
    slices = _answer(candidate, terms)
    broken = broken_rules(terms, slices)
    return Failure(terms, slices, broken) if broken else None


def compare(
    candidate: Candidate, orders: Sequence[SplitTerms], on_progress: Callable[[int, int], None]
) -> Comparison:
    """Run the candidate over these orders, then over six more under many seeds, for the laws.

    The rules are looked at in all of them. `on_progress` is told how many are done, of how many.
    """
    tally = _Tally(len(orders) + len(_LAW_SIZES) * len(_LAW_SEEDS), on_progress)
    for terms in orders:
        tally.add(failure_of(candidate, terms))
    laws: dict[str, list[str] | None] = {law.__name__: None for law in SPLITTER_LAWS}
    for size in _LAW_SIZES:
        _look_at_laws(candidate, size, laws, tally)
    return Comparison(
        orders=tally.done,
        failed=tally.failed,
        broken=tally.broken,
        laws=laws,
        first=tally.first,
    )


class _Tally:
    """What has been seen so far."""

    def __init__(self, total: int, on_progress: Callable[[int, int], None]) -> None:
        rules = (*CANDIDATE_RULES, *SCHEDULE_RULES)
        self.broken = {rule.__name__: 0 for rule in rules}
        self.failed = self.done = 0
        self.first: Failure | None = None
        self._total, self._on_progress = total, on_progress

    def add(self, failure: Failure | None) -> None:
        """One more order is done."""
        self.done += 1
        if failure is not None:
            self.failed += 1
            self.first = self.first or failure
            for rule in {breach.rule for breach in failure.broken}:
                self.broken[rule] += 1
        self._on_progress(self.done, self._total)


def generated_orders(count: int) -> list[SplitTerms]:
    """Terms over the whole accepted range, edges favoured; the same ones at every call."""
    found: list[SplitTerms] = []

    @settings(_QUIET, max_examples=count, phases=[Phase.generate])
    @given(split_terms())
    def collect(terms: SplitTerms) -> None:
        found.append(terms)

    collect()
    return found[:count]


def shrink(candidate: Candidate, failure: Failure) -> Failure:
    """The smallest order found that breaks the first of the failure's rules too."""
    rule = failure.broken[0].rule

    def breaks_it_too(terms: SplitTerms) -> bool:
        found = failure_of(candidate, terms)
        return found is not None and rule in {breach.rule for breach in found.broken}

    for smaller in (terms_below(failure.terms), terms_like(failure.terms)):
        with suppress(NoSuchExample):
            smallest = find(smaller, breaks_it_too, settings=settings(_QUIET, max_examples=_TRIES))
            return failure_of(candidate, smallest) or failure
    return failure


def _look_at_laws(
    candidate: Candidate, size: Size, laws: dict[str, list[str] | None], tally: _Tally
) -> None:
    """Hold a sample of that size against every law, unless it cannot be made."""
    terms = SplitTerms(**size._asdict(), randomize=True, seed=0, starts_at=_STARTS_AT)
    schedules: dict[int, tuple[Slice, ...]] = {}
    for seed in _LAW_SEEDS:
        seeded = msgspec.structs.replace(terms, seed=seed)
        failure = _sampled(candidate, seeded, schedules)
        tally.add(failure)
        if failure is not None and not _countable(failure):
            return
    sample = sample_of(lambda seeded: schedules[seeded.seed], terms, _LAW_SEEDS)
    order = f"{size.total_quantity:,} shares in {size.num_splits} slices"
    for law in SPLITTER_LAWS:
        breaches = [f"{order}: {breach}" for breach in law(sample)]
        laws[law.__name__] = (laws[law.__name__] or []) + breaches


def _sampled(
    candidate: Candidate, terms: SplitTerms, schedules: dict[int, tuple[Slice, ...]]
) -> Failure | None:
    """The schedule for one seed, kept for the laws, and what is wrong with it."""
    try:
        slices = schedules[terms.seed] = _answer(candidate, terms)
    except _WHATEVER as error:
        breach = BrokenRule(rule=candidate_answers_with_slices.__name__, breach=_told(error))
        return Failure(terms, (), (breach,))
    broken = broken_rules(terms, slices)
    return Failure(terms, slices, broken) if broken else None


def _countable(failure: Failure) -> bool:
    """Whether the laws can compute with these slices, wrong as they are."""
    rules = {breach.rule for breach in failure.broken}
    return rules.isdisjoint(_NOT_COUNTABLE)


_NOT_COUNTABLE: Final = {
    candidate_answers_with_slices.__name__,
    "slices_are_well_formed",
    "slices_are_numbered",
}
