"""`make faults`: break a running Pulse in every way that is promised to be survived, and count."""

import asyncio
import secrets
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tests.faults import report
from tests.faults.case import Case, CaseOptions, run_case
from tests.faults.catalogue import BY_ITSELF, CASES
from tests.faults.report import Row

_SEEDS = 1_000_000_000
_BY_NAME = {case.name: case for case in (*CASES, BY_ITSELF)}


def main(
    faults: Annotated[list[str] | None, typer.Argument(help="Which faults; all if none.")] = None,
    *,
    short: Annotated[bool, typer.Option("--short", help="Fewer of each, the same checks.")] = False,
    seed: Annotated[int | None, typer.Option(help="Repeat this run; random if not given.")] = None,
    file: Annotated[
        Path, typer.Option("--json", help="Where the rows go, each in place of its old one.")
    ] = Path("faults.json"),
    times: Annotated[
        int | None, typer.Option(help="How often; the soak: how many minutes.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Orders a second of the soak.")] = None,
    list_faults: Annotated[bool, typer.Option("--list", help="Name the faults and end.")] = False,
    twice: Annotated[
        bool, typer.Option("--twice", help="Once more what was only too late or too slow.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep logs, data and ledgers.")] = False,
) -> None:
    """Break a running Pulse in every way it promises to survive, and count what was lost.

    Starts real processes on a Postgres of its own, under load; after each fault
    and quiet it holds the callers' ledgers, the log, the view and the readers
    against each other. Prints a table and writes the rows as JSON.

    Exit codes: 0 every promise held, 1 one was broken, 2 wrong usage.

    Example:
      make faults FAULT="kills stops" SEED=7
    """
    if list_faults:
        for case in _BY_NAME.values():
            typer.echo(f"{case.name:16} {case.at_least:>6} times: {case.promise}")
        return
    rows = []
    for case in _chosen(faults or [], short=short):
        asked = CaseOptions(seed=_seed(seed), short=short, times=times, rate=rate)
        row = _run(case, asked, keep=keep)
        if twice and row.broken and row.broken == row.late:
            again = CaseOptions(seed=_seed(seed), short=short, times=times, rate=rate)
            typer.echo(f"REPEATED {case.name}: all that broke was too late: {'; '.join(row.late)}")
            first, row = row, _run(case, again, keep=keep)
            row.facts.append(f"at the first try (seed {first.seed}): {'; '.join(first.broken)}")
        rows.append(row)
        report.write(file, report.merged(file, rows))
    typer.echo(f"\n{report.table(rows)}\n")
    for row in rows:
        for broken in row.broken:
            typer.echo(f"BROKEN {row.fault} (seed {row.seed}): {broken}")
    raise typer.Exit(1 if any(row.broken for row in rows) else 0)


def _seed(given: int | None) -> int:
    return secrets.randbelow(_SEEDS) if given is None else given


def _chosen(names: list[str], *, short: bool) -> list[Case]:
    unknown = [name for name in names if name not in _BY_NAME]
    if unknown:
        raise typer.BadParameter(f"no fault is named {', '.join(unknown)}; --list names them")
    if names:
        return [_BY_NAME[name] for name in names]
    return [case for case in CASES if case.short] if short else list(CASES)


def _run(case: Case, asked: CaseOptions, *, keep: bool) -> Row:
    home = Path(tempfile.mkdtemp(prefix=f"pulse-{case.name}-"))
    home.chmod(0o755)
    typer.echo(f"{case.name} (seed {asked.seed}) ...")
    try:
        row = asyncio.run(_run_unless_told(case, home, asked))
    finally:
        if keep:
            typer.echo(f"  kept: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    typer.echo(
        f"  {row.verdict} after {row.seconds:g} s, {row.injected} injected"
        + (f": {row.not_run}" if row.not_run else "")
    )
    for line in (*row.facts, *row.broken):
        typer.echo(f"  {line}")
    return row


async def _run_unless_told(case: Case, home: Path, asked: CaseOptions) -> Row:
    """SIGTERM ends it as Ctrl-C does: what it started is ended, what it mounted unmounted."""
    running = asyncio.ensure_future(run_case(case, home, asked))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    return await running


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    typer.run(main)
