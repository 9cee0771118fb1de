"""`pulse rebuild`: rebuilds the order queue from the log."""

import time

import typer

from pulse.cli.exits import FAILURE, run_with_tools
from pulse.cli.terminal import counted, errors, output, progress_on


def rebuild() -> None:
    """Rebuild the order queue from the log.

    Recomputes every order and replaces those that differ, some thousand at a
    time. Orders may be placed and split meanwhile, readers see each order either
    before or after the change, and claims are not touched. Use it when the queue
    may not match the log: after rows were changed by hand, or after fixing code
    that read an event wrongly. Shows progress in positions of the log on standard
    error.

    If other sessions lock the queue's tables, it fails after 4 s and names them
    (pid, application, role, since when).

    Needs Postgres: PULSE_DATABASE_URL, or the embedded one in PULSE_DATA_DIR,
    which is started if it is not running. Ctrl-C leaves each order either
    unchanged or rebuilt.

    Exit codes: 0 rebuilt. 1 rebuilt but orders are parked, or not rebuilt:
    another rebuild runs, a lock blocks it, or newer code wrote the log.
    2 wrong usage or settings. 3 Postgres cannot be reached or its schema is not
    current. 130 stopped by Ctrl-C.

    Example:
      pulse rebuild
    """
    started = time.monotonic()
    with progress_on(errors(), "position") as on_progress:
        rebuilt = run_with_tools(lambda tools: tools.rebuild(on_progress).run())
    seconds = time.monotonic() - started
    parked = counted(rebuilt.parked_orders, "order")
    output().print(
        f"rebuilt from {counted(rebuilt.events, 'event')} in {seconds:.1f} s: "
        f"{counted(rebuilt.replaced, 'order')} differed, {parked} parked"
        + ("; `pulse projections status` says why" if rebuilt.parked_orders else "")
    )
    if rebuilt.parked_orders:
        raise typer.Exit(FAILURE)
