"""`make simulate`: as many schedules as fit, or one of them told step by step."""

import argparse
import gc
import multiprocessing
import secrets
import sys
import time

import msgspec

from tests.simulation.simulate import simulate

_SEEDS = 1_000_000_000


class Part(msgspec.Struct):
    """What one process ran; it ends at the first seed that breaks something."""

    schedules: int = 0
    orders: int = 0
    steps: int = 0
    broken: int | None = None


def main() -> int:
    """Run; 0 if every invariant held, 1 if one broke."""
    asked = _asked()
    if asked.seed is not None:
        return _replay(asked.seed)
    first = secrets.randbelow(_SEEDS) if asked.first is None else asked.first
    _say(f"schedules from seed {first} on, {asked.seconds:g} s on {asked.jobs} processes")
    begun = time.monotonic()
    parts = _run_parts(first, asked.seconds, asked.jobs)
    seconds = time.monotonic() - begun
    schedules, orders, steps = (
        sum(getattr(part, name) for part in parts) for name in ("schedules", "orders", "steps")
    )
    broken = [part.broken for part in parts if part.broken is not None]
    _say(
        f"{schedules:,} schedules in {seconds:.1f} s ({schedules / seconds:,.0f} a second): "
        f"{orders:,} orders, {steps:,} steps, {len(broken)} broken"
    )
    return _replay(broken[0]) if broken else 0


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="tell this one step by step")
    parser.add_argument("--first", type=int, help="the first seed; a random one if not given")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    return parser.parse_args()


def _replay(seed: int) -> int:
    trace: list[str] = []
    ran = simulate(seed, trace=trace)
    for line in trace:
        _say(line)
    _say(f"seed {seed}: {ran.fault or 'every invariant holds'}, fingerprint {ran.fingerprint}")
    if ran.fault is not None:
        _say(f"again: make simulate SEED={seed}")
    return 0 if ran.fault is None else 1


def _run_parts(first: int, seconds: float, jobs: int) -> list[Part]:
    deadline = time.monotonic() + seconds
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        return pool.starmap(_run_part, [(first + n, jobs, deadline) for n in range(jobs)])


def _run_part(first: int, stride: int, deadline: float) -> Part:
    gc.freeze()
    gc.set_threshold(20_000, 50, 1000)  # a schedule leaves little behind
    part = Part()
    while part.broken is None and time.monotonic() < deadline:
        seed = first + part.schedules * stride
        ran = simulate(seed)
        part.schedules, part.orders = part.schedules + 1, part.orders + ran.orders
        part.steps += ran.steps
        part.broken = None if ran.fault is None else seed
    return part


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
