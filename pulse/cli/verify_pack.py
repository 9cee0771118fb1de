"""`pulse verify FILE`: checks an evidence pack, without Postgres, a network or settings."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec
import typer
from rich.text import Text

from pulse.cli.exits import FAILURE, SIGNER_NOT_CHECKED, run_until_signal
from pulse.cli.finding_text import MAX_PRINTED, print_finding
from pulse.cli.terminal import echo, errors, output, progress_on
from pulse.errors import PulseError
from pulse.evidence.findings import Finding
from pulse.evidence.note import VerifierKey
from pulse.evidence.pack.check import PackCheck, PackReport
from pulse.evidence.pack.members import Export, Selection, period_text
from pulse.process.startup import tune_gc
from pulse.rfc3339 import format_time
from pulse.wording import counted

_MAX_ANCHOR_BYTES: Final = 16 * 1024 * 1024


class PackVerification(msgspec.Struct):
    """The result of the check as JSON; fields are null as far as it did not get.

    `signer_checked` is whether a key was given that signed, or that is in a chain of rotations with
    the one that signed. `anchors` are the sizes of earlier checkpoints in the pack, `compared`
    counts those of --anchors that it could be compared with.
    """

    selection: Selection | None
    export: Export | None
    content_hash: str | None
    signer: str | None
    signer_checked: bool
    checkpoint_size: int | None
    anchors: tuple[int, ...]
    compared: int
    events: int
    orders: int
    schedules: int
    slices: int
    faults: Counter[str]
    findings: list[Finding]


def pack_named(arguments: Sequence[str]) -> Path | None:
    """The file that is named instead of orders, None if there is none.

    An argument that is an order's id names no file, unless it is written as a path.
    """
    for argument in arguments:
        try:
            UUID(argument)
        except ValueError:
            path = Path(argument)
            if "/" in argument or path.suffix or path.exists():
                if len(arguments) > 1:
                    raise typer.BadParameter("give one pack, or orders") from None
                return path
    return None


def verify_pack(file: Path, key: str | None, anchors: Path | None, *, as_json: bool) -> None:
    """Check a pack, print what was found, and exit accordingly.

    Raises:
        PulseError: a file cannot be read.
        NoteInvalid: the key is no verifier key.
        typer.Exit: something was found, or the signer was not checked.
    """
    trusted = VerifierKey.parse(key) if key is not None else None
    kept = _read(anchors) if anchors is not None else None
    started = time.monotonic()
    tune_gc()
    try:
        with file.open("rb") as opened:
            check = PackCheck(opened, trusted, kept)
            run_until_signal(_run(check))
    except OSError as error:
        raise PulseError(f"{file} cannot be read: {error.strerror}") from error
    report = check.report
    if as_json:
        echo(msgspec.json.encode(_as_json(report)))
    else:
        for finding in report.all_findings[:MAX_PRINTED]:
            print_finding(finding, in_full=False)
        for line in _summary(report, time.monotonic() - started):
            output().print(line)
    if report.found:
        raise typer.Exit(FAILURE)
    if trusted is None:
        raise typer.Exit(SIGNER_NOT_CHECKED)


async def _run(check: PackCheck) -> None:
    with progress_on(errors(), "event") as on_progress:
        for part in check.run():
            on_progress(part.events, part.whole)
            await asyncio.sleep(0)  # a signal stops it here


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_ANCHOR_BYTES + 1)
    except OSError as error:
        raise PulseError(f"{file} cannot be read: {error.strerror}") from error
    if len(content) > _MAX_ANCHOR_BYTES:
        raise PulseError(
            f"{file} is too large: give the checkpoints that you kept, not all anchors"
        )
    return content


def _as_json(report: PackReport) -> PackVerification:
    contents = report.contents
    faults: Counter[str] = Counter(finding.fault for finding in report.findings)
    if contents is not None:
        faults += contents.faults
    return PackVerification(
        selection=report.selection,
        export=report.export,
        content_hash=report.content_hash,
        signer=report.signer,
        signer_checked=bool(report.signer_trusted),
        checkpoint_size=report.size,
        anchors=report.anchors,
        compared=report.compared,
        events=contents.events if contents else 0,
        orders=contents.orders if contents else 0,
        schedules=contents.schedules if contents else 0,
        slices=contents.slices if contents else 0,
        faults=faults,
        findings=report.all_findings,
    )


def _summary(report: PackReport, seconds: float) -> Iterator[str | Text]:
    if report.selection is not None:
        yield f"pack: {period_text(report.selection)}"
    if report.content_hash is not None:
        yield f"content hash: {report.content_hash}"
    if (export := report.export) is not None:
        yield (
            f"exported {format_time(export.exported_at)} by {export.exported_by}, as the database "
            f"role {export.database_role}, with code {export.code_version}"
        )
    if report.signer is not None and report.size is not None:
        earlier = counted(len(report.anchors), "earlier checkpoint")
        yield f"signed by {report.signer}: a tree of {report.size:,} entries, and {earlier}"
    if report.given:
        yield (
            f"compared with {report.compared:,} of {counted(report.given, 'given checkpoint')}: "
            "the pack has no hashes for others"
        )
    yield from _verdict(report, seconds)


def _verdict(report: PackReport, seconds: float) -> Iterator[Text]:
    line = Text()
    if (contents := report.contents) is not None:
        line.append(
            f"{counted(contents.events, 'event')} of {counted(contents.orders, 'order')} verified "
            f"in {seconds:.1f} s, {counted(contents.schedules, 'schedule')} of "
            f"{counted(contents.slices, 'slice')} derived again: "
        )
    if report.found:
        yield line.append(counted(report.found, "finding"), "bold red")
    elif report.signer_trusted:
        yield line.append("nothing was found", "green")
    else:
        yield line.append("consistent in itself, signer not checked", "yellow").append(
            ": give --key"
        )
