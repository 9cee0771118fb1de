"""`pulse splitter show`: draws a schedule in the terminal or as an SVG file."""

import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from pulse.cli.exits import require_extra
from pulse.cli.schedule_text import draw, window_lines
from pulse.cli.terminal import echo, output
from pulse.domain import (
    CURRENT_SPLITTER_VERSION,
    MAX_DURATION_MINUTES,
    MAX_QUANTITY,
    MAX_SPLITS,
    MIN_SPLITS,
    HistoryBroken,
    Session,
    Slice,
    SplitTerms,
    require_possible_sessions,
    split,
)
from pulse.domain.splitting import MICROSECONDS_PER_MINUTE
from pulse.errors import PulseError
from pulse.rfc3339 import parse_time
from pulse.wording import counted, format_duration

_STARTS_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)
_MAX_SEED: Final = 2**64 - 1
_HEX: Final = re.compile(r"[0-9a-f]{16}")


Total = Annotated[int, typer.Option(min=MIN_SPLITS, max=MAX_QUANTITY, help="Shares.")]
Splits = Annotated[int, typer.Option(min=MIN_SPLITS, max=MAX_SPLITS, help="Slices.")]
Duration = Annotated[int, typer.Option(min=1, max=MAX_DURATION_MINUTES, help="Minutes.")]
Seed = Annotated[
    str | None,
    typer.Option(help="16 hex digits as in an event, or a number; default random."),
]
Even = Annotated[bool, typer.Option("--even", help="Without randomisation.")]


def show(  # noqa: PLR0913 - one option for each term of a schedule
    total: Total,
    splits: Splits,
    duration: Duration,
    *,
    seed: Seed = None,
    even: Even = False,
    start_at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="When it starts, with the offset from UTC."),
    ] = None,
    session: Annotated[
        list[str] | None,
        typer.Option(metavar="OPENS/CLOSES", help="A trading session; repeat it for several."),
    ] = None,
    svg: Annotated[
        Path | None, typer.Option("--svg", help="Write the picture to this file.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The slices as JSON instead of a picture.")
    ] = False,
) -> None:
    r"""Draw the schedule that an order would get.

    Draws shares over time, a bar per slice; --svg writes a picture that also has
    the even split. The same terms and the same seed give the same schedule on any
    machine; without --seed a random one is used and printed, so that the schedule
    can be drawn again. Needs no database.

    With --session the order is split in trading time: the first session must
    contain the start. If the sessions are shorter than the duration, the window
    ends one second before the last one closes.

    Exit codes: 0 drawn, 1 the file cannot be written, 2 wrong usage, or for --svg
    the extra pulse[charts] is missing.

    Example:
      pulse splitter show --total 1000 --splits 20 --duration 60 --seed 7
      pulse splitter show --total 1000 --splits 20 --duration 60 --svg plan.svg
      pulse splitter show --total 1000 --splits 20 --duration 60 \
        --start-at 2026-03-02T15:00:00+05:30 \
        --session 2026-03-02T09:15:00+05:30/2026-03-02T15:30:00+05:30 \
        --session 2026-03-03T09:15:00+05:30/2026-03-03T15:30:00+05:30
    """
    require_share_per_slice(total, splits)
    terms = SplitTerms(
        total_quantity=total,
        num_splits=splits,
        duration_minutes=duration,
        randomize=not even,
        seed=seed_of(seed),
        starts_at=_STARTS_AT if start_at is None else _time(start_at, "--start-at"),
        sessions=tuple(map(_session, session or ())),
    )
    _require_possible(terms)
    slices = split(terms, CURRENT_SPLITTER_VERSION)
    if svg is not None:
        try:
            _write_svg(svg, terms, slices)
        except OSError as error:
            raise PulseError(f"the picture cannot be written: {error}") from error
    if as_json:
        echo(msgspec.json.encode({"seed": f"{terms.seed:016x}", "slices": slices}))
    elif svg is None:
        console = output()
        least, more = divmod(total, splits)
        shares = f"{least:,}" if not more else f"{least:,} or {least + 1:,}"
        interval = format_duration(terms.duration_microseconds / 1_000_000 / (splits - 1))
        console.print(title(terms), style="bold")
        for window_line in window_lines(terms) if terms.sessions else ():
            console.print(window_line)
        console.print(f"the even split: {shares} shares every {interval}")
        for line in draw(slices, terms):
            console.print(line)
    else:
        output().print(f"written to {svg}")


def _time(text: str, option: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError:
        expected = "expected an RFC 3339 time with its offset, such as 2026-03-02T09:15:00+05:30"
        raise typer.BadParameter(expected, param_hint=option) from None


def _session(text: str) -> Session:
    opens_at, _, closes_at = text.partition("/")
    return Session(opens_at=_time(opens_at, "--session"), closes_at=_time(closes_at, "--session"))


def _require_possible(terms: SplitTerms) -> None:
    """Refuse sessions that the window cannot have."""
    try:
        if terms.sessions:
            require_possible_sessions(terms)
    except HistoryBroken as error:
        raise typer.BadParameter(str(error), param_hint="--session") from None


def require_share_per_slice(total: int, splits: int) -> None:
    """Refuse fewer shares than slices."""
    if total < splits:
        raise typer.BadParameter(
            f"must be at least one share per slice: {splits}", param_hint="--total"
        )


def seed_of(text: str | None) -> int:
    """Parse a seed: 16 hex digits as in an event, or a decimal number; a random one by default."""
    if text is None:
        return secrets.randbits(64)
    if _HEX.fullmatch(text):
        return int(text, 16)
    if not text.isdecimal() or int(text) > _MAX_SEED:
        expected = f"expected 16 hex digits, or a whole number from 0 to {_MAX_SEED}"
        raise typer.BadParameter(expected, param_hint="--seed")
    return int(text)


def title(terms: SplitTerms) -> str:
    """One line with the terms of the schedule, without its start and sessions."""
    how = f"seed {terms.seed:016x}" if terms.randomize else "evenly"
    return (
        f"{counted(terms.total_quantity, 'share')} in {terms.num_splits} slices over "
        f"{terms.duration_minutes} min, {how}"
    )


def _write_svg(path: Path, terms: SplitTerms, slices: Sequence[Slice]) -> None:
    """Write the picture with the allowed bounds. The same schedule gives the same bytes."""
    with require_extra():
        import matplotlib as mpl  # noqa: PLC0415 - an extra
        from matplotlib.figure import Figure  # noqa: PLC0415 - same
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot()
    stems = axes.stem(*_points(terms, slices), basefmt=" ", label="slices")
    stems.markerline.set_markersize(4)
    even_terms = msgspec.structs.replace(terms, randomize=False)
    even = _points(terms, split(even_terms, CURRENT_SPLITTER_VERSION))
    axes.plot(*even, "o", mfc="none", color="tab:orange", label="even split")
    least, most = terms.quantity_bounds
    axes.axhspan(least, most, color="tab:green", alpha=0.1, label=f"allowed: {least:,} to {most:,}")
    how = f"seed {terms.seed:016x}" if terms.randomize else "evenly"
    axes.set_title(f"{terms.total_quantity:,} shares in {terms.num_splits} slices, {how}")
    of_trading_time = " of trading time" if terms.sessions else ""
    axes.set(xlabel=f"minutes{of_trading_time} after the start", ylabel="shares")
    axes.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    with mpl.rc_context({"svg.hashsalt": "pulse", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None})


def _points(terms: SplitTerms, slices: Sequence[Slice]) -> tuple[list[float], list[int]]:
    """Minutes of trading time after the start, and shares."""
    minutes = [terms.offset_of(s.scheduled_at) / MICROSECONDS_PER_MINUTE for s in slices]
    return minutes, [s.quantity for s in slices]
