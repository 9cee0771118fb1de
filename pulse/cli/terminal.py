"""What commands write with: colours for people, plain text for pipes, help as it was written."""

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
from pulse.logs import asked_for_json
from pulse.printable import printable, printable_json, printable_lines
from pulse.streams import drop_unwritten

_log = structlog.get_logger(__name__)

AsJson = Annotated[bool, typer.Option("--json", help="The same as one JSON object.")]

_MAX_ECHOED_CHARACTERS: Final = 72
PROGRESS_LINE_SECONDS: Final = 2.0
_AS_WRITTEN: Final = "\b\n"
"""What tells the help formatter to keep a paragraph's lines."""


def say(text: str) -> None:
    """Print this at once on standard output; where that cannot be written, the text is lost.

    For what a serving process says once, such as where it listens. Where PULSE_LOG_FORMAT is
    `json` it is a log line instead. Never raises for a full disk, a closed stream or a pipe
    without a reader: the process goes on.
    """
    if asked_for_json():
        _log.info("process.said", text=text)
        return
    try:
        print(text, flush=True)  # noqa: T201 - to the person who ran the command
    except (OSError, ValueError):
        drop_unwritten(sys.stdout)


class SafeConsole(Console):
    """A console that escapes the control characters of arguments, files and stored data.

    A string is printed on one line. Line breaks of other renderables are Pulse's own. What a closed
    pipe means is left to the end of the command.
    """

    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401 - rich's own
        """Print; in a string every character that is not printable is escaped."""
        shown = (printable(one) if isinstance(one, str) else one for one in objects)
        super().print(*shown, **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterator[Segment]:
        """Render; what rich itself sends to a terminal, colours and movements, stays as it is."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable_lines(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Raise what the end of the command turns into an exit code."""
        raise BrokenPipeError


class _Lossy(SafeConsole):
    """A console that drops lines it cannot write, so that the work they report goes on."""

    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401 - rich's own
        with contextlib.suppress(OSError, ValueError):
            super().print(*objects, **options)


def output() -> Console:
    """Standard output; no colours, no control codes and no wrapping where it is a pipe."""
    return SafeConsole(markup=False, highlight=False, emoji=False, soft_wrap=True)


def errors() -> Console:
    """Standard error, in the same way; what cannot be written there is lost."""
    return _Lossy(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True)


def echo(line: str | bytes) -> None:
    """Write a line of JSON, for programs to read; control characters in its strings are escaped.

    Raises:
        BrokenPipeError: the pipe has no reader; without an errno, which Typer would take for a
            failure.
    """
    try:
        typer.echo(printable_json(line if isinstance(line, str) else line.decode()))
    except BrokenPipeError:
        raise BrokenPipeError from None


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


def order_id_of(text: str) -> UUID:
    """The id a person typed.

    Raises:
        PulseError: it is no id, so no order has it.
    """
    try:
        return UUID(text)
    except ValueError:
        raise no_order(text) from None


def no_order(order_id: str) -> PulseError:
    """What to say of an id that no order has."""
    return PulseError(
        f"no order has the id {order_id[:_MAX_ECHOED_CHARACTERS]}: take it from the answer to its "
        "POST, or from order_queue_status by its order_unique_key"
    )


@contextlib.contextmanager
def progress_on(console: Console, noun: str) -> Iterator[Callable[[int, int], None]]:
    """Show how many are done, of how many: a bar on a terminal, elsewhere a line each 2 s."""
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

    def print_now_and_then(done: int, total: int) -> None:
        nonlocal next_at
        now = time.monotonic()
        if now >= next_at:
            next_at = now + PROGRESS_LINE_SECONDS
            console.print(f"{noun} {done:,} of {total:,}")

    yield print_now_and_then


def add_command(commands: typer.Typer, function: Callable[..., Any]) -> None:
    """Make a command of a function: its docstring is the help, line for line, examples included."""
    paragraphs = cleandoc(function.__doc__ or "").split("\n\n")
    text = "\n\n".join(_AS_WRITTEN + paragraph for paragraph in paragraphs)
    commands.command(help=text)(function)


def group(
    name: str, text: str, exit_codes: str, commands: Iterable[Callable[..., Any]]
) -> typer.Typer:
    """A command of commands; alone it is wrong usage."""
    made = typer.Typer(name=name, help=text, epilog=exit_codes, rich_markup_mode=None)
    made.callback(invoke_without_command=True)(help_if_alone)
    for command in commands:
        add_command(made, command)
    return made


def help_if_alone(context: typer.Context) -> None:
    """A group without a command is wrong usage, and its help the answer."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(WRONG_USAGE)
