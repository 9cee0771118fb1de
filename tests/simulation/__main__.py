"""`make simulate`: simulate for a given time, or print one run step by step."""

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
    """The counts of one process, which stops at the first seed that violates an invariant."""

    runs: int = 0
    orders: int = 0
    events: int = 0
    steps: int = 0
    broken: int | None = None


def main() -> int:
    """Run; returns 0 if every invariant holds, else 1."""
    arguments = _arguments()
    if arguments.seed is not None:
        return _replay(arguments.seed)
    first = secrets.randbelow(_SEEDS) if arguments.first is None else arguments.first
    _print(f"runs from seed {first}, {arguments.seconds:g} s on {arguments.jobs} processes")
    begun = time.monotonic()
    parts = _run_parts(first, arguments.seconds, arguments.jobs)
    seconds = time.monotonic() - begun
    runs, orders, events, steps = (
        sum(getattr(part, name) for part in parts) for name in ("runs", "orders", "events", "steps")
    )
    broken = [part.broken for part in parts if part.broken is not None]
    _print(
        f"{runs:,} runs in {seconds:.1f} s ({runs / seconds:,.0f} per second): "
        f"{orders:,} orders, {events:,} events, {steps:,} steps, {len(broken)} broken"
    )
    return _replay(broken[0]) if broken else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seed", type=int, help="print the run of this seed step by step")
    parser.add_argument("--first", type=int, help="the first seed; default: random")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    return parser.parse_args()


def _replay(seed: int) -> int:
    trace: list[str] = []
    result = simulate(seed, trace=trace)
    for line in trace:
        _print(line)
    _print(
        f"seed {seed}: {result.fault or 'every invariant holds'}, fingerprint {result.fingerprint}"
    )
    if result.fault is not None:
        _print(f"to repeat: make simulate SEED={seed}")
    return 0 if result.fault is None else 1


def _run_parts(first: int, seconds: float, jobs: int) -> list[Part]:
    deadline = time.monotonic() + seconds
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        return pool.starmap(_run_part, [(first + n, jobs, deadline) for n in range(jobs)])


def _run_part(first: int, stride: int, deadline: float) -> Part:
    gc.freeze()
    gc.set_threshold(20_000, 50, 1000)  # collect rarely: a run creates little garbage
    part = Part()
    while part.broken is None and time.monotonic() < deadline:
        seed = first + part.runs * stride
        result = simulate(seed)
        part.runs, part.orders = part.runs + 1, part.orders + result.orders
        part.events, part.steps = part.events + result.events, part.steps + result.steps
        part.broken = None if result.fault is None else seed
    return part


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
