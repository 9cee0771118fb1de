"""`pulse migrate`: bring the schema to this code's revision."""

from pulse.cli.exits import CouldNotStart, run_to_end
from pulse.cli.terminal import errors, output, progress_on
from pulse.errors import PulseError
from pulse.process.startup import settings_from_environment
from pulse.process.tools import migrate_once


def migrate() -> None:
    """Bring the schema up to what this code needs.

    Needs a Postgres 15 or newer and the right to change its schema. Where
    PULSE_MIGRATE is true (the default) every process does this at its start; with
    it false, run this once before new code starts. Two at once are safe, and a
    second run finds nothing to do. A newer schema that admits this code is left
    as it is; one that does not, or an unknown one, is named and refused. What
    other applications keep in the database, an alembic_version table of theirs
    included, is neither read nor changed.

    A revision that changes the tables of the order queue has it made from the
    log again: about a minute for each million events, with progress in positions
    of the log on standard error. Stop the processes of the former release first.
    Interrupted, it goes on where it was when it is run again, or when a process
    starts.

    Exit codes: 0 the schema is current, 2 wrong usage or settings, 3 Postgres
    cannot be reached or may not be changed, or the schema does not admit this
    code.

    Example:
      PULSE_DATABASE_URL=postgresql://pulse@localhost:5432/pulse pulse migrate
    """
    try:
        with progress_on(errors(), "position") as on_progress:
            revision = run_to_end(migrate_once(settings_from_environment(), on_progress))
    except PulseError as error:
        raise CouldNotStart(str(error)) from error
    output().print(f"The schema is current: revision {revision.number} ({revision.name}).")
