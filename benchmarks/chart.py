"""The comparisons of a run as a chart."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.report import Report


def chart_of(report: Report) -> Figure:
    """Every comparison as the ratio of Pulse to its baseline, with the goal if it has one."""
    rows = [
        (f"{part.result.name}: {comparison.setting}", baseline)
        for part in report.parts.values()
        for comparison in part.result.comparisons
        for baseline in comparison.baselines
        if not baseline.series.name.startswith("Pulse")
    ]
    figure = Figure(figsize=(10, 0.26 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    for y, (_, baseline) in enumerate(reversed(rows)):
        colour = {None: "tab:grey", True: "tab:green", False: "tab:red"}[baseline.reached]
        axes.plot([min(baseline.ratios), max(baseline.ratios)], [y, y], color=colour, lw=2)
        axes.plot(baseline.ratio, y, "o", color=colour, ms=4)
        if baseline.at_least is not None:
            axes.plot(baseline.at_least, y, "|", color="black", ms=11)
    axes.axvline(1, color="black", lw=0.8)
    names = [
        f"{setting}, compared with {baseline.series.name}" for setting, baseline in reversed(rows)
    ]
    axes.set_yticks(range(len(rows)), names, fontsize=7)
    axes.set_xscale("log")
    axes.set_xlabel("ratio of Pulse to the baseline: above 1 Pulse is better; | is the goal")
    axes.grid(axis="x", alpha=0.3)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    return figure


def draw(report: Report, file: Path) -> None:
    """Write the chart as SVG."""
    with mpl.rc_context({"svg.fonttype": "none"}):
        chart_of(report).savefig(file, format="svg")
