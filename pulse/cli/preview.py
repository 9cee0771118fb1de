"""`pulse preview`: draws the schedule that an order would get if it were placed now."""

import json
from typing import Annotated, Final

import msgspec
import typer

from pulse.application.callers import Caller
from pulse.application.orders import OrderPreview
from pulse.application.origin import Origin, new_request_id, new_trace_id, system_clock
from pulse.cli.calendar import load_calendar
from pulse.cli.schedule_text import draw, window_lines
from pulse.cli.splitter.show import (
    Duration,
    Even,
    Seed,
    Splits,
    Total,
    require_share_per_slice,
    seed_of,
    title,
)
from pulse.cli.terminal import echo, output
from pulse.domain import (
    SESSION_POLICIES,
    Order,
    OrderRefused,
    OrderSpec,
    PlaceOrder,
    Trace,
    parse_order_request,
)
from pulse.domain import preview as preview_of
from pulse.process.startup import settings_from_environment

_SOURCE: Final = "PULSE_CLI:preview"
_OPTIONS: Final = {
    "split_config.start_at": "--start-at",
    "split_config.session_policy": "--session-policy",
}


def preview(  # noqa: PLR0913 - one option for each field of an order
    instrument: Annotated[str, typer.Option(help="Such as NSE:RELIANCE.")],
    side: Annotated[str, typer.Option(help="BUY or SELL.")],
    total: Total,
    splits: Splits,
    duration: Duration,
    *,
    start_at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When it starts, with the offset from UTC; default now."),
    ] = None,
    session_policy: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY",
            help=f"{', '.join(SESSION_POLICIES)}; default PULSE_SESSION_POLICY.",
        ),
    ] = None,
    even: Even = False,
    seed: Seed = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The schedule as the API answers it.")
    ] = False,
) -> None:
    r"""Draw the schedule that an order would get if it were placed now.

    The order is validated and split as Pulse would do it, by the clock, settings
    and calendar of this machine. Nothing is stored. The same seed gives the same
    quantities and the same offsets from the start. A placed order gets a random
    seed, which no caller can choose. Needs neither a database nor a running
    Pulse.

    Exit codes: 0 drawn. 1 the market is closed under the session policy, the
    calendar cannot be used or does not cover the window, or the schedule breaks a
    rule (a bug). 2 wrong usage or settings.

    Example:
      pulse preview --instrument NSE:RELIANCE --side BUY --total 100 --splits 5 \
        --duration 60
      pulse preview --instrument NSE:RELIANCE --side BUY --total 100 --splits 5 \
        --duration 60 --start-at 2026-03-02T09:15:00+05:30 --session-policy REJECT
    """
    require_share_per_slice(total, splits)
    spec = _spec_of(
        {
            "order_unique_key": "preview",
            "instrument": instrument,
            "side": side,
            "total_quantity": total,
            "split_config": {
                "num_splits": splits,
                "duration_minutes": duration,
                "randomize": not even,
                "start_at": start_at,
                "session_policy": session_policy,
            },
        }
    )
    order = _previewed(spec, seed_of(seed))
    previewed = OrderPreview.of(order)
    if as_json:
        echo(msgspec.json.encode(previewed))
        return
    console = output()
    console.print(f"{side} {instrument}: {title(order.terms)}", style="bold")
    for text in window_lines(order.terms):
        console.print(text)
    for line in draw(order.slices, order.terms):
        console.print(line)


def _spec_of(fields: dict[str, object]) -> OrderSpec:
    """The order, validated as the API validates it."""
    try:
        text = json.dumps(fields, ensure_ascii=False)
        return parse_order_request(text.encode("utf-8", "replace"))
    except OrderRefused as error:
        raise _wrong(error) from None


def _previewed(spec: OrderSpec, seed: int) -> Order:
    """The order as it would be placed and split now."""
    try:
        return preview_of(_command(spec, seed))
    except OrderRefused as error:
        raise _wrong(error) from None


def _wrong(error: OrderRefused) -> typer.BadParameter:
    option = _OPTIONS.get(error.field or "", f"--{error.field}")
    return typer.BadParameter(f"expected {error.expected}", param_hint=option)


def _command(spec: OrderSpec, seed: int) -> PlaceOrder:
    caller, settings = Caller(), settings_from_environment()
    trace = Trace(
        trace_id=new_trace_id(),
        trace_source=_SOURCE,
        request_id=new_request_id(),
        request_source=_SOURCE,
    )
    return PlaceOrder(
        spec=spec,
        key_scope=caller.key_scope,
        placed_by=caller.placed_by,
        split_seed=seed,
        release=True,
        at=system_clock(),
        recorded_by=Origin.of_this_process().recorded_by("cli"),
        trace=trace,
        default_policy=settings.session_policy,
        calendar=load_calendar(settings.market_calendar),
    )
