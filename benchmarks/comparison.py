"""What was measured: a subject beside its rivals, turn by turn, and the ratio of each round."""

from statistics import median
from typing import Literal

import msgspec

Unit = Literal["orders/s", "events/s", "requests/s", "ms", "s"]
_LESS_IS_MORE = frozenset({"ms", "s"})


class Series(msgspec.Struct, frozen=True):
    """One contestant's figures, one a round."""

    name: str
    figures: list[float]

    @property
    def middle(self) -> float:
        """The median."""
        return median(self.figures)


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """A rival, and the subject's ratio to it in each round: above 1 the subject is ahead."""

    rival: Series
    ratios: list[float]
    at_least: float | None = None

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return median(self.ratios)

    @property
    def reached(self) -> bool | None:
        """Whether the goal is; None where there is none."""
        return None if self.at_least is None else self.ratio >= self.at_least


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table: a subject in one setting, and all that was measured beside it."""

    setting: str
    unit: Unit
    subject: Series
    beside: list[Beside]

    @classmethod
    def of(
        cls,
        setting: str,
        unit: Unit,
        figures: dict[str, list[float]],
        goals: dict[str, float | None],
    ) -> "Comparison":
        """Of each contestant's figures, the subject's first."""
        (name, own), *others = figures.items()
        return cls(
            setting=setting,
            unit=unit,
            subject=Series(name, own),
            beside=[
                Beside(
                    rival=Series(rival, theirs),
                    ratios=[_ratio(unit, a, b) for a, b in zip(own, theirs, strict=True)],
                    at_least=goals.get(rival),
                )
                for rival, theirs in others
            ],
        )


class Fact(msgspec.Struct, frozen=True):
    """A figure that stands for itself: what an order costs, say."""

    name: str
    figure: float
    unit: str


class PartResult(msgspec.Struct, frozen=True):
    """What one part of the suite found, and how."""

    name: str
    title: str
    taken_at: str
    rounds: int
    turn_seconds: float
    comparisons: list[Comparison]
    facts: list[Fact]


def _ratio(unit: Unit, own: float, theirs: float) -> float:
    return theirs / own if unit in _LESS_IS_MORE else own / theirs
