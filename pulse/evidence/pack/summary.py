"""The summary page of a pack: HTML without scripts, determined by the pack's other members.

Verification renders it again and compares it, so any change of its text is a new version of the
format.
"""

import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from html import escape
from typing import Final

import msgspec

from pulse.domain import Slice, SliceState
from pulse.evidence.pack.contents import MAX_DRAWN, Contents, Drawn
from pulse.evidence.pack.members import ClockOffset, Export, Selection, selection_text
from pulse.rfc3339 import format_time

MAX_SHOWN_FINDINGS: Final = 100

_UNSEEN: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
"""Characters without a width. Unlike Python's table, this one does not change with Unicode."""
_WIDTH: Final = 720
_HEIGHT: Final = 80
_BAR: Final = 4
_STYLE: Final = """
body{font:15px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse}
th,td{text-align:left;padding:.15rem 1rem .15rem 0;vertical-align:top}
td.n{text-align:right}code{word-break:break-all}svg{background:#f4f4f4;display:block;max-width:100%}
.scheduled{fill:#36c}.released{fill:#283}.cancelled{fill:#c33}.expired{fill:#c80}.bad{color:#b00}
"""


class Clocks:
    """The smallest and largest clock offset, and the numbers of rows and processes."""

    def __init__(self) -> None:
        self.rows = 0
        self.min_offset_seconds = self.max_offset_seconds = 0.0
        self.instances: set[str] = set()

    def add(self, offset: ClockOffset) -> None:
        """Add a row."""
        first = not self.rows
        self.rows += 1
        self.instances.add(offset.instance)
        least, most = offset.min_offset_seconds, offset.max_offset_seconds
        self.min_offset_seconds = least if first else min(least, self.min_offset_seconds)
        self.max_offset_seconds = most if first else max(most, self.max_offset_seconds)


class Signed(msgspec.Struct, frozen=True):
    """The key and size of the checkpoint of a pack, and the sizes of earlier ones."""

    verifier_key: str
    size: int
    anchors: tuple[int, ...]


def render_summary(
    selection: Selection, export: Export, signed: Signed, contents: Contents, clocks: Clocks
) -> bytes:
    """The page."""
    title = f"Evidence: {selection_text(selection)}"
    body = (
        *_facts(selection, export, signed, contents, clocks),
        *_counts("Events", contents.types),
        *_counts("Orders by status", contents.statuses),
        *_counts("Code versions", contents.code_versions),
        *_findings(contents),
        *_schedules(contents.drawn, contents.schedules),
    )
    lines = (
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_text(title)}</h1>",
        *body,
        "</body></html>",
    )
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")


def _facts(
    selection: Selection, export: Export, signed: Signed, contents: Contents, clocks: Clocks
) -> Iterator[str]:
    anchors = ", ".join(f"{size:,}" for size in signed.anchors) or "none"
    recorded = f"{_time(contents.first_recorded_at)} to {_time(contents.last_recorded_at)}"
    offsets = (
        f"{clocks.min_offset_seconds:+.6f} s to {clocks.max_offset_seconds:+.6f} s in "
        f"{clocks.rows:,} rows of {len(clocks.instances):,} processes"
        if clocks.rows
        else "none recorded, or deleted after 30 days"
    )
    yield "<p>This page repeats what the pack's other members say, and proves nothing by itself. "
    yield "<code>pulse verify FILE --key KEY</code> checks the pack and compares this page.</p>"
    yield "<table>"
    yield from (
        f"<tr><th>{name}</th><td>{_text(value)}</td></tr>"
        for name, value in (
            ("Selected", selection_text(selection)),
            ("Events", f"{contents.events:,} of {contents.streams:,} streams"),
            ("Recorded", recorded),
            ("Leaves", f"{selection.first_index:,} to {selection.last_index:,}"),
            ("Orders", f"{contents.orders:,}"),
            ("Schedules", f"{contents.schedules:,} of {contents.slices:,} slices, derived again"),
            ("Findings", f"{contents.faults.total():,}"),
            ("Signed by", signed.verifier_key),
            ("Checkpoint", f"{signed.size:,} entries"),
            ("Earlier checkpoints", anchors),
            ("Clock offsets", offsets),
            ("Exported", f"{format_time(export.exported_at)} by {export.exported_by}"),
            ("Database role", export.database_role),
            ("Exported with", export.code_version),
            ("Content hash", export.content_hash),
        )
    )
    yield "</table>"


def _counts(title: str, counts: Counter[str]) -> Iterator[str]:
    yield f"<h2>{title}</h2><table>"
    for name, count in sorted(counts.items()):
        yield f'<tr><td>{_text(name)}</td><td class="n">{count:,}</td></tr>'
    yield "</table>"


def _findings(contents: Contents) -> Iterator[str]:
    yield "<h2>Findings</h2>"
    if not contents.faults:
        yield "<p>Nothing was found.</p>"
        return
    yield '<table class="bad">'
    for finding in contents.findings[:MAX_SHOWN_FINDINGS]:
        cells = (finding.fault, finding.position, finding.order_id or "")
        yield f"<tr>{''.join(f'<td>{_text(str(cell))}</td>' for cell in cells)}</tr>"
    yield "</table>"
    if (rest := contents.faults.total() - MAX_SHOWN_FINDINGS) > 0:
        yield f"<p>And {rest:,} more: <code>pulse verify FILE</code> lists them.</p>"


def _schedules(drawn: list[Drawn], schedules: int) -> Iterator[str]:
    yield "<h2>Schedules</h2>"
    if schedules > len(drawn):
        yield f"<p>The first {MAX_DRAWN} of {schedules:,}.</p>"
    for one in drawn:
        created = one.created
        config = f"{created.num_splits} slices over {created.duration_minutes} min"
        yield f"<h3>{_text(created.order_unique_key)}</h3>"
        yield (
            f"<p>{created.side} {created.total_quantity:,} {_text(created.instrument)}, {config}, "
            f"placed by {_text(created.placed_by)} at {_time(created.timestamp)}<br>"
            f"<code>{created.originator_id}</code>, seed {_text(created.split_seed)}, splitter "
            f"version {created.splitter_version}</p>"
        )
        yield from _drawing(one.slices, one.states)


def _drawing(slices: tuple[Slice, ...], states: tuple[SliceState, ...]) -> Iterator[str]:
    """A bar for each slice, placed by its time, as high as its quantity, coloured by its state."""
    if not slices:
        return
    start = slices[0].scheduled_at
    seconds = max(1.0, (slices[-1].scheduled_at - start).total_seconds())
    most = max(1, *(s.quantity for s in slices))
    yield f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}">'
    for s, state in zip(slices, states, strict=True):
        x = round((s.scheduled_at - start).total_seconds() / seconds * (_WIDTH - _BAR))
        height = max(1, round(s.quantity * (_HEIGHT - 4) / most)) if s.quantity > 0 else 0
        label = f"{s.sequence_number}: {s.quantity:,} at {format_time(s.scheduled_at)}, {state}"
        yield (
            f'<rect class="{state.lower()}" x="{x}" y="{_HEIGHT - height}" width="{_BAR}" '
            f'height="{height}"><title>{label}</title></rect>'
        )
    yield f"</svg><p>{_time(start)} to {_time(slices[-1].scheduled_at)}</p>"


def _time(at: datetime | None) -> str:
    return "" if at is None else format_time(at)


def _text(text: str) -> str:
    return escape(_UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text))
