"""The real worker, projector and monitor, interleaved and crashed: no invariant ever breaks."""

import subprocess
import sys
from collections import Counter

import pytest

from tests.simulation.simulate import Ran, simulate
from tests.support.processes import ROOT

pytestmark = pytest.mark.simulation

SCHEDULES = 700
WHERE_IT_HURTS = (
    "CRASH",
    "FREEZE",
    "STOP",
    "append.reply_lost",
    "claims.orphans_released",
    "claims.released",
    "orders.timed_out",
    "SplittingFailed",
    "outcome_exists=",
    "claims.abandoned",
    "overdue=",
    "unknown=",
    "idle for too long",
)


@pytest.fixture(scope="module")
def schedules() -> tuple[list[Ran], Counter[str]]:
    """The first so many seeds, and how often something happened in them."""
    ran: list[Ran] = []
    happened: Counter[str] = Counter()
    for seed in range(SCHEDULES):
        trace: list[str] = []
        ran.append(simulate(seed, trace=trace))
        told = "\n".join(trace)
        happened.update(what for what in WHERE_IT_HURTS if what in told)
    return ran, happened


def test_every_invariant_holds_in_every_schedule(
    schedules: tuple[list[Ran], Counter[str]],
) -> None:
    broken = [f"make simulate SEED={ran.seed}: {ran.fault}" for ran in schedules[0] if ran.fault]
    assert broken == []


def test_the_schedules_go_where_it_hurts(schedules: tuple[list[Ran], Counter[str]]) -> None:
    assert [what for what in WHERE_IT_HURTS if not schedules[1][what]] == []


def test_a_seed_replays_exactly() -> None:
    for seed in range(40, 60):
        first, second = list[str](), list[str]()
        ran, again = simulate(seed, trace=first), simulate(seed, trace=second)
        assert first == second
        assert ran.fingerprint == again.fingerprint == simulate(seed).fingerprint


def test_a_seed_replays_exactly_in_another_process() -> None:
    here: list[str] = []
    fingerprint = simulate(7, trace=here).fingerprint
    for hash_seed in ("1", "2"):
        told = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seed", "7"],
            cwd=ROOT,
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout.splitlines()
        assert told[:-1] == here
        assert told[-1].endswith(fingerprint)


def test_two_seeds_differ() -> None:
    assert simulate(1).fingerprint != simulate(2).fingerprint
