"""The `pulse` command."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import pulse
from pulse.errors import PulseError
from pulse.load import load_orders, render
from pulse.up import serve_everything

_DEFAULT_URL = "http://127.0.0.1:8000/pulse"

cli = typer.Typer(
    name="pulse",
    help="Pulse owns trading orders: it stores them as events and splits them into timed slices.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command; what Pulse can say plainly is one line and exit code 1."""
    try:
        cli()
    except PulseError as error:
        Console(stderr=True).print(f"pulse: {error}", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(1) from None


@cli.callback(invoke_without_command=True)
def _version(
    *, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        typer.echo(f"pulse {pulse.__version__}")
        raise typer.Exit


@cli.command()
def up() -> None:
    """Start everything in one process: API and workers, on an embedded Postgres unless told else.

    Configured by PULSE_* variables: PULSE_DATABASE_URL for a Postgres of your own, PULSE_DATA_DIR
    for the embedded one's data, PULSE_HOST and PULSE_PORT for where to listen. Ctrl-C and SIGTERM
    finish what is under way and stop everything, the embedded server included.
    """
    serve_everything()


@cli.command()
def load(
    file: Annotated[Path, typer.Argument(help="Orders, one JSON object a line.")],
    url: Annotated[str, typer.Option(help="The API's root.", envvar="PULSE_URL")] = _DEFAULT_URL,
    concurrency: Annotated[int, typer.Option(min=1, max=512, help="Requests at once.")] = 32,
    settle_seconds: Annotated[
        float, typer.Option(min=0, help="How long to wait for the last order's outcome.")
    ] = 60,
) -> None:
    """Post every order of FILE to a running Pulse, follow each to its end, check its slices.

    Exit code 0: every order is COMPLETED and keeps every rule of a schedule. 1: some order was
    refused, failed, did not end in time, or breaks a rule; the table says which. Running it again
    is safe: the same order under the same key is answered with the same order.
    """
    result = asyncio.run(
        load_orders(
            file, url, concurrency=concurrency, settle_seconds=settle_seconds, console=Console()
        )
    )
    Console().print(render(result))
    raise typer.Exit(result.exit_code)


if __name__ == "__main__":
    main()
