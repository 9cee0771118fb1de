"""The end of a load as a table, followed by the first refusals and the rules that were broken."""

import math
from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pulse.load.result import LoadResult
from pulse.printable import printable

_BAD = "bold red"
_GOOD = "green"
_PLAIN = ""

Row = tuple[str, str, str]
"""A row's label, its value, its style."""


def render(result: LoadResult) -> RenderableType:
    """Everything the load found, for `console.print`; plain text where there are no colours."""
    table = Table(
        title=Text(f"Load of {printable(result.source)} into {printable(result.base_url)}"),
        show_header=False,
    )
    table.add_column(overflow="fold")
    table.add_column(justify="right", overflow="fold")
    for section in (_posting(result), _outcomes(result), _numbers(result)):
        for label, value, style in section:
            table.add_row(Text(printable(label), style), Text(value, style))
        table.add_section()
    return Group(table, *_broken(result), *_refusals(result), _verdict(result))


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The smallest value that `percent` % of the values do not exceed; None if there are none."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def _posting(result: LoadResult) -> Iterator[Row]:
    yield "posted", f"{result.posted:,}", _PLAIN
    yield "created (201)", f"{result.created:,}", _PLAIN
    yield "already there (200)", f"{result.already_there:,}", _PLAIN
    if not result.refused:
        yield "refused", "0", _PLAIN
    yield from _counts("refused", result.refused)
    yield "asked again (503, 429, connection)", f"{result.retries:,}", _PLAIN


def _outcomes(result: LoadResult) -> Iterator[Row]:
    yield "COMPLETED", f"{result.completed:,}", _GOOD if result.completed else _PLAIN
    if not result.failed:
        yield "FAILED", "0", _PLAIN
    yield from _counts("FAILED", result.failed)
    yield "still pending", f"{result.pending:,}", _BAD if result.pending else _PLAIN
    if not result.broken:
        yield "rules broken", "0", _PLAIN
    yield from _counts("broken", {rule: tally.orders for rule, tally in result.broken.items()})


def _numbers(result: LoadResult) -> Iterator[Row]:
    yield "slices", f"{result.slices:,}", _PLAIN
    yield "shares", f"{result.shares:,}", _PLAIN
    yield "orders/s while posting", f"{result.posted_per_second:,.0f}", _PLAIN
    yield "accept latency p50 / p99", _latencies(result.accept_seconds), _PLAIN
    yield "accepted to COMPLETED p50 / p99", _latencies(result.completion_seconds), _PLAIN
    yield "X-Trace-Id", result.trace_id, _PLAIN


def _counts(label: str, counts: dict[str, int]) -> Iterator[Row]:
    for name, count in sorted(counts.items()):
        yield f"{label}: {name}", f"{count:,}", _BAD


def _latencies(seconds: Sequence[float]) -> str:
    return " / ".join(_milliseconds(percentile(seconds, percent)) for percent in (50, 99))


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.1f} ms"


def _broken(result: LoadResult) -> Iterator[Text]:
    for rule, tally in sorted(result.broken.items()):
        yield _sentence(
            f"rule broken: {rule}, first by line {tally.first_line}, "
            f"order {tally.first_order_id}: {tally.first_breach}"
        )


def _refusals(result: LoadResult) -> Iterator[Text]:
    for refusal in result.first_refusals:
        yield _sentence(f"refused: line {refusal.line}: {refusal.code}: {refusal.message}")
    more = sum(result.refused.values()) - len(result.first_refusals)
    if more > 0:
        yield _sentence(f"... and {more:,} more")


def _verdict(result: LoadResult) -> Text:
    if result.exit_code == 0:
        return Text("Every order COMPLETED and keeps every rule.", _GOOD)
    faults = {
        "refused": sum(result.refused.values()),
        "FAILED": sum(result.failed.values()),
        "still pending": result.pending,
        "rules broken": len(result.broken),
    }
    return _sentence(
        "Not all is well: " + _join(f"{n:,} {what}" for what, n in faults.items() if n)
    )


def _join(parts: Iterable[str]) -> str:
    return ", ".join(parts) + "."


def _sentence(text: str) -> Text:
    return Text(printable(text), _BAD)
