"""`make faults`: inject the faults that Pulse must survive, and count lost or duplicate orders."""

import asyncio
import re
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from tests.faults import report
from tests.faults.case import Case, RunOptions, run_case
from tests.faults.catalogue import CASES, CLUSTER, ON_REQUEST
from tests.faults.report import Row

_SEEDS = 1_000_000_000
_MAX_SHOWN_ERRORS = 20
_MAX_SHOWN_CHARACTERS = 300
_ERROR = re.compile(r"\[error|\[critical|\"level\":\s?\"(error|critical)\"")
_BY_NAME = {case.name: case for case in (*CASES, *CLUSTER, ON_REQUEST)}


def main(
    faults: Annotated[
        list[str] | None, typer.Argument(help="Faults to inject. Default: all but soak, cluster.")
    ] = None,
    *,
    short: Annotated[
        bool, typer.Option("--short", help="Fewer injections, the same checks.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option(help="Random seed, to repeat a run. Default: random.")
    ] = None,
    file: Annotated[
        Path, typer.Option("--json", help="Results file. A new result replaces the old one.")
    ] = Path("faults.json"),
    times: Annotated[
        int | None, typer.Option(help="Number of injections; for the soak, minutes.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Orders per second of the soak.")] = None,
    list_faults: Annotated[bool, typer.Option("--list", help="List the faults and exit.")] = False,
    twice: Annotated[
        bool, typer.Option("--twice", help="Retry a fault once if it only missed a time limit.")
    ] = False,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep", help="Keep logs, data and ledgers; those of a broken case are kept."
        ),
    ] = False,
) -> None:
    """Inject faults into a running Pulse and check that no order is lost.

    Starts Pulse and Postgres under load. After the faults it waits until all work is done, then
    compares the callers' ledgers, the log, the read model and the log readers. Prints a table and
    writes the results as JSON.

    Exit codes: 0 every promise held, 1 a promise was broken, 2 wrong usage.

    Example:
      make faults FAULT="kills stops" SEED=7
    """
    if list_faults:
        for case in _BY_NAME.values():
            typer.echo(f"{case.name:16} {case.at_least:>6} times: {case.promise}")
        return
    rows: list[Row] = []
    for cases in _groups_of(_chosen(faults or [], short=short), short=short):
        options = {
            case.name: RunOptions(seed=_seed(seed), short=short, times=times, rate=rate)
            for case in cases
        }
        rows += [
            _again(row, options[row.fault], keep=keep) if twice else row
            for row in _run(cases, options, keep=keep)
        ]
        report.write(file, report.merged(file, rows))
    typer.echo(f"\n{report.table(rows)}\n")
    for row in rows:
        for broken in row.broken:
            typer.echo(f"BROKEN {row.fault} (seed {row.seed}): {broken}")
    raise typer.Exit(1 if any(row.broken for row in rows) else 0)


def _seed(given: int | None) -> int:
    return secrets.randbelow(_SEEDS) if given is None else given


def _chosen(names: list[str], *, short: bool) -> list[Case]:
    if "cluster" in names:
        names = [each for each in names if each != "cluster"] + [case.name for case in CLUSTER]
    unknown = [name for name in names if name not in _BY_NAME]
    if unknown:
        raise typer.BadParameter(f"unknown fault: {', '.join(unknown)}; see --list")
    if names:
        return [_BY_NAME[name] for name in names]
    return [case for case in CASES if case.short] if short else list(CASES)


def _groups_of(cases: Sequence[Case], *, short: bool) -> list[list[Case]]:
    """Groups of cases that run at the same time: in the short form, all that mostly wait."""
    together = [case for case in cases if short and case.waits]
    alone = [[case] for case in cases if case not in together]
    return [together, *alone] if together else alone


def _again(first: Row, options: RunOptions, *, keep: bool) -> Row:
    """The row, or that of a second attempt if the first one only missed a time limit."""
    if not first.broken or first.broken != first.late:
        return first
    typer.echo(f"REPEATED {first.fault}, which only missed a time limit: {'; '.join(first.late)}")
    (row,) = _run([_BY_NAME[first.fault]], {first.fault: options}, keep=keep)
    row.facts.append(f"first attempt (seed {first.seed}): {'; '.join(first.broken)}")
    return row


def _run(cases: Sequence[Case], options: Mapping[str, RunOptions], *, keep: bool) -> list[Row]:
    """Run these cases at the same time; returns their rows, in order."""
    homes = {case.name: Path(tempfile.mkdtemp(prefix=f"pulse-{case.name}-")) for case in cases}
    for name, home in homes.items():
        home.chmod(0o755)
        typer.echo(f"{name} (seed {options[name].seed}) ...")
    rows: dict[str, Row] = {}
    try:
        runs = ((case, homes[case.name], options[case.name]) for case in cases)
        rows = {row.fault: row for row in asyncio.run(_run_until_sigterm(runs))}
    finally:
        for name, home in homes.items():
            if keep or (name in rows and rows[name].broken):
                typer.echo(f"  kept: {home}")
                for line in _logged_errors(home):
                    typer.echo(f"  {line}")
            else:
                shutil.rmtree(home, ignore_errors=True)
    for row in rows.values():
        typer.echo(
            f"  {row.fault} {row.verdict} after {row.seconds:g} s, {row.injected} injected"
            + (f": {row.not_run}" if row.not_run else "")
        )
        for line in (*row.facts, *row.broken):
            typer.echo(f"  {line}")
    return list(rows.values())


def _logged_errors(home: Path) -> list[str]:
    """The first errors that the processes of a case logged, each with its file."""
    found = [
        f"{log.name}: {line[:_MAX_SHOWN_CHARACTERS]}"
        for log in sorted(home.rglob("*.log"))
        for line in log.read_text(errors="replace").splitlines()
        if _ERROR.search(line)
    ]
    return found[:_MAX_SHOWN_ERRORS]


async def _run_until_sigterm(runs: Iterable[tuple[Case, Path, RunOptions]]) -> list[Row]:
    """Run the cases. SIGTERM cancels them like Ctrl-C: their processes end, their disks unmount."""
    running = asyncio.gather(*(run_case(*run) for run in runs))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    return await running


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    typer.run(main)
