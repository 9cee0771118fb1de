"""`pulse verify`: checks the log, and the order queue against it."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from pulse.cli.exits import FAILURE, run_with_tools
from pulse.cli.finding_text import MAX_PRINTED, print_finding
from pulse.cli.fork_text import fork_text, lost_text
from pulse.cli.terminal import AsJson, echo, errors, order_id_of, output, progress_on
from pulse.cli.verify_pack import pack_named, verify_pack
from pulse.eventstore import BEFORE_LOG
from pulse.eventstore.log_fork import LogFork
from pulse.evidence.findings import Finding
from pulse.evidence.losses import LostEvents
from pulse.evidence.seal_checks import CheckedSeal, EarlierAnchors
from pulse.evidence.verification import Verification, Verified
from pulse.process.seal import trust_of
from pulse.process.startup import settings_from_environment, tune_gc
from pulse.process.tools import Tools
from pulse.wording import counted


class VerificationTotals(msgspec.Struct):
    """What has been verified, up to `position`; `faults` counts the findings by fault.

    `sealed` counts the entries of the seal. `signer` signed them; it is None if the log is not
    sealed. `anchors` is how many anchors the tree was compared with. `earlier_anchors` counts the
    anchors that belong only to the log before a fork. `forks` are the declared ones. `lost` counts
    the sealed events that signed notes declare lost; `sealed` does not count them.
    """

    position: int = 0
    events: int = 0
    orders: int = 0
    schedules: int = 0
    slices: int = 0
    sealed: int = 0
    anchors: int = 0
    earlier_anchors: int = 0
    signer: str | None = None
    forks: tuple[LogFork, ...] = ()
    lost: tuple[LostEvents, ...] = ()
    faults: Counter[str] = msgspec.field(default_factory=Counter)
    findings: list[Finding] = msgspec.field(default_factory=list)


def verify(
    order_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ORDER_ID|FILE", help="Only these orders; or an evidence pack."),
    ] = None,
    *,
    since: Annotated[
        int | None,
        typer.Option(min=0, help="Only events after this position, and their orders."),
    ] = None,
    anchors: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Checkpoints kept elsewhere than the database; default PULSE_ANCHOR_FILE.",
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="VKEY", help="The seal's verifier key; default that of PULSE_SEAL_KEY."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify the log, the seal, and the order queue; or an evidence pack.

    Checks that versions have no gaps and are in the order of the positions; that
    ids belong to their keys; that each event can follow the ones before it and
    has the bytes that Pulse writes; that every schedule is the one derived from
    its order's seed and splitter version; that every row of the queue, of its
    slices, of its pending and due orders and of its history equals, column by
    column, what the log gives; and the position of the projection. Parked orders
    and events of newer code are findings, because they could not be verified.
    Shows progress in positions of the log on standard error.

    Without ORDER_ID it first compares the events with the seal, and the seal
    with the signed checkpoint and with the anchors. If the log is not sealed,
    it cannot detect a history that was replaced as a whole, in the log and in
    the queue, by another valid one. Give --key and --anchors from a place
    that the administrator of the database cannot write. A declared fork
    (`pulse log fork`) is no finding: it is shown, with the number of anchors
    that belong to the log before it.

    Needs Postgres: PULSE_DATABASE_URL, or the embedded one in PULSE_DATA_DIR,
    which is started if it is not running. Changes nothing. Orders may be placed
    meanwhile.

    With the FILE of an evidence pack it needs no Postgres, no network and no
    settings. It checks that the pack is complete and unchanged, checks its
    signature and the proof of each event, and derives every schedule again.
    Without --key it does not know who signed, and exits with 4. If the pack of a
    period has no entry after it, the last events may be missing: exit code 5.
    With --anchors it compares the pack with your own checkpoints, as far as the
    pack has their hashes; exit code 6 if it could compare none, or if one is
    larger than the tree of the pack.

    Exit codes: 0 nothing was found. 1 something was found, or no order has the
    id, or the file cannot be read. 2 wrong usage or settings. 3 Postgres cannot
    be reached or its schema is not current. 4 the pack is consistent in itself,
    but its signer was not checked. 5 the pack is not proven complete to its end.
    6 it was not compared with --anchors. 130 stopped by Ctrl-C.

    Example:
      pulse verify
      pulse verify --anchors /mnt/audit/anchors.txt --since 120000
      pulse verify 9ff54a4d-a8eb-5a4c-a146-a92918cb5546
      pulse verify pack.tar --key "$VERIFIER_KEY"
    """
    if (pack := pack_named(order_ids or [])) is not None:
        if since is not None:
            raise typer.BadParameter("a pack is verified as a whole", param_hint="--since")
        verify_pack(pack, key, anchors, as_json=as_json)
        return
    if order_ids and since is not None:
        raise typer.BadParameter("give either ORDER_ID or --since", param_hint="--since")
    trust, started = trust_of(settings_from_environment(), key, anchors), time.monotonic()
    totals = VerificationTotals()
    report = _Report(totals, as_json=as_json, in_full=bool(order_ids))

    async def verify_parts(tools: Tools) -> None:
        tune_gc()
        after = BEFORE_LOG if since is None else since
        verification = Verification(tools.database, tools.store.mapper, since=after)
        if order_ids:
            await report.orders(verification.orders([order_id_of(text) for text in order_ids]))
        else:
            await report.seal(verification.seal(trust))
            await report.log(verification.whole_log())

    run_with_tools(verify_parts)
    if as_json:
        echo(msgspec.json.encode(totals))
    else:
        if not order_ids:
            for line in _fork_lines(totals, report.earlier):
                output().print(line)
            output().print(_seal_summary(totals, signer_checked=trust.key is not None))
        output().print(_summary(totals, time.monotonic() - started))
    if totals.faults:
        raise typer.Exit(FAILURE)


class _Report:
    """Counts what was verified, shows the progress, and prints each finding when it is found."""

    def __init__(self, totals: VerificationTotals, *, as_json: bool, in_full: bool) -> None:
        self._totals = totals
        self._as_json = as_json
        self._in_full = in_full
        self.earlier = EarlierAnchors()

    async def seal(self, parts: AsyncIterator[CheckedSeal]) -> None:
        with progress_on(errors(), "sealed event") as on_progress:
            async for part in parts:
                self._totals.sealed += part.entries
                self._totals.anchors, self._totals.signer = part.anchors, part.signer
                self._totals.forks, self.earlier = part.forks, part.earlier
                self._totals.lost = part.lost
                self._totals.earlier_anchors = part.earlier.count
                self._print_findings(part.findings)
                if part.whole:
                    on_progress(part.size, part.whole)

    async def log(self, parts: AsyncIterator[Verified]) -> None:
        with progress_on(errors(), "position") as on_progress:
            async for part in parts:
                self._add(part)
                self._totals.position = part.position
                on_progress(part.position, part.end)

    async def orders(self, parts: AsyncIterator[Verified]) -> None:
        async for part in parts:
            self._add(part)
            self._totals.position = part.end

    def _add(self, part: Verified) -> None:
        self._totals.events += part.events
        self._totals.orders += part.orders
        self._totals.schedules += part.schedules
        self._totals.slices += part.slices
        self._print_findings(part.findings)

    def _print_findings(self, findings: Sequence[Finding]) -> None:
        self._totals.faults.update(finding.fault for finding in findings)
        if self._as_json:
            self._totals.findings.extend(findings)
        elif self._totals.faults.total() <= MAX_PRINTED:
            for finding in findings:
                print_finding(finding, in_full=self._in_full)


def _fork_lines(totals: VerificationTotals, earlier: EarlierAnchors) -> Iterator[str]:
    for fork in totals.forks:
        yield f"the log was {fork_text(fork)}"
    for lost in totals.lost:
        yield lost_text(lost)
    if earlier.count:
        belong = "belongs" if earlier.count == 1 else "belong"
        yield (
            f"{counted(earlier.count, 'anchor')}, of up to {counted(earlier.largest, 'event')}, "
            f"{belong} to the log before a fork: this log does not have those events"
        )


def _seal_summary(totals: VerificationTotals, *, signer_checked: bool) -> str:
    if totals.signer is None:
        return "the log is not sealed: a history that was replaced as a whole would not be found"
    signer = totals.signer.partition("+")[0]
    known = "" if signer_checked else " (signer not checked: give --key)"
    return (
        f"{counted(totals.sealed, 'event')} compared with the seal of {signer}{known}, and its "
        f"tree with {counted(totals.anchors, 'anchor')}"
    )


def _summary(totals: VerificationTotals, seconds: float) -> Text:
    verified = (
        f"{counted(totals.events, 'event')} of {counted(totals.orders, 'order')} verified up to "
        f"position {totals.position:,} in {seconds:.1f} s, {counted(totals.schedules, 'schedule')} "
        f"of {counted(totals.slices, 'slice')} derived again: "
    )
    found = totals.faults.total()
    if not found:
        return Text(verified).append("nothing was found", "green")
    by_fault = ", ".join(f"{count:,} {fault}" for fault, count in sorted(totals.faults.items()))
    line = Text(verified).append(f"{counted(found, 'finding')} ({by_fault})", "bold red")
    if found > MAX_PRINTED:
        line.append(f"; the first {MAX_PRINTED:,} are listed above, --json has all")
    return line
