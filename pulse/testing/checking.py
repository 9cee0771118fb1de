"""Checks a schedule by every rule, for use in tests."""

from collections.abc import Sequence

from pulse.domain import BrokenRule, Order, OrderCreated, Slice, SplitTerms, broken_rules

Ordered = SplitTerms | Order | OrderCreated
"""Anything that has the terms of a schedule."""


class ScheduleBroken(AssertionError):
    """A schedule breaks rules. `broken` has each breach; the message lists all of them."""

    def __init__(self, terms: SplitTerms, broken: Sequence[BrokenRule]) -> None:
        self.terms = terms
        self.broken = tuple(broken)
        rules = len({breach.rule for breach in broken})
        lines = [f"{rules} {'rule' if rules == 1 else 'rules'} broken by the schedule of {terms}:"]
        lines += [f"  {breach.rule}: {breach.breach}" for breach in broken]
        super().__init__("\n".join(lines))


def check_schedule(order: Ordered, slices: Sequence[Slice]) -> None:
    """Check that the slices are a schedule of this order, by every rule of `SCHEDULE_RULES`.

    Raises:
        ScheduleBroken: they break rules; the error lists each breach with its numbers.
    """
    terms = order if isinstance(order, SplitTerms) else order.terms
    broken = broken_rules(terms, slices)
    if broken:
        raise ScheduleBroken(terms, broken)
