"""The comparisons of a run as a chart."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.report import Report


def chart_of(found: Report) -> Figure:
    """Every comparison as the ratio of Pulse to its rival, with the goal if it has one."""
    rows = [
        (f"{part.name}: {comparison.setting}", rival)
        for part in found.parts.values()
        for comparison in part.comparisons
        for rival in comparison.rivals
        if not rival.series.name.startswith("Pulse")
    ]
    figure = Figure(figsize=(10, 0.26 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    for y, (_, rival) in enumerate(reversed(rows)):
        colour = {None: "tab:grey", True: "tab:green", False: "tab:red"}[rival.reached]
        axes.plot([min(rival.ratios), max(rival.ratios)], [y, y], color=colour, lw=2)
        axes.plot(rival.ratio, y, "o", color=colour, ms=4)
        if rival.at_least is not None:
            axes.plot(rival.at_least, y, "|", color="black", ms=11)
    axes.axvline(1, color="black", lw=0.8)
    names = [f"{setting}, compared with {rival.series.name}" for setting, rival in reversed(rows)]
    axes.set_yticks(range(len(rows)), names, fontsize=7)
    axes.set_xscale("log")
    axes.set_xlabel("ratio of Pulse to the rival: above 1 Pulse is better; | is the goal")
    axes.grid(axis="x", alpha=0.3)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    return figure


def draw(found: Report, file: Path) -> None:
    """Write the chart as SVG."""
    with mpl.rc_context({"svg.fonttype": "none"}):
        chart_of(found).savefig(file, format="svg")
