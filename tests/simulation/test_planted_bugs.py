"""The simulation finds each planted bug within a number of seeds; a failing seed fails again."""

import pytest

from tests.simulation.planted import Planted
from tests.simulation.planted_bugs import (
    AgeFromLastClaim,
    DoubleSplit,
    FastMonitor,
    LostReplyAssumedOwn,
    OutOfOrder,
    PositionBeforeRows,
    PositionNotLocked,
    SplitsOverdueOrders,
)
from tests.simulation.planted_life_bugs import (
    CancelAssumed,
    CancelOnce,
    DistanceIgnored,
    DueNotRefreshed,
    ExpiryHalted,
    FastReleaser,
    GuardIgnored,
    HaltsReadOnce,
    OnlyPolls,
    StaleDecision,
    SuccessorIgnored,
    VersionTakenIgnored,
)
from tests.simulation.planted_seal_bugs import (
    CheckpointBeforeTree,
    EntriesBeforeTree,
    SealNotLocked,
    TreeRemembered,
)
from tests.simulation.simulate import RunResult, simulate

pytestmark = pytest.mark.simulation

FOUND_WITHIN = [
    (DoubleSplit, 1500, "follows 2"),
    (OutOfOrder, 1000, "is skipped|the view|a reader saw"),
    (PositionBeforeRows, 10, "the view lacks"),
    (PositionNotLocked, 500, "order_parked|went back"),
    (FastMonitor, 1500, "timed out at the age of"),
    (SplitsOverdueOrders, 1000, "was claimed at the age of .* and split"),
    (AgeFromLastClaim, 1000, "was claimed at the age of .* and split"),
    (LostReplyAssumedOwn, 300, "both created|answered with another order"),
    (VersionTakenIgnored, 50, "settles .* again|after its end"),
    (SuccessorIgnored, 1000, "after it had expired"),
    (DistanceIgnored, 1000, "too soon after the slice before"),
    (FastReleaser, 50, "has an event of"),
    (OnlyPolls, 600, "was due at .* late"),
    (StaleDecision, 2000, "after its expiry"),
    (GuardIgnored, 2000, "was released while halted"),
    (HaltsReadOnce, 200, "was due at .* late|work left"),
    (ExpiryHalted, 300, "was due at .* late"),
    (DueNotRefreshed, 50, "is due at .*, the view has"),
    (CancelOnce, 1000, "is not cancelled"),
    (CancelAssumed, 1000, "is not cancelled"),
    (SealNotLocked, 200, "the seal stopped"),
    (TreeRemembered, 50, "the seal stopped"),
    (CheckpointBeforeTree, 50, "a checkpoint has .* entries, the tree has"),
    (EntriesBeforeTree, 50, "the seal stopped"),
]


def first_broken(planted: type[Planted], seeds: int) -> RunResult | None:
    return next((ran for n in range(seeds) if (ran := simulate(n, planted())).fault), None)


@pytest.mark.parametrize(
    ("planted", "seeds", "fault"), FOUND_WITHIN, ids=lambda value: getattr(value, "__name__", "")
)
def test_a_planted_bug_is_found(planted: type[Planted], seeds: int, fault: str) -> None:
    found = first_broken(planted, seeds)
    assert found is not None, f"not found within {seeds} seeds"
    with pytest.raises(AssertionError, match=fault):
        raise AssertionError(found.fault)


def test_a_failing_seed_fails_again_with_the_same_trace() -> None:
    found = first_broken(DoubleSplit, 1500)
    assert found is not None
    first, second = list[str](), list[str]()
    for trace in (first, second):
        again = simulate(found.seed, DoubleSplit(), trace)
        assert (again.fault, again.fingerprint) == (found.fault, found.fingerprint)
    assert first == second
    assert "OrderCreated" in "\n".join(first)
    assert str(found.fault) in first[-1]
    assert simulate(found.seed).fault is None
