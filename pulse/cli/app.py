"""Assembles the commands, and turns every error into a message and an exit code."""

import errno
import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Final

import typer
from typer.core import TyperGroup
from typer.main import get_command

from pulse.cli.exits import (
    COULD_NOT_START,
    FAILURE,
    INTERRUPTED,
    PIPE_CLOSED,
    SUCCESS,
    TERMINATED,
    WRONG_USAGE,
    CouldNotStart,
    WrongSettings,
)
from pulse.cli.terminal import add_command, require_subcommand
from pulse.code_version import code_version
from pulse.errors import PulseError
from pulse.http_client import EnvironmentUnusable
from pulse.logs import report_fatal_error
from pulse.postgres import DatabaseUnavailable
from pulse.postgres.embedded import EmbeddedServerError
from pulse.printable import printable
from pulse.streams import flush_or_discard, open_standard_streams

_CANNOT_WRITE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
_EXIT_CODES = (
    "Exit codes: 0 success, 1 failure or a problem found, 2 wrong usage or settings, 3 could not "
    "start, 130 stopped by Ctrl-C. The --help of each command explains them and has an example."
)

# The module of each command and group, in the order of the help.
_MODULES: Final = {
    **dict.fromkeys(("up", "api", "gateway"), "serving"),
    "background": "background",
    "config": "config",
    "doctor": "doctor",
    "token": "token",
    "migrate": "migrate",
    "load": "load",
    "preview": "preview",
    "cancel": "cancel",
    **dict.fromkeys(("halt", "resume", "halts"), "halts"),
    "replay": "replay",
    "status": "status",
    "verify": "verify",
    "evidence": "evidence",
    "rebuild": "rebuild",
    "export": "export",
    "calendar": "calendar",
    "orders": "orders",
    "key": "key",
    "log": "log",
    "projections": "projections",
    "splitter": "splitter",
}


@cache
def program(command: str | None = None) -> TyperGroup:
    """The program with only this command, or with all commands if the name is unknown.

    Imports only the module of that command: importing all modules takes twice the time.
    """
    cli = typer.Typer(
        name="pulse",
        help="Pulse owns trading orders: it stores them as events and splits them into timed "
        "slices.",
        epilog=_EXIT_CODES,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    cli.callback(invoke_without_command=True)(_version)
    for name in [command] if command in _MODULES else _MODULES:
        found = getattr(import_module(f"pulse.cli.{_MODULES[name]}"), name)
        if isinstance(found, typer.Typer):
            cli.add_typer(found)
        else:
            add_command(cli, found)
    group = get_command(cli)
    assert isinstance(group, TyperGroup)  # noqa: S101 - for the type checker
    return group


def program_for(arguments: Sequence[str]) -> TyperGroup:
    """The program with what this command line needs."""
    return program(arguments[0] if arguments and arguments[0] in _MODULES else None)


def _version(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"pulse {code_version()}")
        raise typer.Exit
    require_subcommand(context)


def main() -> None:
    """Run the command line of this process.

    If the output cannot be written it exits with one line on stderr and code 1. If the reader of a
    pipe is gone, as in `pulse replay ... | head -1`, it exits silently with 141.
    """
    open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code = SUCCESS
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        code = PIPE_CLOSED
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        code = _report(
            f"the output cannot be written: {error.strerror}; free space or redirect it elsewhere",
            FAILURE,
        )
    finally:
        flush_or_discard(sys.stdout)
        flush_or_discard(sys.stderr)
    raise SystemExit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. Errors are reported on stderr.

    An error is one line, except one of the settings or of the embedded server.
    """
    try:
        code = program_for(arguments).main(
            list(arguments), prog_name="pulse", standalone_mode=False
        )
    except typer.TyperException as error:
        return _report(_usage_fault(error), WRONG_USAGE)
    except CouldNotStart as error:
        from_server = isinstance(error.__cause__, EmbeddedServerError)
        return _report(str(error), COULD_NOT_START, in_lines=from_server)
    except (WrongSettings, EnvironmentUnusable) as error:
        return _report(str(error), WRONG_USAGE)
    except DatabaseUnavailable as error:
        return _report(f"Postgres is unavailable: {error}; run this again when it is back", FAILURE)
    except PulseError as error:
        return _report(str(error), FAILURE)
    if code in {INTERRUPTED, TERMINATED}:
        _report("interrupted; committed changes stay, see --help before you run it again", code)
    return code or SUCCESS


def _report(fault: str, code: int, *, in_lines: bool = False) -> int:
    report_fatal_error(fault if in_lines else printable(fault))
    return code


def _usage_fault(error: typer.TyperException) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "pulse"
    return f"{message}; see `{command} --help`"
