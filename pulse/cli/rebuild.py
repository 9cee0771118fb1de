"""`pulse rebuild`: the order queue built again from the log."""

import time

import typer

from pulse.cli.exits import NOT_WELL, on_postgres
from pulse.cli.terminal import counted, errors, output, progress_on


def rebuild() -> None:
    """Build the order queue again from the log.

    Computes every order again and replaces those that differ, some thousand at
    a time: orders may be posted and split meanwhile, readers see each order as
    it was or as it must be, and no claim is touched. Use it when the queue may
    not be what the log says: rows altered by hand, or code that read an event
    wrongly and is fixed. Shows progress in positions of the log on standard
    error.

    Where other sessions hold the queue's tables so that nothing can be written,
    it gives up after 4 s, naming them (pid, application, role, since when).

    Needs the Postgres: PULSE_DATABASE_URL, or the embedded one of PULSE_DATA_DIR,
    which is started if it does not run. Ctrl-C leaves each order as it was or
    rebuilt.

    Exit codes: 0 rebuilt. 1 rebuilt but orders are parked, or not rebuilt:
    another one runs, something blocks it, or newer code wrote the log.
    2 wrong usage or settings. 3 Postgres cannot be reached or its schema is not
    current. 130 stopped by Ctrl-C.

    Example:
      pulse rebuild
    """
    started = time.monotonic()
    with progress_on(errors(), "position") as on_progress:
        rebuilt = on_postgres(lambda tools: tools.rebuild(on_progress).run())
    seconds = time.monotonic() - started
    parked = counted(rebuilt.parked_orders, "order")
    output().print(
        f"rebuilt from {counted(rebuilt.events, 'event')} in {seconds:.1f} s: "
        f"{counted(rebuilt.replaced, 'order')} differed, {parked} parked"
        + ("; `pulse projections status` says why" if rebuilt.parked_orders else "")
    )
    if rebuilt.parked_orders:
        raise typer.Exit(NOT_WELL)
