"""`pulse load`: posts a file of orders, waits for their outcomes and checks them."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from pulse.cli.exits import FAILURE
from pulse.cli.server import url_of
from pulse.cli.terminal import errors, output, progress_on
from pulse.load import Load, open_http, read_lines
from pulse.process.startup import settings_from_environment


def load(
    file: Annotated[Path, typer.Argument(help="Orders, one JSON object per line.")],
    url: Annotated[
        str | None,
        typer.Option(
            help="The API's root URL; by default that of `pulse up` with these settings.",
            envvar="PULSE_URL",
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            help="A service token of the API. Prefer the variable: process lists do not show it.",
            envvar="PULSE_SERVICE_TOKEN",
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="Orders per request.")] = 100,
    concurrency: Annotated[int, typer.Option(min=1, max=100, help="Concurrent requests.")] = 4,
) -> None:
    """Post a file of orders and check the outcome of each.

    Posts the orders of FILE to a running Pulse in batches, waits for the outcome
    of each (until there is no new outcome for a minute) and checks its slices by
    every rule of a schedule. Needs a ready API (`pulse up`) at --url, and a
    service token with the rights read and write if the API requires one. Running
    it again never duplicates an order.

    Exit codes: 0 every order is COMPLETED and satisfies every rule. 1 some order
    does not (the table says why), no ready Pulse answers, or FILE, --url or
    --token cannot be used. 2 wrong usage or settings, or an unusable proxy or
    certificate variable in the environment.

    Example, with `pulse up` in another terminal:
      pulse load examples/orders.ndjson
    """
    root = url or f"{url_of(settings_from_environment())}/pulse"
    lines, http, show = read_lines(file), open_http(root, token), output().print
    load = Load(http, batch=batch, concurrency=concurrency)
    uvloop.run(load.run(lines, partial(progress_on, errors())))
    show(f"Loaded {file.name} into {root}", style="bold")
    for label, value in _rows(load, batch):
        show(f"  {label:<36}{value:>26}")
    for fault, count in sorted(load.faults.items()):
        show(f"  {fault:<36}{count:>26,}", style="bold red")
        show(f"    first: {load.first[fault]}", style="red")
    if load.faults:
        raise typer.Exit(FAILURE)
    show("Every order is COMPLETED and satisfies every rule.", style="green")


def _rows(load: Load, batch: int) -> Iterator[tuple[str, str]]:
    counts = ("posted", "created", "already there", "sent again", "COMPLETED", "slices", "shares")
    for name in counts:
        yield name, f"{load.counts[name]:,}"
    yield "posted orders/s", f"{load.counts['posted'] / max(load.posting_seconds, 1e-6):,.0f}"
    yield f"POST of {batch:,} orders, p50 / p99", _milliseconds(load.request_seconds)
    yield "accepted to COMPLETED, p50 / p99", _milliseconds(load.completion_seconds)
    yield "X-Trace-Id", load.trace_id


def _milliseconds(seconds: Sequence[float]) -> str:
    if not seconds:
        return "-"
    ranked = sorted(seconds)
    values = (ranked[math.ceil(len(ranked) * percent / 100) - 1] for percent in (50, 99))
    return " / ".join(f"{value * 1000:,.1f} ms" for value in values)
