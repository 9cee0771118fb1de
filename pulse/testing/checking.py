"""A schedule held against every rule there is, for use in anybody's tests."""

from collections.abc import Sequence

from pulse.domain import BrokenRule, Order, OrderCreated, Slice, SplitTerms, broken_rules

Ordered = SplitTerms | Order | OrderCreated
"""Whatever tells the terms of a schedule."""


class ScheduleBroken(AssertionError):
    """A schedule breaks rules: `broken` names each with its numbers, the text all of them."""

    def __init__(self, terms: SplitTerms, broken: Sequence[BrokenRule]) -> None:
        self.terms = terms
        self.broken = tuple(broken)
        rules = len({breach.rule for breach in broken})
        lines = [f"{rules} {'rule' if rules == 1 else 'rules'} broken by the schedule of {terms}:"]
        lines += [f"  {breach.rule}: {breach.breach}" for breach in broken]
        super().__init__("\n".join(lines))


def check_schedule(order: Ordered, slices: Sequence[Slice]) -> None:
    """The slices are a schedule of this order, by every rule of `SCHEDULE_RULES`.

    Raises:
        ScheduleBroken: they are not; every broken rule is named at once, with the numbers.
    """
    terms = order if isinstance(order, SplitTerms) else order.terms
    broken = broken_rules(terms, slices)
    if broken:
        raise ScheduleBroken(terms, broken)
