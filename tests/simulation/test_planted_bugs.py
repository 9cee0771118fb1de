"""The simulation finds what is planted, within so many seeds; a failing seed fails again."""

import pytest

from tests.simulation.planted import Planted
from tests.simulation.planted_bugs import (
    AgeFromTheLastClaim,
    DoubleSplit,
    FastMonitor,
    LostReplyTakenForOwn,
    OutOfOrder,
    PositionBeforeRows,
    PositionNotLocked,
    SplitsTheOverdue,
)
from tests.simulation.simulate import Ran, simulate

pytestmark = pytest.mark.simulation

FOUND_WITHIN = [
    (DoubleSplit, 1500, "follows 2"),
    (OutOfOrder, 1000, "is skipped|the view|a reader saw"),
    (PositionBeforeRows, 10, "the view lacks"),
    (PositionNotLocked, 500, "order_parked|fell back"),
    (FastMonitor, 1500, "timed out at the age of"),
    (SplitsTheOverdue, 1000, "was claimed at the age of .* and split"),
    (AgeFromTheLastClaim, 1000, "was claimed at the age of .* and split"),
    (LostReplyTakenForOwn, 300, "both created|answered with another order"),
]


def first_broken(planted: type[Planted], seeds: int) -> Ran | None:
    return next((ran for n in range(seeds) if (ran := simulate(n, planted())).fault), None)


@pytest.mark.parametrize(
    ("planted", "seeds", "fault"), FOUND_WITHIN, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_planted_bug_is_found(planted: type[Planted], seeds: int, fault: str) -> None:
    found = first_broken(planted, seeds)
    assert found is not None, f"not found within {seeds} seeds"
    with pytest.raises(AssertionError, match=fault):
        raise AssertionError(found.fault)


def test_a_failing_seed_fails_again_and_tells_how_it_came_to_it() -> None:
    found = first_broken(DoubleSplit, 1500)
    assert found is not None
    first, second = list[str](), list[str]()
    for trace in (first, second):
        again = simulate(found.seed, DoubleSplit(), trace)
        assert (again.fault, again.fingerprint) == (found.fault, found.fingerprint)
    assert first == second
    assert "SlicesScheduled" in "\n".join(first)
    assert str(found.fault) in first[-1]
    assert simulate(found.seed).fault is None
