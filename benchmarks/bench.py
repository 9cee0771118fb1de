"""What a part of the suite works with: servers, turns in alternation, and where figures go."""

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


class Contestant(msgspec.Struct, frozen=True):
    """Who takes turns, and what the subject should at least reach beside it."""

    name: str
    turn: Turn
    at_least: float | None = None


class Bench:
    """One part's surroundings. `smoke` is to show that it works, not how fast it is."""

    def __init__(self, home: Path, *, rounds: int, turn_seconds: float, smoke: bool) -> None:
        self.home = home
        self.rounds = rounds
        self.turn_seconds = turn_seconds
        self.smoke = smoke
        self._comparisons: list[Comparison] = []
        self._facts: list[Fact] = []
        self._numbers = itertools.count(1)

    def sized(self, whole: int, smoke: int) -> int:
        """How many of something: all, or as few as show that it works."""
        return smoke if self.smoke else whole

    @asynccontextmanager
    async def server(self, **options: str) -> AsyncIterator[Server]:
        """A durable Postgres of this part's own."""
        async with Server.running(
            self.home / f"postgres-{next(self._numbers)}", **options
        ) as server:
            yield server

    async def compare(
        self,
        setting: str,
        unit: Unit,
        contestants: Sequence[Contestant],
        *,
        warm: bool = True,
        rounds: int | None = None,
    ) -> Comparison:
        """Let them take turns, each round begun by the next one; the first is the subject.

        With `warm` each has a turn before that does not count.
        """
        figures: dict[str, list[float]] = {c.name: [] for c in contestants}
        if warm:
            for contestant in contestants:
                await contestant.turn()
        for number in range(rounds or self.rounds):
            first = number % len(contestants)
            for contestant in [*contestants[first:], *contestants[:first]]:
                figures[contestant.name].append(await contestant.turn())
            self.say(f"{setting}: {_told(figures, unit)}")
        goals = {c.name: c.at_least for c in contestants}
        comparison = Comparison.of(setting, unit, figures, goals)
        self._comparisons.append(comparison)
        return comparison

    def add(self, comparison: Comparison) -> None:
        """One that was measured along with another."""
        self._comparisons.append(comparison)

    def fact(self, name: str, figure: float, unit: str) -> None:
        """A figure that stands for itself."""
        self._facts.append(Fact(name, figure, unit))
        self.say(f"{name}: {figure:,.4g} {unit}")

    def say(self, what: str) -> None:
        """Progress, for who waits."""
        print(f"  {time.strftime('%H:%M:%S')} {what}", flush=True)

    def result(self, name: str, title: str) -> PartResult:
        """All that was found."""
        return PartResult(
            name=name,
            title=title,
            taken_at=datetime.now(UTC).isoformat(timespec="seconds"),
            rounds=self.rounds,
            turn_seconds=self.turn_seconds,
            comparisons=self._comparisons,
            facts=self._facts,
        )


def _told(figures: dict[str, list[float]], unit: Unit) -> str:
    last = ", ".join(f"{name} {own[-1]:,.4g}" for name, own in figures.items() if own)
    return f"{last} {unit}"
