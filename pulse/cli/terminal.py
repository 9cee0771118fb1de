"""What commands write with: colours for people, plain text for pipes, help as it was written."""

from collections.abc import Callable
from datetime import UTC, datetime
from inspect import cleandoc
from typing import Any, Final, TypeVar

import typer
from rich.console import Console

from pulse.cli.exits import WRONG_USAGE

Function = TypeVar("Function", bound=Callable[..., Any])

PIPE_COLUMNS: Final = 80
_MOST_COLUMNS: Final = 110
_AS_WRITTEN: Final = "\b\n"
"""What tells the help formatter to keep a paragraph's lines."""


class _Console(Console):
    """One that leaves it to the command's end what a closed pipe means."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def output() -> Console:
    """Standard output; no colours, no control codes and no wrapping where it is a pipe."""
    return _Console(markup=False, highlight=False, emoji=False, soft_wrap=True)


def errors() -> Console:
    """Standard error, in the same way."""
    return _Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True)


def echo(line: str | bytes) -> None:
    """Write a line as it is, for programs to read.

    Raises:
        BrokenPipeError: nobody reads it; without the number that Typer would take for a failure.
    """
    try:
        typer.echo(line)
    except BrokenPipeError:
        raise BrokenPipeError from None


def columns(console: Console) -> int:
    """How wide a drawing may be: as the terminal, within reason, and always the same in a pipe."""
    return min(console.width, _MOST_COLUMNS) if console.is_terminal else PIPE_COLUMNS


def has_blocks(console: Console) -> bool:
    """Whether bars may be drawn of block characters: on a terminal that speaks UTF-8."""
    return console.is_terminal and console.encoding.startswith("utf")


def printable(text: str) -> str:
    """The text on one line, without the control codes that somebody may have put in it."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def duration(seconds: float) -> str:
    """A length of time in the two units that matter: `0.4 s`, `3 min 5 s`, `2 d 4 h`."""
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def instant(at: datetime) -> str:
    """A time as callers see it: UTC, to the microsecond."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def counted(count: int, noun: str) -> str:
    """`1 order`, `2,000 orders`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def add_command(group: typer.Typer, function: Function) -> None:
    """Make a command of a function: its docstring is the help, line for line, examples included."""
    paragraphs = cleandoc(function.__doc__ or "").split("\n\n")
    text = "\n\n".join(_AS_WRITTEN + paragraph for paragraph in paragraphs)
    group.command(help=text)(function)


def help_if_alone(context: typer.Context) -> None:
    """A group without a command is wrong usage, and its help the answer."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(WRONG_USAGE)
