"""`make bench`: Pulse compared with lower bounds and peers, on a separate Postgres.

Figures depend on the machine; the ratios within one run depend on it much less.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated, Final

import typer

from benchmarks.bench import Bench
from benchmarks.catalogue import ON_REQUEST, PARTS
from benchmarks.chart import draw
from benchmarks.comparison import PartResult
from benchmarks.report import ReportFile, print_table, read

_ROUNDS: Final = 5
_SECONDS: Final = 2.0
_SMOKE_SECONDS: Final = 0.2

cli = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@cli.command(context_settings={"help_option_names": ["-h", "--help"]})
def bench(
    parts: Annotated[
        list[str] | None,
        typer.Argument(help="Parts to run. Default: all but earlier, growth, sustained."),
    ] = None,
    *,
    smoke: Annotated[bool, typer.Option(help="Only check that the parts work.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each candidate.")] = _ROUNDS,
    seconds: Annotated[float, typer.Option(min=0.2, help="Seconds per turn.")] = _SECONDS,
    file: Annotated[
        Path, typer.Option("--json", help="Results file. A new result replaces the old one.")
    ] = Path("bench.json"),
    listing: Annotated[bool, typer.Option("--list", help="List the parts and exit.")] = False,
) -> None:
    """Measure Pulse and its baselines in alternation, on a separate, durable Postgres.

    Needs wrk and pgbench (Debian: wrk, postgresql-15). The default parts take less than half an
    hour on two cores; earlier, growth and sustained run only by name. Use an otherwise idle
    machine: ratios tolerate only some noise.

    Exit codes: 0 measured (goals reached or not), 2 wrong usage, 3 a part could not run.

    Example:
      make bench PART="append post"
    """
    if listing:
        for name, part in PARTS.items():
            typer.echo(f"{name:10} {part.TITLE}")
        return
    unknown = set(parts or ()) - PARTS.keys()
    if unknown:
        raise typer.BadParameter(f"unknown part: {', '.join(sorted(unknown))}; see --list")
    report = ReportFile(file)
    failed = []
    for name in parts or [name for name in PARTS if name not in ON_REQUEST]:
        typer.echo(f"{name}: {PARTS[name].TITLE}")
        try:
            result = asyncio.run(
                _measured(
                    name,
                    rounds=1 if smoke else rounds,
                    seconds=_SMOKE_SECONDS if smoke else seconds,
                    smoke=smoke,
                )
            )
        except Exception as error:  # noqa: BLE001 - the other parts still run
            typer.echo(f"  {name} could not run: {type(error).__name__}: {error}", err=True)
            failed.append(name)
            continue
        print_table(result)
        report.put(result)
    if file.exists():
        draw(read(file), file.with_suffix(".svg"))
        typer.echo(f"written: {file}, {file.with_suffix('.svg')}")
    if failed:
        raise typer.Exit(3)


async def _measured(name: str, *, rounds: int, seconds: float, smoke: bool) -> PartResult:
    with tempfile.TemporaryDirectory(prefix="pulse-bench-", ignore_cleanup_errors=True) as home:
        part = PARTS[name]
        context = Bench(Path(home), rounds=rounds, turn_seconds=seconds, smoke=smoke)
        await part.run(context)
        return context.result(name, part.TITLE)


if __name__ == "__main__":
    cli()
