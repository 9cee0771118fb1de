"""The results: a subject compared with baselines (lower bounds and peers), round by round."""

from statistics import median
from typing import Literal

import msgspec

Unit = Literal["orders/s", "events/s", "requests/s", "ms", "s"]
_LOWER_IS_BETTER = frozenset({"ms", "s"})


class Series(msgspec.Struct, frozen=True):
    """One candidate's figures, one per round."""

    name: str
    figures: list[float]

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return median(self.figures)


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """A baseline, and the subject's ratio to it in each round; above 1 the subject is better."""

    series: Series = msgspec.field(name="rival")
    ratios: list[float]
    at_least: float | None = None

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return median(self.ratios)

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None without a goal."""
        return None if self.at_least is None else self.ratio >= self.at_least


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A subject in one setting, and its baselines."""

    setting: str
    unit: Unit
    subject: Series
    baselines: list[Baseline]

    @classmethod
    def of(
        cls,
        setting: str,
        unit: Unit,
        figures: dict[str, list[float]],
        goals: dict[str, float | None],
    ) -> "Comparison":
        """A comparison of figures by candidate; the first candidate is the subject."""
        (name, own), *others = figures.items()
        return cls(
            setting=setting,
            unit=unit,
            subject=Series(name, own),
            baselines=[
                Baseline(
                    series=Series(other, theirs),
                    ratios=[_ratio(unit, a, b) for a, b in zip(own, theirs, strict=True)],
                    at_least=goals.get(other),
                )
                for other, theirs in others
            ],
        )


class Fact(msgspec.Struct, frozen=True):
    """A figure without a baseline, such as the WAL per order."""

    name: str
    figure: float
    unit: str


class PartResult(msgspec.Struct, frozen=True):
    """The results of one part of the suite."""

    name: str
    title: str
    taken_at: str
    rounds: int
    turn_seconds: float
    comparisons: list[Comparison]
    facts: list[Fact]


def _ratio(unit: Unit, own: float, theirs: float) -> float:
    return theirs / own if unit in _LOWER_IS_BETTER else own / theirs
