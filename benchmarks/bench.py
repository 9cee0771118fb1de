"""The context of a part: servers, turns of candidates, and collected results."""

import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks.comparison import Comparison, Fact, PartResult, Unit
from benchmarks.database import Server

Turn = Callable[[], Awaitable[float]]


class Candidate(msgspec.Struct, frozen=True):
    """A system to measure, and the minimum ratio of the subject to it."""

    name: str
    turn: Turn
    at_least: float | None = None


class Bench:
    """The context of one part. `smoke` only checks that the part works."""

    def __init__(self, home: Path, *, rounds: int, turn_seconds: float, smoke: bool) -> None:
        self.home = home
        self.rounds = rounds
        self.turn_seconds = turn_seconds
        self.smoke = smoke
        self._comparisons: list[Comparison] = []
        self._facts: list[Fact] = []
        self._numbers = itertools.count(1)

    def sized(self, whole: int, smoke: int) -> int:
        """The size of a workload: `whole`, or `smoke` in a smoke run."""
        return smoke if self.smoke else whole

    @asynccontextmanager
    async def server(self, **options: str) -> AsyncIterator[Server]:
        """A durable Postgres for this part."""
        async with Server.running(
            self.home / f"postgres-{next(self._numbers)}", **options
        ) as server:
            yield server

    async def compare(
        self,
        setting: str,
        unit: Unit,
        candidates: Sequence[Candidate],
        *,
        warm: bool = True,
        rounds: int | None = None,
    ) -> Comparison:
        """Measure the candidates in alternation; each round starts with the next one.

        The first candidate is the subject. With `warm` each has an uncounted turn first, but not in
        a smoke run.
        """
        figures: dict[str, list[float]] = {c.name: [] for c in candidates}
        if warm and not self.smoke:
            for candidate in candidates:
                await candidate.turn()
        for number in range(rounds or self.rounds):
            first = number % len(candidates)
            for candidate in [*candidates[first:], *candidates[:first]]:
                figures[candidate.name].append(await candidate.turn())
            self.log(f"{setting}: {_latest(figures, unit)}")
        goals = {c.name: c.at_least for c in candidates}
        comparison = Comparison.of(setting, unit, figures, goals)
        self._comparisons.append(comparison)
        return comparison

    def add(self, comparison: Comparison) -> None:
        """Add a comparison that was measured together with another."""
        self._comparisons.append(comparison)

    def fact(self, name: str, figure: float, unit: str) -> None:
        """Add a figure without a baseline."""
        self._facts.append(Fact(name, figure, unit))
        self.log(f"{name}: {figure:,.4g} {unit}")

    def log(self, message: str) -> None:
        """Print a line of progress."""
        print(f"  {time.strftime('%H:%M:%S')} {message}", flush=True)

    def result(self, name: str, title: str) -> PartResult:
        """The results so far."""
        return PartResult(
            name=name,
            title=title,
            taken_at=datetime.now(UTC).isoformat(timespec="seconds"),
            rounds=self.rounds,
            turn_seconds=self.turn_seconds,
            comparisons=self._comparisons,
            facts=self._facts,
        )


def _latest(figures: dict[str, list[float]], unit: Unit) -> str:
    last = ", ".join(f"{name} {own[-1]:,.4g}" for name, own in figures.items() if own)
    return f"{last} {unit}"
