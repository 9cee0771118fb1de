"""A candidate splitter's faults are found by rule, the first one shrunk to the smallest order."""

import subprocess
import sys
from collections.abc import Sequence
from itertools import count

import msgspec
import pytest

from pulse.domain import SCHEDULE_RULES, Slice, SplitTerms, split_v1
from pulse.testing import SPLITTER_LAWS
from pulse.testing.comparing import (
    CANDIDATE_RULES,
    Candidate,
    Comparison,
    compare,
    failure_of,
    generated_orders,
    shrink,
)


def compared(candidate: Candidate, orders: int) -> Comparison:
    return compare(candidate, generated_orders(orders), lambda *_: None)


def raising(terms: SplitTerms) -> tuple[Slice, ...]:
    raise ZeroDivisionError(f"{terms.num_splits} slices")


def of_something_else(_: SplitTerms) -> Sequence[Slice]:
    return ["a slice"]  # type: ignore[list-item] # the fault itself


def no_sequence(_: SplitTerms) -> Sequence[Slice]:
    return 5  # type: ignore[return-value] # the fault itself


def of_floats(terms: SplitTerms) -> Sequence[Slice]:
    return [msgspec.structs.replace(s, quantity=float(s.quantity)) for s in split_v1(terms)]


def exiting(_: SplitTerms) -> Sequence[Slice]:
    sys.exit(0)


def of_none(terms: SplitTerms) -> list[Slice]:
    return [msgspec.structs.replace(s, scheduled_at=None) for s in split_v1(terms)]


def empty(_: SplitTerms) -> Sequence[Slice]:
    return ()


def unstable() -> Candidate:
    """A different schedule at every call."""
    calls = count()
    return lambda terms: split_v1(msgspec.structs.replace(terms, seed=next(calls)))


def unstable_in_length() -> Candidate:
    calls = count()
    return lambda terms: split_v1(terms)[: 1 + next(calls) % 3]


def name_of(value: object) -> str:
    return getattr(value, "__name__", str(value))


FAULTS: list[tuple[Candidate, str, str]] = [
    (raising, "candidate_answers_with_slices", "it raised ZeroDivisionError: 2 slices"),
    (exiting, "candidate_answers_with_slices", "it raised SystemExit: 0"),
    (
        no_sequence,
        "candidate_answers_with_slices",
        "it raised TypeError: 'int' object is not iterable",
    ),
    (of_something_else, "slices_are_well_formed", "item 1 is not a Slice: str"),
    (of_floats, "slices_are_well_formed", "item 1 has 1.0 shares"),
    (of_none, "slices_are_well_formed", "item 1 is at None"),
    (empty, "slices_are_numbered", "0 slices numbered [], expected 1 to 2"),
]


@pytest.mark.parametrize(("candidate", "rule", "breach"), FAULTS, ids=name_of)
def test_a_candidate_that_is_not_a_splitter_is_reported_with_its_fault(
    candidate: Candidate, rule: str, breach: str
) -> None:
    found = compared(candidate, 10)
    assert found.failed == found.orders == 10 + 6  # one of each sample
    assert list(found.broken) == [*CANDIDATE_RULES, *(r.__name__ for r in SCHEDULE_RULES)]
    assert found.laws == {law.__name__: None for law in SPLITTER_LAWS}
    assert found.first is not None
    assert found.first.broken[0].rule == rule
    assert shrink(candidate, found.first).broken[0].breach == breach


def test_a_candidate_that_depends_on_more_than_the_terms_is_found() -> None:
    terms = generated_orders(1)[0]
    randomised = msgspec.structs.replace(terms, total_quantity=1000, num_splits=5, randomize=True)
    failure = failure_of(unstable(), randomised)
    assert failure is not None
    assert failure.broken[0].rule == "same_terms_same_schedule"
    assert failure.broken[0].breach.startswith("a second call returned ")


def test_a_candidate_whose_length_depends_on_more_than_the_terms_is_found() -> None:
    failure = failure_of(unstable_in_length(), generated_orders(1)[0])
    assert failure is not None
    assert failure.broken[0].rule == "same_terms_same_schedule"


def failing_at_large_samples(candidate: Candidate) -> Candidate:
    """The candidate, but it fails at the first order of each large sample: drawing them is slow."""
    return lambda terms: candidate(terms) if terms.total_quantity <= 26 else ()


def test_a_candidate_that_fails_at_one_seed_in_a_thousand_does_not_pass() -> None:
    def rare(terms: SplitTerms) -> Sequence[Slice]:
        if terms.seed % 1_009 == 0 and terms.total_quantity == 26:
            raise LookupError("one seed in a thousand")
        return split_v1(terms)

    found = compare(failing_at_large_samples(rare), [], lambda *_: None)
    assert not found.holds
    assert found.failed == 1 + 4
    assert found.first is not None
    assert found.first.terms.total_quantity == 26


def test_a_failure_of_large_orders_is_shrunk_to_the_smallest_that_fails() -> None:
    """Version 1, except for orders of more than 900 million shares."""

    def candidate(terms: SplitTerms) -> Sequence[Slice]:
        slices = split_v1(terms)
        return slices[:-1] if terms.total_quantity > 900_000_000 else slices

    failures = (failure_of(candidate, terms) for terms in generated_orders(200))
    smallest = shrink(candidate, next(failure for failure in failures if failure is not None))
    assert smallest.terms.total_quantity == 900_000_001
    assert smallest.terms.num_splits == 2


def test_a_failing_order_that_cannot_be_shrunk_is_reported_unchanged() -> None:
    """Only this order fails, and no drawn order is equal to it."""
    terms = msgspec.structs.replace(
        generated_orders(1)[0], total_quantity=123_456_789, num_splits=57, seed=0xC0FFEE
    )

    def candidate(asked: SplitTerms) -> Sequence[Slice]:
        return () if asked == terms else split_v1(asked)

    failure = failure_of(candidate, terms)
    assert failure is not None
    assert shrink(candidate, failure).terms == terms


def test_progress_is_reported_order_by_order() -> None:
    progress_calls: list[tuple[int, int]] = []
    compare(raising, generated_orders(5), lambda *progress: progress_calls.append(progress))
    assert [done for done, _ in progress_calls] == list(range(1, len(progress_calls) + 1))
    assert {total for _, total in progress_calls} == {5 + 6 * 2_000}


def test_the_generated_orders_are_the_same_in_every_process() -> None:
    code = (
        "import hashlib; from pulse.testing.comparing import generated_orders; "
        "print(hashlib.sha256(repr(generated_orders(50)).encode()).hexdigest())"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(answers) == 1
