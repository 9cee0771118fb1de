"""What-if: somebody's own splitter, run over orders and held against every rule and law.

Nothing is written anywhere. A candidate is any function from `SplitTerms` to slices.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
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
from pulse.testing.splitter_laws import SPLITTER_LAWS, Sample, sample_of
from pulse.testing.strategies import split_terms, terms_below, terms_like

Candidate = Callable[[SplitTerms], Sequence[Slice]]

_TRIES: Final = 1_000
_LAW_TERMS: Final = SplitTerms(
    total_quantity=2,
    num_splits=2,
    duration_minutes=390,
    randomize=True,
    seed=0,
    starts_at=datetime(2026, 3, 2, 3, 45, tzinfo=UTC),
)
_LAW_SEEDS: Final = range(2_000)
_LAW_SIZES: Final = ((1_000, 5), (10_000, 10), (25_000, 25))
_QUIET: Final = settings(
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


class Failure(msgspec.Struct, frozen=True):
    """Terms, what the candidate made of them, and the rules that this breaks."""

    terms: SplitTerms
    slices: tuple[Slice, ...]
    broken: tuple[BrokenRule, ...]


class Comparison(msgspec.Struct, frozen=True):
    """What became of the candidate over `orders` orders.

    `broken` counts orders by rule and `laws` has the breaches by law; both name every rule and law
    there is, also those that held. `first` is the first order that failed.
    """

    orders: int
    failed: int
    broken: dict[str, int]
    laws: dict[str, list[str]]
    first: Failure | None

    @property
    def holds(self) -> bool:
        """No rule and no law is broken."""
        return not self.failed and not any(self.laws.values())


def candidate_answers_with_slices(candidate: Candidate, terms: SplitTerms) -> Iterator[str]:
    """The splitter answers every order with slices, and raises nothing."""
    try:
        slices: tuple[object, ...] = tuple(candidate(terms))
    except Exception as error:  # noqa: BLE001 - somebody else's code: whatever it raises
        yield f"{type(error).__name__}: {error}"
        return
    strangers = {type(s).__name__ for s in slices if not isinstance(s, Slice)}
    if strangers:
        yield f"it answered with {', '.join(sorted(strangers))}, expected pulse.domain.Slice"


def same_terms_same_schedule(candidate: Candidate, terms: SplitTerms) -> Iterator[str]:
    """The schedule is a function of the terms alone: asked again, the answer is the same."""
    first, second = tuple(candidate(terms)), tuple(candidate(terms))
    for place, (one, other) in enumerate(zip(first, second, strict=False), 1):
        if one != other:
            yield f"asked again, the slice at place {place} is {other} and was {one}"
            return
    if len(first) != len(second):
        yield f"asked again, there are {len(second)} slices and were {len(first)}"


CANDIDATE_RULES: Final = (candidate_answers_with_slices, same_terms_same_schedule)
"""What a splitter must do before its slices can be looked at."""


def failure_of(candidate: Candidate, terms: SplitTerms) -> Failure | None:
    """What is wrong with the candidate's answer to these terms; None where every rule holds."""
    for rule in CANDIDATE_RULES:
        breaches = [BrokenRule(rule=rule.__name__, breach=b) for b in rule(candidate, terms)]
        if breaches:
            return Failure(terms, (), tuple(breaches))
    slices = tuple(candidate(terms))
    broken = broken_rules(terms, slices)
    return Failure(terms, slices, broken) if broken else None


def compare(
    candidate: Candidate, orders: Iterable[SplitTerms], on_progress: Callable[[int], None]
) -> Comparison:
    """Run the candidate over these orders and, if it survives them, over many seeds."""
    counts: Counter[str] = Counter()
    seen, failed, first = 0, 0, None
    for terms in orders:
        seen += 1
        failure = failure_of(candidate, terms)
        if failure is not None:
            failed += 1
            first = first or failure
            counts.update({breach.rule for breach in failure.broken})
        on_progress(seen)
    rules = [rule.__name__ for rule in (*CANDIDATE_RULES, *SCHEDULE_RULES)]
    return Comparison(
        orders=seen,
        failed=failed,
        broken={rule: counts[rule] for rule in rules},
        laws=_broken_laws(candidate),
        first=first,
    )


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


def _broken_laws(candidate: Candidate) -> dict[str, list[str]]:
    """By law, what breaks it; a splitter that fails on a sample has no sample to look at."""
    laws: dict[str, list[str]] = {law.__name__: [] for law in SPLITTER_LAWS}
    for total_quantity, num_splits in _LAW_SIZES:
        sample = _sample(candidate, total_quantity, num_splits)
        if sample is None:
            continue
        for law in SPLITTER_LAWS:
            order = f"{total_quantity:,} shares in {num_splits} slices"
            laws[law.__name__] += [f"{order}: {breach}" for breach in law(sample)]
    return laws


def _sample(candidate: Candidate, total_quantity: int, num_splits: int) -> Sample | None:
    terms = msgspec.structs.replace(
        _LAW_TERMS, total_quantity=total_quantity, num_splits=num_splits
    )

    def splitter(terms: SplitTerms) -> tuple[Slice, ...]:
        return tuple(candidate(terms))

    try:
        return sample_of(splitter, terms, _LAW_SEEDS)
    except Exception:  # noqa: BLE001 - what it raises, the rules above have told
        return None
