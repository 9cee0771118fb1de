"""A worked example that fails: the splitter that most people write first.

All slices but one are drawn within 20 % of the average, and the last one takes the rest. Its error
is the sum of all the others', so it grows with their number: the last slice leaves the bounds, and
may come out at no shares or fewer.
"""

from pulse.domain import Slice, SplitTerms, split_v1
from pulse.domain.splitmix import SplitMix64


def last_takes_the_rest(terms: SplitTerms) -> tuple[Slice, ...]:
    """Split as usually written; the times are those of splitter version 1."""
    quantities = _quantities(terms)
    timed = split_v1(terms)
    return tuple(
        Slice(sequence_number=s.sequence_number, quantity=quantity, scheduled_at=s.scheduled_at)
        for s, quantity in zip(timed, quantities, strict=True)
    )


def _quantities(terms: SplitTerms) -> list[int]:
    total, count = terms.total_quantity, terms.num_splits
    if not terms.randomize:
        quantities = [total // count] * (count - 1)
        return [*quantities, total - sum(quantities)]
    least, most = terms.quantity_bounds
    random = SplitMix64(terms.seed)
    quantities = [least + random.below(most - least + 1) for _ in range(count - 1)]
    return [*quantities, total - sum(quantities)]
