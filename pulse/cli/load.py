"""`pulse load`: a file of orders, posted and followed to the end."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from pulse.cli.server import url_of
from pulse.cli.terminal import SafeConsole
from pulse.load import load_orders, render
from pulse.process.startup import settings_from_environment


def load(
    file: Annotated[Path, typer.Argument(help="Orders, one JSON object a line.")],
    url: Annotated[
        str | None,
        typer.Option(
            help="The API's root; without it, where `pulse up` listens with these settings.",
            envvar="PULSE_URL",
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            help="A service token of the API. The variable is better: a process list shows it not.",
            envvar="PULSE_SERVICE_TOKEN",
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=512, help="Requests at once.")] = 32,
    settle_seconds: Annotated[
        float, typer.Option(min=0, help="How long to wait for the last order's outcome.")
    ] = 60,
) -> None:
    """Post a file of orders and check what becomes of each.

    Posts every order of FILE to a running Pulse, follows each to its end and
    checks its slices by every rule of a schedule. Needs the API (`pulse up`) at
    --url, and one of its service tokens where it asks for one. Running it again
    is safe: the same order under the same key is answered with the same order.

    Exit codes: 0 every order is COMPLETED and keeps every rule. 1 some order was
    refused, failed, did not end in time or breaks a rule (the table says which),
    or the load could not run. 2 wrong usage, or a proxy or certificate variable
    of the environment that cannot be used.

    Example, with `pulse up` in another terminal:
      pulse load examples/orders.ndjson
    """
    result = asyncio.run(
        load_orders(
            file,
            url or _url_of_pulse_up(),
            token=token,
            concurrency=concurrency,
            settle_seconds=settle_seconds,
            console=SafeConsole(),
        )
    )
    SafeConsole().print(render(result))
    raise typer.Exit(result.exit_code)


def _url_of_pulse_up() -> str:
    return f"{url_of(settings_from_environment())}/pulse"
