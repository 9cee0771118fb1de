"""How far a load is: two bars on a terminal, a plain line now and then anywhere else."""

import contextlib
import time
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from pulse.load.result import LoadResult


class Progress(Protocol):
    """Whoever shows how far the load is."""

    def show(self, result: LoadResult) -> None:
        """Show these numbers, now or soon. Called after every order, so it is cheap."""


@contextlib.contextmanager
def progress_on(
    console: Console, total: int | None, line_interval_seconds: float
) -> Iterator[Progress]:
    """Show the progress until the block ends; `total` lines, None if that is not known."""
    if console.is_terminal:
        with _bars_on(console) as bars:
            yield Bars(bars, total)
    else:
        lines = Lines(console, total, line_interval_seconds)
        yield lines
        lines.end()


class Bars:
    """One bar for the lines posted, one for the accepted orders that are COMPLETED."""

    def __init__(self, bars: RichProgress, total: int | None) -> None:
        self._bars = bars
        self._posted = bars.add_task("posted", total=total)
        self._completed = bars.add_task("completed", total=None)

    def show(self, result: LoadResult) -> None:
        """Move both bars. An order that FAILED is one less that can complete."""
        self._bars.update(self._posted, completed=result.lines_done)
        can_complete = result.accepted - sum(result.failed.values())
        self._bars.update(self._completed, completed=result.completed, total=can_complete)


class Lines:
    """A line at most every `interval_seconds`, and one at the end. No colours, no control codes."""

    def __init__(self, console: Console, total: int | None, interval_seconds: float) -> None:
        self._console = console
        self._of_total = "" if total is None else f" of {total:,}"
        self._interval_seconds = interval_seconds
        self._next_at = time.monotonic() + interval_seconds
        self._text = self._printed = ""

    def show(self, result: LoadResult) -> None:
        """Keep the line, and print it if the last one is old enough."""
        self._text = (
            f"posted {result.lines_done:,}{self._of_total}, "
            f"completed {result.completed:,} of {result.accepted:,}"
        )
        now = time.monotonic()
        if now >= self._next_at:
            self._next_at = now + self._interval_seconds
            self._print()

    def end(self) -> None:
        """Print the last line, unless it stands there already."""
        if self._text != self._printed:
            self._print()

    def _print(self) -> None:
        self._printed = self._text
        self._console.print(self._text, markup=False, highlight=False, soft_wrap=True)


def _bars_on(console: Console) -> RichProgress:
    return RichProgress(
        TextColumn("{task.description:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
