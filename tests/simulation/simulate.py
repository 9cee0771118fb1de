"""Runs the simulation of a seed."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import structlog

from pulse import retry
from pulse.application import origin
from pulse.domain import splitting
from tests.simulation.planted import NOTHING, Planted
from tests.simulation.world import World


class RunResult:
    """The result of one run. `fault` is the violated invariant, or None.

    `fingerprint` is equal for two runs if they stored the same bytes in the same steps.
    """

    __slots__ = ("events", "fault", "fingerprint", "orders", "seconds", "seed", "steps")

    def __init__(self, world: World, seed: int, fault: str | None) -> None:
        self.seed = seed
        self.fault = fault
        self.steps = world.steps
        self.seconds = world.now
        self.orders = len(world.invariants.orders)
        self.events = len(world.invariants.log)
        stored = repr([(r.position, r.state) for r in world.server.log.rows]).encode()
        self.fingerprint = sha256(stored + repr((world.steps, world.now)).encode()).hexdigest()


def simulate(seed: int, planted: Planted = NOTHING, trace: list[str] | None = None) -> RunResult:
    """Run the simulation of this seed; append every step to `trace`, if given."""
    world = World(seed, planted, trace)
    with _seeded(world, seed), planted:
        try:
            world.run()
        except AssertionError as broken:
            world.note("BROKEN", "", str(broken))
            return RunResult(world, seed, str(broken))
    return RunResult(world, seed, None)


@contextmanager
def _seeded(world: World, seed: int) -> Iterator[None]:
    """Derive ids and split seeds from the seed, so that a replay writes the same bytes.

    A minute of an order's window lasts as long as the profile says.
    """
    ids = Random(seed)
    minute = round(world.profile.minute_seconds * 1_000_000)
    system = SimpleNamespace(urandom=ids.randbytes)
    clock = SimpleNamespace(time=lambda: world.now)
    before = structlog.get_config()
    structlog.configure(
        processors=[_log_processor(world)],
        wrapper_class=structlog.make_filtering_bound_logger(0 if world.trace is not None else 40),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    try:
        with (
            patch.object(origin, "os", system),
            patch.object(origin, "call_ids", ids),
            patch.object(origin, "time", clock),
            patch.object(retry, "random", ids),
            patch.object(splitting, "MICROSECONDS_PER_MINUTE", minute),
        ):
            yield
    finally:
        structlog.configure(**before)


def _log_processor(world: World) -> Any:
    def process(_: object, level: str, event: dict[str, Any]) -> str:
        name = event.pop("event")
        error = event.pop("exc_info", None)
        world.note("  log", str(name), " ".join(f"{k}={v}" for k, v in event.items()))
        if level in {"error", "exception", "critical"}:
            world.errors.append(f"{name} {event} {error!r}")
        return ""

    return process
