"""`pulse splitter verify`: every stored schedule derived again and compared."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Final

import msgspec
import typer
from rich.text import Text

from pulse.application import Finding, Verified
from pulse.bootstrap import settings_from_environment
from pulse.bootstrap.maintenance import Tools
from pulse.cli.exits import NOT_WELL, open_tools_or_stop, run_to_end
from pulse.cli.progress import OnProgress, progress_on
from pulse.cli.replay import order_id_of
from pulse.cli.terminal import counted, errors, output, printable
from pulse.settings import Settings

_SENTENCES: Final = {
    "DIFFERS": "differs from what its creation derives",
    "BREAKS_RULE": "breaks a rule",
    "UNREADABLE": "cannot be derived",
    "NEWER_CODE": "asks for newer code than this, so nothing is proved",
}


class Proof(msgspec.Struct):
    """What has been looked through so far."""

    orders: int = 0
    slices: int = 0
    position: int = 0
    orders_with_findings: int = 0
    faults: Counter[str] = msgspec.field(default_factory=Counter)
    findings: list[Finding] = msgspec.field(default_factory=list)


def verify(
    order_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ORDER_ID]...", help="These orders alone.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="The same as one JSON object.")] = False,
) -> None:
    """Derive every stored schedule again and compare it, byte for byte.

    A schedule is a function of its order's creation: the recorded seed and the
    recorded splitter version. This reads the log, derives each schedule anew in
    this process and names, for every order that differs, the first slice that
    does; it also holds each one against every rule. Shows its way in positions of
    the log on standard error.

    Needs the Postgres: PULSE_DATABASE_URL, or the embedded one of PULSE_DATA_DIR,
    which is started if it does not run. Changes nothing; orders may come and go.

    Exit codes: 0 every schedule is byte for byte what it must be. 1 some is not,
    or could not be derived, or no order has the id. 2 wrong usage or settings.
    3 Postgres cannot be reached or its schema is not current. 130 stopped by
    Ctrl-C.

    Example:
      pulse splitter verify
      pulse splitter verify 9ff54a4d-a8eb-5a4c-a146-a92918cb5546
    """
    settings, proof = settings_from_environment(), Proof()
    tell = _keep if as_json else _tell
    with progress_on(errors(), "position") as on_progress:
        run_to_end(_prove(settings, order_ids, proof, on_progress, tell))
    if as_json:
        typer.echo(msgspec.json.encode(proof))
    else:
        _sum_up(proof)
    if proof.orders_with_findings:
        raise typer.Exit(NOT_WELL)


async def _prove(
    settings: Settings,
    order_ids: list[str] | None,
    proof: Proof,
    on_progress: OnProgress,
    tell: Callable[[Finding, Proof], None],
) -> None:
    async with open_tools_or_stop(settings) as tools:
        stretches = _orders(tools, order_ids) if order_ids else tools.verification().every_order()
        async for verified in stretches:
            proof.orders += verified.orders
            proof.slices += verified.slices
            proof.position = verified.position
            proof.orders_with_findings += len({f.order_id for f in verified.findings})
            for finding in verified.findings:
                proof.faults[finding.fault] += 1
                tell(finding, proof)
            on_progress(verified.position, verified.end)


async def _orders(tools: Tools, order_ids: list[str]) -> AsyncIterator[Verified]:
    for text in order_ids:
        yield await tools.verification().of_order(order_id_of(text))


def _keep(finding: Finding, proof: Proof) -> None:
    proof.findings.append(finding)


def _tell(finding: Finding, _: Proof) -> None:
    line = Text(f"order {finding.order_id} at position {finding.position:,} ")
    line.append(_SENTENCES[finding.fault], "bold red").append(f": {printable(finding.detail)}")
    output().print(line)


def _sum_up(proof: Proof) -> None:
    schedules, slices = counted(proof.orders, "schedule"), counted(proof.slices, "slice")
    looked = f"{schedules} of {slices} derived again"
    if not proof.orders_with_findings:
        output().print(Text(looked).append(": every one is identical, byte for byte", "green"))
        return
    faults = ", ".join(f"{count:,} {_SENTENCES[fault]}" for fault, count in proof.faults.items())
    wrong = counted(proof.orders_with_findings, "order")
    output().print(Text(f"{looked}: {wrong} not as it must be ({faults})", "bold red"))
