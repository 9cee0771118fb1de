"""Draws the charts of the documentation (`make charts`). The output is reproducible."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import matplotlib as mpl
import msgspec
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.chart import chart_of
from benchmarks.page import RESULTS
from benchmarks.report import read
from pulse.domain import Splitter, SplitTerms, split_v1
from pulse.testing import last_takes_the_rest, sample_of

IMAGES: Final = Path(__file__).parent / "images"
SOAK: Final = Path(__file__).parent / "data" / "soak.json"
SEEDS: Final = range(2000)
_SOAK_PANELS: Final = {
    "memory of all processes, MiB": {"memory_mib": ""},
    "open files of all processes, callers not counted": {"open_files": ""},
    "dead tuples of queue, claims and position": {"dead_tuples": ""},
    "p99 over ten seconds, ms": {"post_p99_ms": "answer", "completed_p99_ms": "COMPLETED"},
}
TERMS: Final = SplitTerms(
    total_quantity=20_000,
    num_splits=20,
    duration_minutes=390,
    randomize=True,
    seed=0,
    starts_at=datetime(2026, 3, 2, 3, 45, tzinfo=UTC),
)


def distribution() -> Figure:
    """Shares by position over many seeds: splitter version 1 and the naive splitter."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _boxes(left, split_v1, "Pulse, splitter version 1")
    _boxes(right, last_takes_the_rest, "naive splitter: the last slice gets the remainder")
    left.set_ylabel("shares of a slice, average 1,000")
    return figure


def _boxes(axes: Axes, splitter: Splitter, title: str) -> None:
    sample = sample_of(splitter, TERMS, SEEDS)
    columns: Sequence[Sequence[int]] = sample.quantities
    least, most = TERMS.quantity_bounds
    axes.axhspan(least, most, color="tab:green", alpha=0.12)
    axes.boxplot(columns, whis=(0, 100), widths=0.6, medianprops={"color": "tab:orange"})
    axes.set(title=title, xlabel="position of the slice")
    axes.set_xticks([1, 5, 10, 15, 20], ["1", "5", "10", "15", "20"])


def soak(samples: Sequence[dict[str, float]]) -> Figure:
    """An hour of load: the measurements that must stay flat."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    for axes, (title, names) in zip(panels.flat, _SOAK_PANELS.items(), strict=True):
        for name, label in names.items():
            minutes = [sample["minutes"] for sample in samples]
            axes.plot(minutes, [sample[name] for sample in samples], label=label, linewidth=1)
        axes.set(title=title)
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
        if len(names) > 1:
            axes.legend()
    for axes in panels[-1]:
        axes.set_xlabel("minutes")
    return figure


def main() -> None:
    """Draw every chart."""
    IMAGES.mkdir(exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "pulse", "svg.fonttype": "none"}):
        charts = {"distribution": distribution()}
        if SOAK.exists():
            charts["soak"] = soak(msgspec.json.decode(SOAK.read_bytes()))
        if RESULTS.exists():
            charts["performance"] = chart_of(read(RESULTS))
        for name, figure in charts.items():
            figure.savefig(IMAGES / f"{name}.svg", format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
