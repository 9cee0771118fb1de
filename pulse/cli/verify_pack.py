"""`pulse verify FILE`: checks an evidence pack, without Postgres, a network or settings."""

import asyncio
import stat
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec
import typer
from rich.text import Text

from pulse.cli.exits import (
    FAILURE,
    NOT_COMPARED,
    NOT_PROVEN_WHOLE,
    SIGNER_NOT_CHECKED,
    SUCCESS,
    run_until_signal,
)
from pulse.cli.finding_text import MAX_PRINTED, print_finding
from pulse.cli.fork_text import fork_text
from pulse.cli.terminal import display_time, echo, errors, output, progress_on
from pulse.errors import PulseError
from pulse.evidence.chain import DeclaredFork
from pulse.evidence.findings import Finding
from pulse.evidence.note import NoteInvalid, VerifierKey
from pulse.evidence.pack.check import PackCheck, PackReport
from pulse.evidence.pack.members import Export, Selection, selection_text
from pulse.process.startup import tune_gc
from pulse.wording import counted

_MAX_ANCHOR_BYTES: Final = 16 * 1024 * 1024
_MAX_SIZES: Final = 5


class PackVerification(msgspec.Struct):
    """The result of the check as JSON. A field is null if the check ended before it was known.

    `signer_checked` is whether the given key signed the pack, or is linked by rotations to the key
    that did. `is_whole` is whether an entry after the period proves that the period has no more
    events; null for an order. `anchors` are the sizes of earlier checkpoints in the pack. `given`
    counts the checkpoints of --anchors, and `compared` those that the pack could be compared with.
    `larger` are the sizes of those that are larger than the pack's tree. `earlier` counts those of
    the log before a fork, which the pack cannot be compared with. `forks` are those that the notes
    of its keys declare.
    """

    selection: Selection | None
    export: Export | None
    content_hash: str | None
    signer: str | None
    signer_checked: bool
    checkpoint_size: int | None
    anchors: tuple[int, ...]
    compared: int
    given: int
    larger: tuple[int, ...]
    earlier: int
    forks: tuple[DeclaredFork, ...]
    is_whole: bool | None
    events: int
    orders: int
    schedules: int
    slices: int
    faults: Counter[str]
    findings: list[Finding]


def pack_named(arguments: Sequence[str]) -> Path | None:
    """The pack file among the arguments; None if they are order ids.

    An argument that is an order's id names no file, unless it is written as a path.
    """
    for argument in arguments:
        try:
            UUID(argument)
        except ValueError:
            path = Path(argument)
            if "/" in argument or path.suffix or _exists(path):
                if len(arguments) > 1:
                    raise typer.BadParameter("give one pack, or orders") from None
                return path
    return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # the name is too long for one
        return False


def verify_pack(file: Path, key: str | None, anchors: Path | None, *, as_json: bool) -> None:
    """Check a pack, print what was found, and exit accordingly.

    Raises:
        PulseError: a file cannot be read.
        typer.BadParameter: the key is no verifier key.
        typer.Exit: something was found, was not checked, or is not proven.
    """
    trusted = _parsed(key) if key is not None else None
    kept = _read(anchors) if anchors is not None else None
    started = time.monotonic()
    tune_gc()
    try:
        _require_regular(file)
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
        seconds = time.monotonic() - started
        for line in _summary(report, seconds, was_given=anchors is not None):
            output().print(line)
    if code := _exit_code(report, was_given=anchors is not None):
        raise typer.Exit(code)


def _exit_code(report: PackReport, *, was_given: bool) -> int:
    if report.found:
        return FAILURE
    if not report.signer_trusted:
        return SIGNER_NOT_CHECKED
    if report.is_whole is False:
        return NOT_PROVEN_WHOLE
    return NOT_COMPARED if was_given and _is_uncompared(report) else SUCCESS


def _is_uncompared(report: PackReport) -> bool:
    return not report.compared or bool(report.larger)


def _parsed(key: str) -> VerifierKey:
    try:
        return VerifierKey.parse(key)
    except NoteInvalid as error:
        raise typer.BadParameter(str(error), param_hint="--key") from None


def _require_regular(file: Path) -> None:
    if not stat.S_ISREG(file.stat().st_mode):
        raise PulseError(f"{file} is not a regular file")


async def _run(check: PackCheck) -> None:
    with progress_on(errors(), "event") as on_progress:
        for part in check.run():
            on_progress(part.events, part.whole)
            await asyncio.sleep(0)  # a signal stops it here


def _read(file: Path) -> bytes:
    try:
        _require_regular(file)
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
        given=report.given,
        larger=report.larger,
        earlier=report.earlier,
        forks=report.forks,
        is_whole=report.is_whole,
        events=contents.events if contents else 0,
        orders=contents.orders if contents else 0,
        schedules=contents.schedules if contents else 0,
        slices=contents.slices if contents else 0,
        faults=faults,
        findings=report.all_findings,
    )


def _summary(report: PackReport, seconds: float, *, was_given: bool) -> Iterator[str | Text]:
    if report.selection is not None:
        yield f"pack: {selection_text(report.selection)}"
    if report.content_hash is not None and not _is_changed(report):
        yield f"content hash: {report.content_hash}"
    if (export := report.export) is not None:
        yield (
            f"exported {display_time(export.exported_at)} by {export.exported_by}, as the database "
            f"role {export.database_role}, with code {export.code_version}: this is not signed"
        )
    if report.signer is not None and report.size is not None:
        earlier = counted(len(report.anchors), "earlier checkpoint")
        yield f"signed by {report.signer}: a tree of {report.size:,} entries, and {earlier}"
    for fork in report.forks:
        yield f"the log was {fork_text(fork)}"
    if was_given and report.size is not None:
        yield from _compared(report, report.size)
    yield _verdict(report, seconds, was_given=was_given)


def _is_changed(report: PackReport) -> bool:
    altered = report.contents.faults["ALTERED"] if report.contents else 0
    return bool(report.findings or altered)


def _compared(report: PackReport, size: int) -> Iterator[str]:
    given = counted(report.given, "given checkpoint")
    others = report.given - report.compared - len(report.larger) - report.earlier
    rest = f": the pack has no hashes for {others:,}" if others > 0 else ""
    yield f"compared with {report.compared:,} of {given}{rest}"
    if report.earlier:
        yield f"of the log before a fork, so not compared: {report.earlier:,}"
    if report.larger:
        sizes = ", ".join(f"{one:,}" for one in sorted(report.larger)[:_MAX_SIZES])
        more = ", ..." if len(report.larger) > _MAX_SIZES else ""
        yield (
            f"larger than the tree of {size:,} entries, so not compared: {sizes}{more}; export the "
            "pack again with --anchors to compare them"
        )


def _verdict(report: PackReport, seconds: float, *, was_given: bool) -> Text:
    line = Text()
    if (contents := report.contents) is not None:
        line.append(
            f"{counted(contents.events, 'event')} of {counted(contents.orders, 'order')} verified "
            f"in {seconds:.1f} s, {counted(contents.schedules, 'schedule')} of "
            f"{counted(contents.slices, 'slice')} derived again: "
        )
    if report.found:
        return line.append(counted(report.found, "finding"), "bold red")
    if not report.signer_trusted:
        line.append("consistent in itself, signer not checked", "yellow").append(": give --key")
    if report.is_whole is False:
        line.append("; " if not report.signer_trusted else "")
        line.append("not proven complete to its end", "yellow")
        return line.append(": no entry after the period was sealed")
    if not report.signer_trusted:
        return line
    if was_given and _is_uncompared(report):
        return line.append("nothing was found, but not fully compared with --anchors", "yellow")
    return line.append("nothing was found", "green")
