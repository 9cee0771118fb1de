"""Output of commands: colours on a terminal, plain text in pipes, JSON; and help texts."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from inspect import cleandoc
from typing import Annotated, Any, Final
from uuid import UUID

import structlog
import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment

from pulse.cli.exits import WRONG_USAGE
from pulse.errors import PulseError
from pulse.logs import is_json_format
from pulse.printable import printable, printable_json, printable_lines
from pulse.streams import flush_or_discard

_log = structlog.get_logger(__name__)

AsJson = Annotated[bool, typer.Option("--json", help="The same as one JSON object.")]

_MAX_ECHOED_CHARACTERS: Final = 72
PROGRESS_LINE_SECONDS: Final = 2.0
_KEEP_LINES: Final = "\b\n"
"""Click's marker to keep the line breaks of a paragraph."""


def announce(text: str) -> None:
    """Print this text on standard output at once; it is lost if that cannot be written.

    For messages of a serving process, such as where it listens. If PULSE_LOG_FORMAT is `json` it
    is a log line instead. Never raises for a full disk, a closed stream or a pipe without a
    reader, so the process continues.
    """
    if is_json_format():
        _log.info("process.announced", text=text)
        return
    try:
        print(text, flush=True)  # noqa: T201 - to the person who ran the command
    except (OSError, ValueError):
        flush_or_discard(sys.stdout)


class SafeConsole(Console):
    """A console that escapes control characters from arguments, files and stored data.

    A string is printed on one line. Line breaks in other renderables come from Pulse. A closed
    pipe raises, and `main` turns that into an exit code.
    """

    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401 - rich's own
        """Print, with every character of a string that is not printable escaped."""
        shown = (printable(one) if isinstance(one, str) else one for one in objects)
        super().print(*shown, **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Render. Control sequences of rich itself, colours and cursor movements, are kept."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable_lines(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Raise the error that `main` turns into an exit code."""
        raise BrokenPipeError


class _BestEffortConsole(SafeConsole):
    """A console that drops lines that it cannot write, so that the command continues."""

    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401 - rich's own
        with contextlib.suppress(OSError, ValueError):
            super().print(*objects, **options)


def output() -> Console:
    """Standard output, without colours, control codes and wrapping in a pipe."""
    return SafeConsole(markup=False, highlight=False, emoji=False, soft_wrap=True)


def errors() -> Console:
    """Standard error, in the same way; lines that cannot be written are dropped."""
    return _BestEffortConsole(
        stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True
    )


def echo(line: str | bytes) -> None:
    """Write a line of JSON, with control characters in its strings escaped.

    Raises:
        BrokenPipeError: the pipe has no reader. The error is raised without its errno, because
            Typer would report EPIPE as a failure.
    """
    try:
        typer.echo(printable_json(line if isinstance(line, str) else line.decode()))
    except BrokenPipeError:
        raise BrokenPipeError from None


def display_time(at: datetime) -> str:
    """A time in RFC 3339 and UTC, always with six digits of its fraction, unlike in the API."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def order_id_of(text: str) -> UUID:
    """Parse an order id from the command line.

    Raises:
        PulseError: it is malformed, so no order has it.
    """
    try:
        return UUID(text)
    except ValueError:
        raise order_not_found(text) from None


def order_not_found(order_id: str) -> PulseError:
    """The error for an id that no order has."""
    return PulseError(
        f"no order has the id {order_id[:_MAX_ECHOED_CHARACTERS]}: take it from the answer to the "
        "order's POST, or find it by the order's key: `pulse orders list --key KEY`"
    )


def key_not_found(key: str) -> PulseError:
    """The error for a key that no order of its scope has."""
    return PulseError(
        f"no order has the key {key[:_MAX_ECHOED_CHARACTERS]} in this scope: for an order from "
        "the gateway, set --key-scope to the order's placed_by"
    )


@contextlib.contextmanager
def progress_on(console: Console, noun: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress: a bar on a terminal, elsewhere a line every 2 s."""
    if console.is_terminal:
        shown = (
            TextColumn(noun),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*shown, console=console) as bar:
            task = bar.add_task(noun, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
        return
    next_at = time.monotonic() + PROGRESS_LINE_SECONDS

    def print_line(done: int, total: int) -> None:
        nonlocal next_at
        now = time.monotonic()
        if now >= next_at:
            next_at = now + PROGRESS_LINE_SECONDS
            console.print(f"{noun} {done:,} of {total:,}")

    yield print_line


def add_command(
    commands: typer.Typer, function: Callable[..., Any], name: str | None = None
) -> None:
    """Add a function as a command. Its docstring is the help, with its line breaks.

    Without `name` the command has the name of the function.
    """
    paragraphs = cleandoc(function.__doc__ or "").split("\n\n")
    text = "\n\n".join(_KEEP_LINES + paragraph for paragraph in paragraphs)
    commands.command(name, help=text)(function)


def group(
    name: str, text: str, exit_codes: str, commands: Iterable[Callable[..., Any]]
) -> typer.Typer:
    """A group of commands. Running the group without a command is wrong usage."""
    made = typer.Typer(name=name, help=text, epilog=exit_codes, rich_markup_mode=None)
    made.callback(invoke_without_command=True)(require_subcommand)
    for command in commands:
        add_command(made, command)
    return made


def require_subcommand(context: typer.Context) -> None:
    """Print the help of a group without a command, and exit as wrong usage."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(WRONG_USAGE)
