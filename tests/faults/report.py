"""The result of a fault: a row of the table and of the JSON file."""

import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import psutil

from pulse import __version__

_ROOT: Final = Path(__file__).resolve().parents[2]


class Row(msgspec.Struct, kw_only=True):
    """One fault's result. `broken` lists the promises that did not hold; empty means success.

    `recoveries` are seconds from a fault to the recovery as `promise` or `facts` define it. `late`
    are the entries of `broken` that only missed a time limit. In a cluster
    `recoveries` are the longest times without an accepted order, `splits` those without a split
    order, and `leaders` the times until Patroni has another primary.
    """

    fault: str
    promise: str
    seed: int
    short: bool = False
    version: str = ""
    at_least: int
    injected: int = 0
    orders: int = 0
    accepted: int = 0
    unknown: int = 0
    lost: int = 0
    doubled: int = 0
    skipped: int = 0
    recoveries: list[float] = []
    splits: list[float] = []
    leaders: list[float] = []
    facts: list[str] = []
    broken: list[str] = []
    late: list[str] = []
    not_run: str | None = None
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """The last column of the table."""
        if self.not_run is not None:
            return "not run"
        return "BROKEN" if self.broken else "holds"


class Report(msgspec.Struct, kw_only=True):
    """The rows by fault, and the machine they were measured on."""

    written_at: datetime
    machine: str
    rows: dict[str, Row] = {}


def quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of the values do not exceed; None if empty."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, -(-int(len(ordered) * share * 1000) // 1000) - 1)]


def merged(file: Path, rows: Sequence[Row]) -> Report:
    """The report in that file, with these rows replacing the old ones."""
    report = Report(
        written_at=datetime.now(UTC).replace(microsecond=0),
        machine=_machine(),
        rows=read(file).rows if file.exists() else {},
    )
    report.rows.update({row.fault: row for row in rows})
    return report


def read(file: Path) -> Report:
    """The report in that file."""
    return msgspec.json.decode(file.read_bytes(), type=Report)


def write(file: Path, report: Report) -> None:
    """Write it as indented JSON."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    head = (
        "fault", "injected", "orders", "lost", "doubled", "skipped", "recovery p50", "p99", "",
    )  # fmt: skip
    lines = [head, ("---", *["---:"] * (len(head) - 2), "---")]
    lines += [_cells(row) for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(row: Row) -> tuple[str, ...]:
    counts = (row.injected, row.orders, row.lost, row.doubled, row.skipped)
    return (
        row.fault,
        *(f"{count:,}" for count in counts),
        _seconds(quantile(row.recoveries, 0.5)),
        _seconds(quantile(row.recoveries, 0.99)),
        row.verdict + (" (short form)" if row.short else ""),
    )


def cluster_table(rows: Sequence[Row]) -> str:
    """The rows of a cluster as a Markdown table, with the interruptions and Patroni's times."""
    head = (
        "fault", "injected", "orders", "lost", "doubled", "skipped",
        "none accepted: p50", "max", "none split: p50", "max", "Patroni: p50", "max", "",
    )  # fmt: skip
    lines = [head, ("---", *["---:"] * (len(head) - 2), "---")]
    lines += [_cluster_cells(row) for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cluster_cells(row: Row) -> tuple[str, ...]:
    counts = (row.injected, row.orders, row.lost, row.doubled, row.skipped)
    times = [
        _seconds(quantile(values, share))
        for values in (row.recoveries, row.splits, row.leaders)
        for share in (0.5, 1.0)
    ]
    return (row.fault, *(f"{count:,}" for count in counts), *times, row.verdict)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{psutil.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}"
    )


def version() -> str:
    """Pulse's version and the commit it runs at."""
    return f"{__version__} {_commit()}".strip()


def _commit() -> str:
    git = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return git.stdout.strip()
