"""Another splitter, run over orders and held against every rule and law.

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
"""What a splitter must do before its slices can be looked at."""

_TRIES: Final = 1_000
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
_NO_SAMPLE: Final = {_ANSWERS, "slices_are_well_formed", "slices_are_numbered"}
"""Rules without which the laws cannot compute with the slices."""


class Failure(msgspec.Struct, frozen=True):
    """Terms, what the candidate made of them, and the rules that this breaks."""

    terms: SplitTerms
    slices: tuple[Slice, ...]
    broken: tuple[BrokenRule, ...]


class Comparison(msgspec.Struct):
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


def failure_of(candidate: Candidate, terms: SplitTerms) -> Failure | None:
    """What is wrong with the candidate's answer to these terms; None where every rule holds."""
    first = _answer(candidate, terms)
    if not first.broken or first.broken[0].rule != _ANSWERS:
        _answer(candidate, msgspec.structs.replace(terms, seed=terms.seed ^ 1))
        again = _answer(candidate, terms)
        if again.slices != first.slices:
            breach = f"asked again, it answered with {again.slices}, and before with {first.slices}"
            return _failure(terms, _SAME, breach)
    return first if first.broken else None


def compare(
    candidate: Candidate, orders: Sequence[SplitTerms], on_progress: OnProgress
) -> Comparison:
    """Run the candidate over these orders, then over six more under many seeds, for the laws.

    The rules are looked at in all of them. `on_progress` receives how many are done, of how many.
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
        on_progress(found.orders, len(orders) + len(_LAW_SIZES) * len(_LAW_SEEDS))

    for terms in orders:
        count(failure_of(candidate, terms))
    for size in _LAW_SIZES:
        _look_at_laws(candidate, size, laws, count)
    return found


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


def last_takes_the_rest(terms: SplitTerms) -> tuple[Slice, ...]:
    """A candidate that fails: the splitter that most people write first, with version 1's times.

    All slices but one are drawn within 20 % of the average, and the last one takes the rest. Its
    error is the sum of all the others', so it grows with their number: the last slice leaves the
    bounds, and may come out at no shares or fewer.
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
    """What the candidate makes of the terms; `broken` is empty where nothing is wrong with it."""
    try:
        slices = tuple(candidate(terms))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - an interrupt is not the candidate's
        return _failure(terms, _ANSWERS, f"it raised {type(error).__name__}: {error}")
    return Failure(terms, slices, broken_rules(terms, slices))


def _failure(terms: SplitTerms, rule: str, breach: str) -> Failure:
    return Failure(terms, (), (BrokenRule(rule=rule, breach=breach),))


def _look_at_laws(
    candidate: Candidate,
    size: Size,
    laws: dict[str, list[str] | None],
    count: Callable[[Failure | None], None],
) -> None:
    """Hold a sample of that size against every law, unless it cannot be made."""
    terms = SplitTerms(**size._asdict(), randomize=True, seed=0, starts_at=_STARTS_AT)
    schedules: dict[int, tuple[Slice, ...]] = {}
    for seed in _LAW_SEEDS:
        answer = _answer(candidate, msgspec.structs.replace(terms, seed=seed))
        count(answer)
        if not _NO_SAMPLE.isdisjoint(breach.rule for breach in answer.broken):
            return
        schedules[seed] = answer.slices
    sample = sample_of(lambda seeded: schedules[seeded.seed], terms, _LAW_SEEDS)
    order = f"{size.total_quantity:,} shares in {size.num_splits} slices"
    for law in SPLITTER_LAWS:
        breaches = [f"{order}: {breach}" for breach in law(sample)]
        laws[law.__name__] = (laws[law.__name__] or []) + breaches
