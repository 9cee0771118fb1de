"""Run a schedule, or many."""

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
from tests.simulation.invariants import InvariantBroken
from tests.simulation.planted import NOTHING, Planted
from tests.simulation.world import World


class Ran:
    """How one schedule went: `fault` is the invariant that broke, None if all held."""

    __slots__ = ("fault", "fingerprint", "orders", "seconds", "seed", "steps")

    def __init__(self, world: World, seed: int, fault: str | None) -> None:
        self.seed = seed
        self.fault = fault
        self.steps = world.steps
        self.seconds = world.now
        self.orders = len(world.invariants.orders)
        stored = repr([(r.position, r.state) for r in world.server.log.rows]).encode()
        self.fingerprint = sha256(stored + repr((world.steps, world.now)).encode()).hexdigest()


def simulate(seed: int, planted: Planted = NOTHING, trace: list[str] | None = None) -> Ran:
    """Run the schedule of this seed; with a trace, every step is written into it."""
    world = World(seed, planted, trace)
    with _seeded(world, seed), planted:
        try:
            world.run()
        except (InvariantBroken, AssertionError) as broken:
            world.note("BROKEN", "", str(broken))
            return Ran(world, seed, str(broken))
    return Ran(world, seed, None)


@contextmanager
def _seeded(world: World, seed: int) -> Iterator[None]:
    """Ids and split seeds are the seed's too, so that a replay writes the very same bytes."""
    ids = Random(seed)
    system = SimpleNamespace(urandom=ids.randbytes)
    clock = SimpleNamespace(time=lambda: world.now)
    before = structlog.get_config()
    structlog.configure(
        processors=[_listener(world)],
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
        ):
            yield
    finally:
        structlog.configure(**before)


def _listener(world: World) -> Any:
    def hear(_: object, level: str, event: dict[str, Any]) -> str:
        name = event.pop("event")
        error = event.pop("exc_info", None)
        world.note("  log", str(name), " ".join(f"{k}={v}" for k, v in event.items()))
        if level in {"error", "exception", "critical"}:
            world.errors.append(f"{name} {event} {error!r}")
        return ""

    return hear
