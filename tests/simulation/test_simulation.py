"""Pulse's components, interleaved and crashed: every invariant holds."""

import subprocess
import sys
from collections import Counter

import pytest

from tests.simulation.simulate import RunResult, simulate
from tests.support.processes import ROOT

pytestmark = pytest.mark.simulation

RUNS = 700
REQUIRED_EVENTS = (
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
    "OUTAGE",
    "SlicesReleased",
    "SlicesExpired",
    "OrderCancelled",
    "NothingToCancel",
    "overtaken=",
    "not_confirmed=",
    "update_checkpoint",
    "lock_seal                    succeeds: 0 rows",
)


@pytest.fixture(scope="module")
def runs() -> tuple[list[RunResult], Counter[str]]:
    """The results of the first seeds, and in how many of them each required event occurred."""
    ran: list[RunResult] = []
    happened: Counter[str] = Counter()
    for seed in range(RUNS):
        trace: list[str] = []
        ran.append(simulate(seed, trace=trace))
        output = "\n".join(trace)
        happened.update(what for what in REQUIRED_EVENTS if what in output)
    return ran, happened


def test_every_invariant_holds_in_every_schedule(
    runs: tuple[list[RunResult], Counter[str]],
) -> None:
    broken = [f"make simulate SEED={ran.seed}: {ran.fault}" for ran in runs[0] if ran.fault]
    assert broken == []


def test_the_runs_contain_every_required_event(
    runs: tuple[list[RunResult], Counter[str]],
) -> None:
    assert [what for what in REQUIRED_EVENTS if not runs[1][what]] == []


def test_a_seed_replays_exactly() -> None:
    for seed in range(40, 60):
        first, second = list[str](), list[str]()
        ran, again = simulate(seed, trace=first), simulate(seed, trace=second)
        assert first == second
        assert ran.fingerprint == again.fingerprint == simulate(seed).fingerprint


def test_a_seed_replays_exactly_in_another_process() -> None:
    expected: list[str] = []
    fingerprint = simulate(7, trace=expected).fingerprint
    for hash_seed in ("1", "2"):
        lines = subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seed", "7"],
            cwd=ROOT,
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout.splitlines()
        assert lines[:-1] == expected
        assert lines[-1].endswith(fingerprint)


def test_two_seeds_differ() -> None:
    assert simulate(1).fingerprint != simulate(2).fingerprint
