"""`pulse log`: shows the identity of the log, and forks a log that was restored."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from pulse.cli.author import this_user
from pulse.cli.exits import FAILURE, NOT_ANCHORED, run_with_tools
from pulse.cli.fork_text import fork_text, lost_text
from pulse.cli.terminal import AsJson, display_time, echo, errors, group, output
from pulse.errors import PulseError
from pulse.eventstore.log_fork import LogFork, LogIdentity, read_forks, read_identity
from pulse.evidence.anchors import AnchorUnusable
from pulse.evidence.key_file import read_key_file
from pulse.evidence.log_fork import (
    Forked,
    ForkNotAnchored,
    ForkPlan,
    ForkRefused,
    LogForker,
    processes_text,
    require_reason,
)
from pulse.evidence.losses import LostEvents, count_lost, declared_losses
from pulse.evidence.state import read_keys
from pulse.logs import report_fatal_error
from pulse.postgres import Connection, DatabaseUnavailable
from pulse.printable import printable
from pulse.process.seal import anchor_file, seal_key_file
from pulse.process.startup import settings_from_environment
from pulse.process.tools import Tools
from pulse.settings import Settings
from pulse.wording import counted


def show(*, as_json: AsJson = False) -> None:
    """Show the identity of the log, and its declared forks.

    A reader of the log stores the identity `log_id` together with its position.
    `pulse log fork` changes it. A reader that receives another `log_id` must
    stop.

    Needs Postgres: PULSE_DATABASE_URL, or the embedded one in PULSE_DATA_DIR,
    which is started if it is not running. Changes nothing.

    Exit codes: 0 success. 1 the seal is damaged. 2 wrong usage or settings.
    3 Postgres cannot be reached or its schema is not current.

    Example:
      pulse log show
    """

    async def read(
        connection: Connection,
    ) -> tuple[LogIdentity, list[LogFork], tuple[LostEvents, ...]]:
        losses = declared_losses(await read_keys(connection))
        return (
            await read_identity(connection),
            await read_forks(connection),
            await count_lost(connection, losses),
        )

    identity, forks, lost = run_with_tools(lambda tools: tools.database.read(read))
    if as_json:
        shown = {**msgspec.structs.asdict(identity), "forks": forks, "lost": lost}
        echo(msgspec.json.encode(shown))
        return
    output().print(f"log_id {identity.log_id}, since {display_time(identity.made_at)}")
    for fork in forks:
        output().print(fork_text(fork))
    for loss in lost:
        output().print(lost_text(loss))


def fork(
    *,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why, in one line of at most 255 characters.")
    ],
    anchors: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Checkpoints of the earlier log; default PULSE_ANCHOR_FILE."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: AsJson = False,
) -> None:
    """Declare that the log was restored to an earlier point and continues there.

    Run it once after every restore of the database that may have lost events,
    before any process of Pulse starts. Positions after the restored point are
    assigned to other events from then on. So the command gives the log a new
    identity, `log_id`: every reader that knows the old one stops (executors,
    `pulse export`, readers of pages and streams).

    If the log is sealed, the key of PULSE_SEAL_KEY signs from then on under an
    origin of this fork, `<origin>/fork-<start of the new log_id>`, because one
    origin must not have two different trees. The note that introduces it is
    signed under both origins, and declares the fork: where, when, by whom, why,
    and how many sealed events may be lost. It is stored, appended to the
    anchors, and printed. Processes need no other settings: they seal again with
    the same key file. `pulse verify` reports the fork, and counts later anchors
    of the earlier log separately; all other anchors must still match.

    First it shows what it will do. It compares the tree of the seal with the
    largest anchor that the tree includes, so give all anchors that were kept.
    It also compares the last sealed event with the log. It refuses if the tree
    contradicts that anchor, and while processes of Pulse have sessions on the
    database. It does not compare the other events with the seal: run
    `pulse verify` afterwards.

    Needs Postgres: PULSE_DATABASE_URL of a member of the tables' owner, as for
    `pulse migrate`, or the embedded server. If the log is sealed, the key file.

    Exit codes: 0 forked. 1 not forked; if the connection was lost or the command
    was interrupted, `pulse log show` says whether it was. 2 wrong usage or
    settings. 3 Postgres cannot be reached or its schema is not current. 10
    forked, but the note was not appended to the anchors: do not fork again.

    Example:
      pulse log fork --reason "restored to 09:41 after a lost disk"
      pulse log fork --reason "failover without a synchronous replica" --yes
    """
    require_reason(reason)
    settings = settings_from_environment()

    async def planned(tools: Tools) -> ForkPlan:
        return await _forker(tools, settings, anchors).plan()

    plan = run_with_tools(planned, settings, as_owner=True)
    if not as_json or not yes:
        shown = errors() if as_json else output()
        for line in _plan_lines(plan):
            shown.print(line)
    if plan.processes:
        raise ForkRefused(
            f"Pulse is running on this database: {processes_text(plan.processes)}; stop these "
            "processes, then run this again"
        )
    if not yes and not _confirmed(on_stderr=as_json):
        raise typer.Exit(FAILURE)

    async def carried_out(tools: Tools) -> Forked:
        forker = _forker(tools, settings, anchors)
        return await forker.fork(plan, forked_by=this_user().placed_by, reason=reason)

    try:
        _print_forked(run_with_tools(carried_out, settings, as_owner=True), as_json=as_json)
    except ForkNotAnchored as error:
        _print_forked(error.forked, as_json=as_json)
        report_fatal_error(printable(str(error)))
        raise typer.Exit(NOT_ANCHORED) from error
    except DatabaseUnavailable as error:
        raise PulseError(
            f"Postgres is unavailable: {error}; `pulse log show` says whether the log was forked"
        ) from error


def _print_forked(forked: Forked, *, as_json: bool) -> None:
    if as_json:
        echo(msgspec.json.encode(forked))
        return
    output().print(f"forked: the log_id is {forked.fork.new_log_id}")
    for line in (forked.note or "").splitlines():
        output().print(line)


def _forker(tools: Tools, settings: Settings, known: Path | None) -> LogForker:
    """The LogForker with the key and the anchors of the settings.

    Raises:
        AnchorUnusable: the given file does not exist.
    """
    key_file, own = seal_key_file(settings), anchor_file(settings)
    if known is not None and not known.exists():
        raise AnchorUnusable(f"{known} does not exist")
    key = None if key_file is None else read_key_file(key_file)
    return LogForker(tools.database, key, known=known or own.path, anchors=own)


def _confirmed(*, on_stderr: bool) -> bool:
    if not sys.stdin.isatty():
        errors().print("nothing was changed: confirm with --yes")
        return False
    return typer.confirm("Fork the log?", default=False, err=on_stderr)


def _plan_lines(plan: ForkPlan) -> Iterator[str]:
    yield f"log_id: {plan.log_id}, which will be replaced"
    yield f"the log ends at position {plan.position:,}: later positions will be assigned again"
    if plan.origin is None or plan.size is None:
        yield "the log is not sealed: the fork is recorded in the database alone"
        return
    yield f"sealed by {plan.origin}: {counted(plan.size, 'event')}"
    lost = plan.lost_sealed_events
    if lost is None:
        yield "no checkpoint of this log is in the anchors, so it is not known what was lost"
    elif lost:
        yield (
            f"the largest known checkpoint has {counted(plan.known_size or 0, 'event')}: "
            f"up to {lost:,} of them are lost"
        )
    else:
        yield "no known checkpoint is later than the restored point"
    if plan.missing_sealed:
        yield (
            f"the log lacks the last {counted(plan.missing_sealed, 'event')} that the seal has: "
            "the note will declare them lost"
        )
    elif plan.lacks_sealed:
        yield "the last sealed event is not in the log as it was sealed"


log = group(
    "log",
    "Show the identity of the log, and fork a log that was restored to an earlier point.",
    "Exit codes: 0 success, 1 failure, 2 wrong usage or settings, 3 Postgres cannot be reached.",
    (show, fork),
)
