"""A schedule as points of a chart."""

from collections.abc import Iterable, Sequence

import msgspec

from pulse.domain import Slice, SplitTerms, split_v1


def minutes(terms: SplitTerms, slices: Iterable[Slice]) -> list[float]:
    """When each slice is due, in minutes after the order's creation."""
    return [(s.scheduled_at - terms.starts_at).total_seconds() / 60 for s in slices]


def shares(slices: Iterable[Slice]) -> list[int]:
    """How much each slice is."""
    return [s.quantity for s in slices]


def even_split(terms: SplitTerms) -> Sequence[Slice]:
    """The same order without randomisation, which every splitter version splits alike."""
    return split_v1(msgspec.structs.replace(terms, randomize=False))
