"""How far a long command is: a bar on a terminal, a plain line now and then anywhere else."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

OnProgress = Callable[[int, int], None]
"""Told how many are done, and of how many."""

_LINE_SECONDS: Final = 2.0


@contextmanager
def progress_on(console: Console, noun: str) -> Iterator[OnProgress]:
    """Show progress in `noun`s (positions, orders) until the block ends."""
    if not console.is_terminal:
        yield _Lines(console, noun)
        return
    shown = (
        TextColumn(f"{noun}s"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*shown, console=console) as bar:
        task = bar.add_task(noun, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Lines:
    """A line at most every two seconds."""

    def __init__(self, console: Console, noun: str) -> None:
        self._console = console
        self._noun = noun
        self._next_at = time.monotonic() + _LINE_SECONDS

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now >= self._next_at:
            self._next_at = now + _LINE_SECONDS
            self._console.print(f"{self._noun} {done:,} of {total:,}")
