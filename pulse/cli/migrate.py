"""`pulse migrate`: migrates the schema to this code's revision."""

from pulse.cli.exits import CouldNotStart, run_until_signal
from pulse.cli.terminal import errors, output, progress_on
from pulse.errors import PulseError
from pulse.process.startup import settings_from_environment
from pulse.process.tools import migrate_once


def migrate() -> None:
    """Migrate the schema to the revision that this code needs.

    Needs Postgres 15 or newer and the right to change its schema. If
    PULSE_MIGRATE is true (the default) every process migrates when it starts;
    if it is false, run this once before new code starts. Concurrent runs are
    safe, and a second run changes nothing. A newer schema that admits this code
    is left unchanged; one that does not, or an unknown one, is refused. Tables of
    other applications, such as their alembic_version, are not touched.

    A revision that changes the tables of the order queue rebuilds the queue from
    the log: about a minute per million events, with progress in positions of the
    log on standard error. Stop the processes of the old release first. If it is
    interrupted, the next run or the next start of a process continues it.

    Exit codes: 0 the schema is current, 2 wrong usage or settings, 3 Postgres
    cannot be reached or may not be changed, or the schema does not admit this
    code.

    Example:
      PULSE_DATABASE_URL=postgresql://pulse@localhost:5432/pulse pulse migrate
    """
    try:
        with progress_on(errors(), "position") as on_progress:
            revision = run_until_signal(migrate_once(settings_from_environment(), on_progress))
    except PulseError as error:
        raise CouldNotStart(str(error)) from error
    output().print(f"The schema is current: revision {revision.number} ({revision.name}).")
