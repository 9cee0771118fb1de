"""The comparisons of a run as a picture."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.report import Report


def chart_of(found: Report) -> Figure:
    """Every comparison as the ratio of Pulse to its rival, with the goal where there is one."""
    rows = [
        (f"{part.name}: {comparison.setting}", beside)
        for part in found.parts.values()
        for comparison in part.comparisons
        for beside in comparison.beside
        if not beside.rival.name.startswith("Pulse")
    ]
    figure = Figure(figsize=(10, 0.26 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    for place, (_, beside) in enumerate(reversed(rows)):
        colour = {None: "tab:grey", True: "tab:green", False: "tab:red"}[beside.reached]
        axes.plot([min(beside.ratios), max(beside.ratios)], [place, place], color=colour, lw=2)
        axes.plot(beside.ratio, place, "o", color=colour, ms=4)
        if beside.at_least is not None:
            axes.plot(beside.at_least, place, "|", color="black", ms=11)
    axes.axvline(1, color="black", lw=0.8)
    names = [f"{setting}, beside {beside.rival.name}" for setting, beside in reversed(rows)]
    axes.set_yticks(range(len(rows)), names, fontsize=7)
    axes.set_xscale("log")
    axes.set_xlabel("Pulse beside it, as a ratio: right of 1 it is ahead; | is the goal")
    axes.grid(axis="x", alpha=0.3)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    return figure


def draw(found: Report, file: Path) -> None:
    """Write the chart as SVG."""
    with mpl.rc_context({"svg.fonttype": "none"}):
        chart_of(found).savefig(file, format="svg")
