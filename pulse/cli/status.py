"""`pulse status`: the queue, the claims, the projection and the audit, and what needs a person."""

from typing import Annotated, Final

import msgspec
import typer

from pulse.application import Facts, read_facts
from pulse.cli.exits import NOT_WELL, open_tools_or_stop, run_to_end
from pulse.cli.status_text import Audited, Status, machine_form, render
from pulse.cli.terminal import echo, output
from pulse.eventstore import probe_append
from pulse.process.startup import settings_from_environment
from pulse.process.tools import Tools
from pulse.projections.audit import Audit, AuditFinding
from pulse.projections.overview import read_queue_overview
from pulse.settings import Settings

_MAX_AUDIT_SECONDS: Final = 3.0
_MAX_KEPT_FINDINGS: Final = 100


def status(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="The same as one JSON object.")] = False,
) -> None:
    """Show the state of the queue, and what needs a person.

    Orders by state (FAILED ones by reason) with the age of the oldest that waits;
    which worker holds claims, and whether it is present; how far the projection
    has read the log; the audit of the queue against the log: its newest events,
    for up to 3 s, and what processes with workers found in the background. Ages
    are by the database's clock.

    Counting reads every row, a fraction of a second for a million. Where it takes
    longer than 5 s, COMPLETED and FAILED are estimated from a sample, and the
    answer says so.

    Needs the Postgres: PULSE_DATABASE_URL, or the embedded one of PULSE_DATA_DIR,
    which is started if it does not run. Changes nothing.

    Exit codes: 0 healthy. 1 a person is needed; each reason is named with what to
    do: orders wait for 10 s without a worker, or for 60 s with workers; 5 or more
    FAILED in the last 15 min; orders are parked, or missing from the queue; the
    projection is more than 10 s behind; gone workers hold claims older than
    PULSE_TIMEOUT_SECONDS; the log is shorter than what was projected, or its
    sequence is behind it. 2 wrong usage or settings. 3 Postgres cannot be
    reached or its schema is not current.

    Example:
      pulse status
      pulse status --json | python3 -m json.tool
    """
    settings = settings_from_environment()
    found = run_to_end(_look(settings))
    if as_json:
        echo(msgspec.json.encode(machine_form(found)))
    else:
        console = output()
        for line in render(found):
            console.print(line)
    if found.needs:
        raise typer.Exit(NOT_WELL)


async def _look(settings: Settings) -> Status:
    async with open_tools_or_stop(settings) as tools:
        return await _status(tools, settings.timeout_seconds)


async def _status(tools: Tools, timeout_seconds: float) -> Status:
    database = tools.database
    facts = await database.read(lambda connection: read_facts(connection, timeout_seconds))
    return Status(
        append_fault=await database.read(probe_append),
        queue=await read_queue_overview(database),
        facts=facts,
        audited=await _audited(tools.audit, facts),
    )


async def _audited(audit: Audit, facts: Facts) -> Audited:
    """The newest windows compared now, and what the background found, where that is still so."""
    found: dict[AuditFinding, None] = {}
    from_position = facts.lag.position
    async for window in audit.newest_windows(max_seconds=_MAX_AUDIT_SECONDS):
        found |= dict.fromkeys(window.findings)
        from_position = window.after
    if facts.audit is not None and facts.audit.findings:
        kept = await audit.kept_findings(_MAX_KEPT_FINDINGS)
        found |= dict.fromkeys(await audit.confirmed(finding.position for finding in kept))
    findings = tuple(sorted(found, key=lambda finding: finding.position))
    return Audited(from_position=from_position, findings=findings)
