"""What became of a candidate, for people."""

from collections.abc import Iterator
from typing import Final

import msgspec
from rich.text import Text

from pulse.cli.schedule_text import draw
from pulse.cli.splitter.show import title
from pulse.cli.terminal import PIPE_COLUMNS, counted
from pulse.domain import CURRENT_SPLITTER_VERSION
from pulse.printable import printable
from pulse.testing.comparing import Comparison, Failure

_MOST_BREACHES: Final = 3
_NOT_LOOKED_AT: Final = "-"


def render(
    name: str, found: Comparison, smallest: Failure | None, current: Comparison
) -> Iterator[Text]:
    """A table of rules and laws, the candidate beside the current splitter; then what failed."""
    yield Text(
        f"{printable(name)} over {counted(found.orders, 'order')}, "
        f"beside splitter version {CURRENT_SPLITTER_VERSION}",
        "bold",
    )
    current_name = f"version {CURRENT_SPLITTER_VERSION}"
    names = [*found.broken, *found.laws]
    width = max(map(len, names))
    heading = "orders that break a rule"
    yield Text(f"  {heading:<{width}}  {'candidate':>9}  {current_name:>9}", "dim")
    for rule, count in found.broken.items():
        yield _row(rule, width, count, current.broken[rule])
    yield Text("  breaches of a law over many seeds", "dim")
    for law, breaches in found.laws.items():
        yield _row(law, width, _count(breaches), _count(current.laws[law]))
        told = breaches or []
        for breach in told[:_MOST_BREACHES]:
            yield Text(f"    {breach}", "red")
        if len(told) > _MOST_BREACHES:
            yield Text(f"    and {len(told) - _MOST_BREACHES} more", "red")
    if smallest is not None:
        yield from _smallest(smallest)
    yield Text("")
    yield _verdict(found)


def _row(name: str, width: int, count: int | None, current: int | None) -> Text:
    style = "green" if count == 0 else "red"
    told, beside = (_NOT_LOOKED_AT if n is None else f"{n:,}" for n in (count, current))
    return Text(f"  {name:<{width}}  ").append(f"{told:>9}", style).append(f"  {beside:>9}", "dim")


def _count(breaches: list[str] | None) -> int | None:
    return None if breaches is None else len(breaches)


def _smallest(failure: Failure) -> Iterator[Text]:
    terms = failure.terms
    yield Text("")
    yield Text("The smallest order found that fails", "bold")
    created_at = msgspec.to_builtins(terms.starts_at)
    yield Text(f"  {title(terms)}, created at {created_at}")
    yield Text(f"  {msgspec.json.encode(terms).decode()}")
    if failure.slices and _drawable(failure):
        yield from draw(failure.slices, terms, PIPE_COLUMNS, blocks=False)
        return
    for breach in failure.broken:
        yield Text(printable(f"  {breach.rule}: {breach.breach}"), "red")


def _drawable(failure: Failure) -> bool:
    """Whether the slices are such that a drawing of them can be made at all."""
    return all(b.rule != "slices_are_well_formed" for b in failure.broken)


def _verdict(found: Comparison) -> Text:
    if found.holds:
        return Text(
            f"Every rule holds for each of {counted(found.orders, 'order')}, and in the samples "
            "no position is favoured.",
            "green",
        )
    broken = sum(bool(count) for count in found.broken.values())
    laws = sum(bool(breaches) for breaches in found.laws.values())
    unseen = sum(breaches is None for breaches in found.laws.values())
    told = (
        f"{found.failed:,} of {counted(found.orders, 'order')} fail: "
        f"{counted(broken, 'rule')} and {counted(laws, 'law')} are broken"
    )
    if unseen:
        told += f", {counted(unseen, 'law')} could not be looked at"
    return Text(f"{told}. Nothing was written.", "bold red")
