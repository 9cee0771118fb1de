"""A schedule as points of a chart."""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from pulse.domain import CURRENT_SPLITTER_VERSION, Slice, SplitTerms, split

MARGIN_COLUMNS: Final = 22
"""What a chart in the terminal needs beside its canvas, for axes and their labels."""


def minutes(terms: SplitTerms, slices: Iterable[Slice]) -> list[float]:
    """When each slice is due, in minutes after the order's creation."""
    return [(s.scheduled_at - terms.starts_at).total_seconds() / 60 for s in slices]


def shares(slices: Iterable[Slice]) -> list[int]:
    """How much each slice is."""
    return [s.quantity for s in slices]


def even_split(terms: SplitTerms) -> Sequence[Slice]:
    """The same order without randomisation."""
    return split(msgspec.structs.replace(terms, randomize=False), CURRENT_SPLITTER_VERSION)


def slices_in(columns: int) -> int:
    """How many slices a chart that wide can keep apart."""
    return max(0, columns - MARGIN_COLUMNS)
