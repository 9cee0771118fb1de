"""`pulse export`: writes the log to a file as NDJSON or CSV; an interrupted export can continue."""

import os
import time
import zlib
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Annotated, Any, Final, Self
from uuid import UUID

import msgspec
import typer

from pulse.application.log_formats import LogFormat
from pulse.application.log_formats import export as formatted
from pulse.application.log_reader import EventQuery, LogRange
from pulse.cli.exits import run_with_tools
from pulse.cli.queries import query_of
from pulse.cli.terminal import errors, output, progress_on
from pulse.errors import PulseError
from pulse.http.api.events import EventParameters, event_query
from pulse.process.tools import Tools
from pulse.wording import counted

_SAVED_BYTES: Final = 4 * 1024 * 1024
"""After this many bytes the progress is saved, so that an interrupted export can continue."""

_GZIP_LEVEL: Final = 6
_GZIP_WINDOW_BITS: Final = 31

_OPTIONS: Final = {
    "order_id": "--order",
    "recorded_from": "--from",
    "recorded_before": "--before",
}

_Text = str | None


class _Progress(msgspec.Struct, frozen=True):
    """The progress of a partial file: its selection, and the position that it has reached."""

    position: int
    size: int
    lines: int
    log_id: UUID
    options: dict[str, Any]


class _Exported(msgspec.Struct, frozen=True):
    """What was written: the number of lines without the header, and the last position."""

    lines: int
    position: int


def export(  # noqa: PLR0913 - one for each filter
    *,
    file: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The file to write.")
    ],
    form: Annotated[
        _Text,
        typer.Option(
            "--format", metavar="FORM", help="ndjson or csv. Default: csv if FILE is a .csv."
        ),
    ] = None,
    slices: Annotated[bool, typer.Option("--slices", help="CSV, one row for each slice.")] = False,
    after: Annotated[
        int, typer.Option(min=0, metavar="POSITION", help="Start after this position.")
    ] = 0,
    event_type: Annotated[
        _Text, typer.Option("--type", metavar="TYPE", help="Only events of this type.")
    ] = None,
    order_id: Annotated[
        _Text, typer.Option("--order", metavar="ID", help="Only this order.")
    ] = None,
    recorded_from: Annotated[
        _Text, typer.Option("--from", metavar="TIME", help="Recorded at this time or later.")
    ] = None,
    recorded_before: Annotated[
        _Text, typer.Option("--before", metavar="TIME", help="Recorded earlier than this time.")
    ] = None,
) -> None:
    """Write the log to a file: every event, or every slice.

    Starts at the beginning of the log, or after --after, and ends where the log
    ends when the command starts. NDJSON has one event a line, the same objects as
    the API; CSV one row for each event; with --slices one row for each slice,
    with its state and times. If the name of FILE ends in .gz it is compressed.
    Shows progress in positions of the log on standard error.

    Writes to FILE.part and renames it when it is complete; without --after an
    existing FILE is replaced. An interrupted export leaves FILE.part and prints
    the position that it reached. To continue, run the same command with --after
    and that position.

    Filters combine. A time is RFC 3339 with its offset, such as
    2026-01-05T09:15:00+05:30, and is compared with the times at which the log
    recorded its events.

    Needs Postgres: PULSE_DATABASE_URL, or the embedded one in PULSE_DATA_DIR,
    which is started if it is not running. Changes nothing there.

    Exit codes: 0 written. 1 not written, or not to its end: see the message.
    2 wrong usage or settings. 3 Postgres cannot be reached or its schema is not
    current. 130 stopped by Ctrl-C; it can be continued.

    Example:
      pulse export -o log.ndjson.gz
      pulse export -o log.ndjson.gz --after 1200000
      pulse export -o slices.csv --slices --from 2026-01-05T00:00:00+05:30
    """
    if form is None and file.name.removesuffix(".gz").endswith(".csv"):
        form = "csv"
    known_form = _form_of(form, slices=slices)
    filters = {
        "after": after,
        "type": event_type,
        "order_id": order_id,
        "recorded_from": recorded_from,
        "recorded_before": recorded_before,
        "rows": "slices" if slices else None,
    }
    query = query_of(filters, _OPTIONS, EventParameters, event_query)
    started = time.monotonic()
    with progress_on(errors(), "position") as on_progress:
        exported = run_with_tools(
            lambda tools: _export(tools, file, known_form, query, on_progress)
        )
    what = counted(exported.lines, "slice" if slices else "event")
    seconds = time.monotonic() - started
    output().print(f"exported {what} up to position {exported.position:,} in {seconds:.1f} s")


def _form_of(form: str | None, *, slices: bool) -> LogFormat:
    if slices and form in {None, "csv"}:
        return "csv-slices"
    if form in {None, "ndjson"} and not slices:
        return "ndjson"
    if form == "csv":
        return "csv"
    raise typer.BadParameter(
        "--slices needs the format csv" if slices else "expected ndjson or csv",
        param_hint="--format",
    )


async def _export(
    tools: Tools,
    file: Path,
    form: LogFormat,
    query: EventQuery,
    on_progress: Callable[[int, int], None],
) -> _Exported:
    wanted = await tools.orders.log_range(query)
    part = _PartialFile.opened(file, form, query, wanted)
    try:
        content = formatted(tools.orders.log, wanted, form, header=not part.continues)
        async with aclosing(content):
            async for chunk in content:
                part.write(chunk.content, chunk.lines, chunk.position)
                on_progress(chunk.position, wanted.until)
        part.finish()
    finally:
        if not part.finished:
            part.interrupt()
    return _Exported(part.lines, wanted.until)


class _PartialFile:
    """The file while it is written, and a second file with its progress.

    The content up to the last save is whole lines, and if compressed, whole members of gzip.
    """

    def __init__(self, file: Path, progress: _Progress, *, continues: bool) -> None:
        self.lines = progress.lines
        self.continues = continues
        self.finished = False
        self._file = file
        self._part = _part_of(file)
        self._saved = progress
        self._position = progress.position
        self._gzip = file.suffix == ".gz"
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        try:
            self._stream = self._part.open("r+b" if continues else "wb")
            self._stream.truncate(progress.size)
            self._stream.seek(progress.size)
        except OSError as error:
            raise _unwritable(self._part, error) from error

    @classmethod
    def opened(cls, file: Path, form: LogFormat, query: EventQuery, wanted: LogRange) -> Self:
        """A new partial file, or the one that an interrupted export with the same options left.

        Raises:
            PulseError: the file cannot be written, or the partial file belongs to another export.
        """
        if file.is_dir():
            raise PulseError(f"{file} is a directory: give a file")
        selected = msgspec.to_builtins(msgspec.structs.replace(query, after=0))
        options = {"form": form, **selected}
        left = _progress_of(file) if query.after else None
        if left is None and query.after and file.exists():
            raise PulseError(
                f"{file} already exists and is complete: choose another file for later events"
            )
        if left is None:
            progress = _Progress(query.after, 0, 0, wanted.log_id, options)
            return cls(file, progress, continues=False)
        remedy = f"delete {_part_of(file)} to begin a new file"
        if left.position != query.after:
            raise PulseError(
                f"{_part_of(file)} has the log up to position {left.position}: continue it with "
                f"--after {left.position}, or {remedy}"
            )
        if left.options != options:
            raise PulseError(
                f"{_part_of(file)} was started with other options: repeat them, or {remedy}"
            )
        if left.log_id != wanted.log_id:
            raise PulseError(f"{_part_of(file)} belongs to another log: {remedy}")
        return cls(file, left, continues=left.size > 0)

    def write(self, content: bytes, lines: int, position: int) -> None:
        """Add lines, up to this position of the log."""
        self._pending.append(content)
        self._pending_bytes += len(content)
        self.lines += lines
        self._position = position
        if self._pending_bytes >= _SAVED_BYTES:
            self._save()

    def finish(self) -> None:
        """Rename the complete file to its final name.

        Raises:
            PulseError: it cannot be written.
        """
        self._save()
        try:
            os.fsync(self._stream.fileno())
            self._stream.close()
            self._part.replace(self._file)
            _progress_file(self._file).unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(self._file, error) from error
        self.finished = True

    def interrupt(self) -> None:
        """Keep what is written, and say how to continue."""
        with suppress(PulseError, OSError):
            self._save()
        with suppress(OSError):
            self._stream.close()
        if self._saved.size:
            errors().print(
                f"{self._part} has the log up to position {self._saved.position}: continue it "
                f"with --after {self._saved.position}"
            )
        else:
            self._part.unlink(missing_ok=True)
            _progress_file(self._file).unlink(missing_ok=True)

    def _save(self) -> None:
        """Write the buffered content, then store the progress."""
        content = b"".join(self._pending)
        if self._gzip and content:
            member = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WINDOW_BITS)
            content = member.compress(content) + member.flush()
        try:
            self._stream.write(content)
            self._stream.flush()
            self._saved = msgspec.structs.replace(
                self._saved,
                position=self._position,
                size=self._stream.tell(),
                lines=self.lines,
            )
            _progress_file(self._file).write_bytes(msgspec.json.encode(self._saved))
        except OSError as error:
            raise _unwritable(self._part, error) from error
        self._pending, self._pending_bytes = [], 0


def _part_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.part")


def _progress_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.part.json")


def _progress_of(file: Path) -> _Progress | None:
    """The progress of the partial file; None if there is none."""
    try:
        if not _part_of(file).is_file():
            return None
        progress = msgspec.json.decode(_progress_file(file).read_bytes(), type=_Progress)
    except (OSError, msgspec.MsgspecError):
        return None
    return progress if _part_of(file).stat().st_size >= progress.size else None


def _unwritable(file: Path, error: OSError) -> PulseError:
    return PulseError(f"{file} cannot be written: {error.strerror}")
