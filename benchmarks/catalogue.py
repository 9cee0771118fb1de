"""The parts of the suite, in the order in which they run."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol, cast

from benchmarks.bench import Bench
from benchmarks.parts import (
    append,
    batches,
    cost,
    drain,
    earlier,
    feed,
    growth,
    latency,
    metrics,
    post,
    processes,
    reads,
    rebuild,
    releases,
    seal,
    sustained,
)


class Part(Protocol):
    """A module of `benchmarks.parts`."""

    TITLE: str
    run: Callable[[Bench], Awaitable[None]]


PARTS: Final = cast(
    "Mapping[str, Part]",
    {
        "append": append,
        "post": post,
        "metrics": metrics,
        "batches": batches,
        "drain": drain,
        "latency": latency,
        "rebuild": rebuild,
        "reads": reads,
        "feed": feed,
        "cost": cost,
        "releases": releases,
        "seal": seal,
        "sustained": sustained,
        "processes": processes,
        "growth": growth,
        "earlier": earlier,
    },
)
ON_REQUEST: Final = frozenset({"growth", "earlier", "sustained"})
"""Run only when named: they take long or install an earlier commit."""
