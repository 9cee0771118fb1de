"""`pulse evidence`: exports an evidence pack, or lists the exports."""

import errno
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from pulse.application.evidence_packs import EvidencePacks
from pulse.cli.author import this_user
from pulse.cli.exits import FAILURE, run_with_tools
from pulse.cli.terminal import (
    AsJson,
    display_time,
    echo,
    errors,
    order_id_of,
    order_not_found,
    output,
    progress_on,
)
from pulse.code_version import code_version
from pulse.errors import PulseError
from pulse.evidence.exports import RecordedExport
from pulse.evidence.pack.members import Selection, selection_text
from pulse.evidence.pack.writer import OnProgress, PackRequest
from pulse.evidence.pack_export import ExportedPack
from pulse.evidence.verification import NoSuchOrder
from pulse.process.seal import anchor_file
from pulse.process.startup import settings_from_environment, tune_gc
from pulse.process.tools import Tools
from pulse.rfc3339 import parse_time
from pulse.wording import counted

_MIB = 1024 * 1024
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}


def evidence(  # noqa: PLR0913 - one for each way to select
    *,
    file: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="The file to write.")
    ] = None,
    recorded_from: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Recorded at this time or later.")
    ] = None,
    recorded_before: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Recorded earlier than this time.")
    ] = None,
    order_id: Annotated[
        str | None, typer.Option("--order", metavar="ID", help="Only this order.")
    ] = None,
    anchors: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also include all checkpoints of this file."),
    ] = None,
    list_exports: Annotated[bool, typer.Option("--list", help="List the exports instead.")] = False,
    as_json: AsJson = False,
) -> None:
    r"""Export an evidence pack: events that others can check without Pulse.

    The pack is one file, a tar archive. It contains the events as they are
    stored, their entries and proofs in the seal, the signed checkpoint, the
    earliest checkpoint that includes all of the events, the input of each
    schedule, the clock offsets, the verifier keys, and a summary page. Give
    either an order, or a period with --from and --to. A pack of a period also has
    the earlier events of its orders. A pack of one order does not contain the
    data of other orders. Two packs of the same order or period have the same
    content hash, unless an event was added in between.
    `pulse verify FILE --key VKEY` checks a pack.

    A time is RFC 3339 with its offset, such as 2026-01-05T09:15:00+05:30, and is
    compared with the times at which the log recorded its events.

    Only a sealed entry after the period proves that the period has no more
    events. If there is none yet, the output says so, and `pulse verify` exits
    with 5.

    FILE appears when it is complete, and is never overwritten. Only you may read
    it. The database records who exported what, and when: --list shows it.

    Needs Postgres: PULSE_DATABASE_URL, or the embedded one in PULSE_DATA_DIR,
    which is started if it is not running; and a role that may write the record.
    --list needs only SELECT.

    Exit codes: 0 exported, or listed. 1 not exported: see the message; or
    exported, with findings about its events. 2 wrong usage or
    settings. 3 Postgres cannot be reached or its schema is not current. 130
    stopped by Ctrl-C.

    Example:
      pulse evidence --order 9ff54a4d-a8eb-5a4c-a146-a92918cb5546 -o order.tar
      pulse evidence -o day.tar \
        --from 2026-01-05T00:00:00+05:30 --to 2026-01-06T00:00:00+05:30
      pulse evidence --list
    """
    if list_exports:
        given = (file, recorded_from, recorded_before, order_id, anchors)
        if any(one is not None for one in given):
            raise typer.BadParameter(
                "cannot be combined with a selection or a file", param_hint="--list"
            )
        _list(as_json=as_json)
        return
    if file is None:
        raise typer.BadParameter("give the file to write", param_hint="-o")
    if file.name in {"-", ""}:
        raise typer.BadParameter("a pack cannot be written to a pipe: give a file", param_hint="-o")
    request = _request_of(order_id, recorded_from, recorded_before)
    started = time.monotonic()
    settings = settings_from_environment()
    own_anchors = anchor_file(settings).path

    _require_new(file)

    async def export(tools: Tools) -> ExportedPack:
        tune_gc()
        packs = EvidencePacks(tools.database, tools.store, code_version())
        # opened in the task: a signal cancels the task, which removes the file
        with _new_file(file) as draft, _Progress() as on_progress:
            return await packs.export(
                request,
                this_user(),
                draft,
                anchor_file=own_anchors,
                kept_file=anchors,
                on_progress=on_progress,
            )

    try:
        exported = run_with_tools(export, settings)
    except NoSuchOrder:
        raise order_not_found(order_id or "") from None
    _report(exported, file, time.monotonic() - started, as_json=as_json)


def _request_of(
    order_id: str | None, recorded_from: str | None, recorded_before: str | None
) -> PackRequest:
    if order_id is not None:
        if recorded_from is not None or recorded_before is not None:
            raise typer.BadParameter("give either an order or a period", param_hint="--order")
        return PackRequest(order_id=order_id_of(order_id))
    if recorded_from is None or recorded_before is None:
        raise typer.BadParameter("give --order, or both --from and --to")
    start = _time_of(recorded_from, "--from")
    before = _time_of(recorded_before, "--to")
    if start >= before:
        raise typer.BadParameter("must be earlier than --to", param_hint="--from")
    return PackRequest(recorded_from=start, recorded_before=before)


def _time_of(text: str, option: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{error}: expected a time with its offset, such as 2026-01-05T09:15:00+05:30",
            param_hint=option,
        ) from None


def _require_new(file: Path) -> None:
    if file.exists() or file.is_symlink():
        raise PulseError(f"{file} already exists and is not overwritten")


def _rename(draft: Path, file: Path) -> None:
    """Rename the draft to its final name, unless a file with that name exists."""
    try:
        os.link(draft, file)
    except FileExistsError:
        raise PulseError(f"{file} already exists and is not overwritten") from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _require_new(file)
        draft.rename(file)  # a file system without hard links


@contextmanager
def _new_file(file: Path) -> Iterator[Path]:
    """A draft in the same directory. It is renamed when the block ends, and removed if it fails.

    Raises:
        PulseError: the file exists, or cannot be written.
    """
    draft: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(
            prefix=f".{file.name}.", suffix=".part", dir=file.parent
        )
        os.close(descriptor)
        draft = Path(name)
        yield draft
        _rename(draft, file)
        directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise PulseError(f"{file} cannot be written: {error.strerror}") from error
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)


class _Progress:
    """Shows the progress of each phase in turn."""

    def __init__(self) -> None:
        self._noun: str | None = None
        self._stack = ExitStack()
        self._shown: Callable[[int, int], None] = lambda *_: None

    def __enter__(self) -> OnProgress:
        return self._show

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _show(self, noun: str, done: int, whole: int) -> None:
        if noun != self._noun:
            self._stack.close()
            self._noun = noun
            self._shown = self._stack.enter_context(progress_on(errors(), noun))
        self._shown(done, whole)


def _report(exported: ExportedPack, file: Path, seconds: float, *, as_json: bool) -> None:
    selection, export = exported.selection, exported.export
    if as_json:
        echo(msgspec.json.encode(exported))
    else:
        size = file.stat().st_size / _MIB
        output().print(
            f"{file}: {counted(selection.events, 'event')} of {counted(exported.orders, 'order')}, "
            f"{counted(exported.schedules, 'schedule')}, {size:,.1f} MiB in {seconds:.1f} s"
        )
        output().print(f"content hash: {export.content_hash}")
        if exported.is_whole is False:
            output().print(
                "not proven complete to its end: no entry after the period is sealed; export again "
                "when there is one"
            )
    if exported.findings:
        findings = counted(exported.findings, "finding")
        errors().print(f"{findings} about these events: `pulse verify {file}` lists them")
        raise typer.Exit(FAILURE)


def _list(*, as_json: bool) -> None:
    async def read(tools: Tools) -> list[RecordedExport]:
        return await EvidencePacks(tools.database, tools.store, code_version()).recorded()

    exports = run_with_tools(read)
    if as_json:
        echo(msgspec.json.encode({"exports": exports}))
        return
    if not exports:
        output().print("nothing has been exported yet")
    for export in exports:
        output().print(
            f"{display_time(export.exported_at)}  {export.exported_by} as {export.database_role}  "
            f"{_selected(export)}, {counted(export.events, 'event')}"
        )
        output().print(f"  content hash {export.content_hash}, code {export.code_version}")


def _selected(export: RecordedExport) -> str:
    return selection_text(
        Selection(
            order_id=export.order_id,
            recorded_from=export.recorded_from,
            recorded_before=export.recorded_before,
            first_index=export.first_index,
            last_index=export.last_index,
            events=export.events,
            streams=0,
        )
    )
