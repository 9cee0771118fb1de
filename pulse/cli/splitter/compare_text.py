"""What became of a candidate, for people."""

from collections.abc import Iterator
from typing import Final

import msgspec
from rich.text import Text

from pulse.cli.schedule_text import draw
from pulse.cli.splitter.show import title
from pulse.cli.terminal import PIPE_COLUMNS, counted, printable
from pulse.domain import CURRENT_SPLITTER_VERSION
from pulse.testing.comparing import Comparison, Failure

_MOST_BREACHES: Final = 3


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
        yield _row(law, width, len(breaches), len(current.laws[law]))
        for breach in breaches[:_MOST_BREACHES]:
            yield Text(f"    {breach}", "red")
        if len(breaches) > _MOST_BREACHES:
            yield Text(f"    and {len(breaches) - _MOST_BREACHES} more", "red")
    if smallest is not None:
        yield from _smallest(smallest)
    yield Text("")
    yield _verdict(found)


def _row(name: str, width: int, count: int, current: int) -> Text:
    style = "red" if count else "green"
    return (
        Text(f"  {name:<{width}}  ").append(f"{count:>9,}", style).append(f"  {current:>9,}", "dim")
    )


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
        return Text("Every rule holds for every order, and no position is favoured.", "green")
    broken = sum(bool(count) for count in found.broken.values())
    laws = sum(bool(breaches) for breaches in found.laws.values())
    return Text(
        f"{found.failed:,} of {counted(found.orders, 'order')} fail: "
        f"{counted(broken, 'rule')} and {counted(laws, 'law')} are broken. Nothing was written.",
        "bold red",
    )
