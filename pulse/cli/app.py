"""The commands put together, and every end of one turned into a line and an exit code."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from typing import Annotated

import typer
from typer.main import get_command

import pulse
from pulse.cli.exits import (
    COULD_NOT_START,
    INTERRUPTED,
    NOT_WELL,
    PIPE_CLOSED,
    TERMINATED,
    WELL,
    WRONG_USAGE,
    CouldNotStart,
    WrongSettings,
)
from pulse.cli.load import load
from pulse.cli.migrate import migrate
from pulse.cli.orders import orders
from pulse.cli.projections import projections
from pulse.cli.rebuild import rebuild
from pulse.cli.replay import replay
from pulse.cli.serving import api, background, gateway, up
from pulse.cli.splitter import splitter
from pulse.cli.status import status
from pulse.cli.terminal import add_command, errors, help_if_alone
from pulse.cli.token import token
from pulse.errors import PulseError
from pulse.http_client import EnvironmentUnusable
from pulse.postgres import DatabaseUnavailable
from pulse.postgres.embedded.errors import EmbeddedServerError

_EXIT_CODES = (
    "Exit codes: 0 well, 1 not well, 2 wrong usage or settings, 3 could not start, 130 stopped by "
    "Ctrl-C. Every command's --help says what they mean for it, with an example."
)

cli = typer.Typer(
    name="pulse",
    help="Pulse owns trading orders: it stores them as events and splits them into timed slices.",
    epilog=_EXIT_CODES,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _command in (up, api, gateway, background, token, migrate, load, replay, status, rebuild):
    add_command(cli, _command)
cli.add_typer(orders)
cli.add_typer(projections)
cli.add_typer(splitter)


@cli.callback(invoke_without_command=True)
def _version(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"pulse {pulse.__version__}")
        raise typer.Exit
    help_if_alone(context)


def main() -> None:
    """Run the command line of this process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = run(sys.argv[1:])
    except BrokenPipeError:
        _let_go_of_output()
        code = PIPE_CLOSED
    raise SystemExit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; what went wrong is one line on stderr."""
    command = get_command(cli)
    try:
        code = command.main(list(arguments), prog_name="pulse", standalone_mode=False)
    except typer.TyperException as error:
        return _say(_usage_fault(error), WRONG_USAGE)
    except CouldNotStart as error:
        said_by_server = isinstance(error.__cause__, EmbeddedServerError)
        return _say(str(error), COULD_NOT_START, in_lines=said_by_server)
    except (WrongSettings, EnvironmentUnusable) as error:
        return _say(str(error), WRONG_USAGE)
    except DatabaseUnavailable as error:
        return _say(f"Postgres cannot serve: {error}; run this again once it can", NOT_WELL)
    except PulseError as error:
        return _say(str(error), NOT_WELL)
    if code in {INTERRUPTED, TERMINATED}:
        _say("stopped before the end; nothing is half done, run it again", code)
    return code or WELL


def _let_go_of_output() -> None:
    """Nobody reads on: what is still to be written goes nowhere, and without a complaint."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(fault: str, code: int, *, in_lines: bool = False) -> int:
    for line in f"pulse: {fault}".split("\n") if in_lines else [f"pulse: {fault}"]:
        errors().print(line)
    return code


def _usage_fault(error: typer.TyperException) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "pulse"
    return f"{message}; `{command} --help` tells how it is used"
