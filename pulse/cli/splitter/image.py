"""A schedule as an SVG image."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from pulse.cli.splitter.points import even_split, minutes, shares
from pulse.domain import Slice, SplitTerms


def write_svg(path: Path, terms: SplitTerms, slices: Sequence[Slice]) -> None:
    """Write the picture: shares over time, the even split and the allowed bounds beside it.

    The same schedule gives the same bytes.

    Raises:
        OSError: the file cannot be written.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot()
    even = even_split(terms)
    stems = axes.stem(minutes(terms, slices), shares(slices), basefmt=" ", label="slices")
    stems.markerline.set_markersize(4)
    axes.plot(
        minutes(terms, even), shares(even), "o", mfc="none", color="tab:orange", label="even split"
    )
    least, most = terms.quantity_bounds
    axes.axhspan(least, most, color="tab:green", alpha=0.1, label=f"allowed: {least:,} to {most:,}")
    how = f"seed {terms.seed:016x}" if terms.randomize else "evenly"
    axes.set_title(f"{terms.total_quantity:,} shares in {terms.num_splits} slices, {how}")
    axes.set(xlabel="minutes after the order's creation", ylabel="shares")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    with mpl.rc_context({"svg.hashsalt": "pulse", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None})
