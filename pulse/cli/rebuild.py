"""`pulse rebuild`: rebuilds the order queue from the log."""

import time
from typing import Annotated, Final

import typer

from pulse.cli.exits import FAILURE, run_with_tools
from pulse.cli.terminal import errors, output, progress_on
from pulse.errors import PulseError
from pulse.evidence.findings import Finding
from pulse.evidence.verification import Verification
from pulse.process.seal import trust_of
from pulse.process.startup import settings_from_environment
from pulse.process.tools import Tools
from pulse.projections.rebuild import OnProgress, Rebuilt
from pulse.wording import counted

_MAX_NAMED: Final = 3


def rebuild(
    *,
    unverified: Annotated[
        bool,
        typer.Option("--unverified", help="Rebuild even from a log that does not verify."),
    ] = False,
) -> None:
    """Rebuild the order queue from the log.

    Recomputes every order and replaces those that differ, a few thousand at a
    time. Orders may be placed and split meanwhile, readers see each order either
    before or after the change, and claims are not touched. Use it when the queue
    may not match the log: after rows were changed by hand, or after fixing code
    that read an event wrongly. Shows progress in positions of the log on standard
    error.

    First it verifies the log, as `pulse verify` does, and refuses to rebuild from
    a log that was altered: the queue may be the better copy. With --unverified it
    does not verify.

    If other sessions lock the queue's tables, it fails after 4 s and names them
    (pid, application, role, since when).

    Needs Postgres: PULSE_DATABASE_URL, or the embedded one in PULSE_DATA_DIR,
    which is started if it is not running. Ctrl-C leaves each order either
    unchanged or rebuilt.

    Exit codes: 0 rebuilt. 1 rebuilt but orders are parked, or not rebuilt: the
    log does not verify, another rebuild runs, a lock blocks it, or newer code
    wrote the log. 2 wrong usage or settings. 3 Postgres cannot be reached or its
    schema is not current. 130 stopped by Ctrl-C.

    Example:
      pulse rebuild
    """
    started = time.monotonic()

    async def verified_and_rebuilt(tools: Tools) -> Rebuilt:
        if not unverified:
            with progress_on(errors(), "verified to position") as on_verified:
                await _require_verified(tools, on_verified)
        with progress_on(errors(), "position") as on_progress:
            return await tools.rebuild(on_progress).run()

    rebuilt = run_with_tools(verified_and_rebuilt)
    seconds = time.monotonic() - started
    parked = counted(rebuilt.parked_orders, "order")
    output().print(
        f"rebuilt from {counted(rebuilt.events, 'event')} in {seconds:.1f} s: "
        f"{counted(rebuilt.replaced, 'order')} differed, {parked} parked"
        + ("; `pulse projections status` says why" if rebuilt.parked_orders else "")
    )
    if rebuilt.parked_orders:
        raise typer.Exit(FAILURE)


class LogDoesNotVerify(PulseError):
    """The log was altered, so the queue is not rebuilt from it."""


async def _require_verified(tools: Tools, on_progress: OnProgress) -> None:
    """Verify the log. Events of newer code are no finding here: the rebuild itself refuses them.

    Raises:
        LogDoesNotVerify: it was altered.
    """
    findings: list[Finding] = []
    verification = Verification(tools.database, tools.store.mapper, with_queue=False)
    async for checked in verification.seal(trust_of(settings_from_environment())):
        findings += checked.findings
    async for part in verification.whole_log():
        findings += (finding for finding in part.findings if finding.fault != "NEWER_CODE")
        on_progress(part.position, part.end)
    if findings:
        named = ", ".join(map(_named, findings[:_MAX_NAMED]))
        more = ", ..." if len(findings) > _MAX_NAMED else ""
        raise LogDoesNotVerify(
            f"the log does not verify: {counted(len(findings), 'finding')} ({named}{more}), so the "
            "queue was not rebuilt. `pulse verify` lists them; restore the log from a backup, or "
            "rebuild with --unverified"
        )


def _named(finding: Finding) -> str:
    """The fault and its position, if it has one."""
    return finding.fault if finding.position is None else f"{finding.fault} at {finding.position}"
