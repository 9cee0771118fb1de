"""`pulse migrate`: migrates the schema, shows what it would do, sets up the database roles."""

from collections.abc import Iterable, Mapping
from typing import Annotated, TypeAlias

import typer

from pulse.cli.exits import (
    ONLY_AFTER_PENDING,
    REVISIONS_PENDING,
    SCHEMA_NEWER,
    CouldNotStart,
    WrongSettings,
    run_until_signal,
)
from pulse.cli.terminal import echo, errors, output, progress_on
from pulse.errors import PulseError
from pulse.postgres.revision import Revision
from pulse.postgres.roles import RoleNames, StatementsNeeded
from pulse.process.startup import settings_from_environment
from pulse.process.tools import migrate_once, migration_script, read_schema_state
from pulse.settings import Settings
from pulse.wording import counted

_Name: TypeAlias = str | None
_AFTER = "Run `pulse migrate --after` once all processes of older releases are stopped:"
_OWNER = "The role that owns Pulse's tables. [default: pulse_owner]"
_RUNTIME = "The role of Pulse's processes. [default: pulse_runtime]"
_READER = "The role that only reads. [default: pulse_reader]"


def migrate(  # noqa: PLR0913 - one for each thing to do and each role
    *,
    after: Annotated[
        bool,
        typer.Option("--after", help="Also apply revisions that need all old processes stopped."),
    ] = False,
    sql: Annotated[
        bool,
        typer.Option("--sql", help="Print the migration as a script for psql; change nothing."),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Show by the exit code which revisions are pending; change nothing."
        ),
    ] = False,
    roles: Annotated[
        bool, typer.Option("--roles", help="Also create the three roles and set their rights.")
    ] = False,
    owner: Annotated[_Name, typer.Option(metavar="ROLE", help=_OWNER)] = None,
    runtime: Annotated[_Name, typer.Option(metavar="ROLE", help=_RUNTIME)] = None,
    reader: Annotated[_Name, typer.Option(metavar="ROLE", help=_READER)] = None,
) -> None:
    """Migrate the schema to the revision that this code needs.

    Run it before processes of a new release start. Those of the previous release
    keep running if it is 0.2.0 or newer. If PULSE_MIGRATE is true (the default)
    processes also do it when they start. Revisions that remove what the new
    release no longer uses are not applied: run it again with --after once all old
    processes are stopped. While an old process still uses the database, the
    command names it and does not apply the revision. Needs Postgres 15 or newer
    and the right to change its schema. Concurrent runs are safe, and a second run
    changes nothing.

    Each revision is one transaction, except that a large index is built before
    it, without locking the table, for as long as that takes. A revision waits
    half a second for a locked table and tries again after a pause, so that this
    wait never delays orders by more than half a second. After a minute the
    command names the sessions that hold the locks and ends; run it again.

    --sql prints the migration as a script, with the rows that record it. Run it
    with psql, not in a single transaction. --check needs only the right to read.

    Migrating from a revision before 8 rebuilds the order queue from the log:
    about a minute per million events, with progress in positions of the log on
    standard error. Stop the processes of the old release first. If it is
    interrupted, the next run or the next start of a process continues it.

    --roles also creates three roles without LOGIN: one that owns the tables, one
    for Pulse's processes that can only append to the log, and one that can only
    read. PUBLIC loses its rights on Pulse's tables and functions. Run it with the
    URL of the tables' owner or of a superuser. If that role may not execute all
    of the statements, nothing is changed, and those that a superuser has to
    execute are printed. Later migrations grant the rights on new tables. A second
    run corrects rights that were changed by hand. The embedded server has the
    roles without --roles.

    Exit codes: 0 the schema is current, or the script is printed. 2 wrong usage
    or settings. 3 Postgres cannot be reached or may not be changed, a table stays
    locked, older processes run, or the schema is unknown or not compatible with
    this code. With --check: 7 revisions are pending that this code needs, 8 only
    revisions of --after are pending, 9 the database has newer revisions, which
    are compatible with this code.

    Examples:
      pulse migrate --check
      pulse migrate --sql > migration.sql
      PULSE_DATABASE_URL=postgresql://owner@localhost:5432/pulse pulse migrate
      pulse migrate --roles
      pulse migrate --roles --reader auditors
    """
    given = {"owner": owner, "runtime": runtime, "reader": reader}
    names = {role: name for role, name in given.items() if name is not None}
    settings = settings_from_environment()
    if names and not roles:
        raise WrongSettings("--owner, --runtime and --reader need --roles")
    if check + sql > 1 or (check and after) or (roles and (check or sql)):
        raise WrongSettings(
            "--check cannot be combined with other options, and --sql only with --after"
        )
    if names and settings.database_url is None:
        raise WrongSettings("the roles of the embedded server have fixed names: leave them out")
    if check:
        _check(settings)
    elif sql:
        _print_script(settings, after=after)
    else:
        _migrate(settings, after=after, with_roles=roles, role_names=names)


def _migrate(
    settings: Settings, *, after: bool, with_roles: bool, role_names: Mapping[str, str]
) -> None:
    try:
        with progress_on(errors(), "position") as on_progress:
            migrated = run_until_signal(
                migrate_once(
                    settings, on_progress, after=after, with_roles=with_roles, role_names=role_names
                )
            )
    except StatementsNeeded as error:
        for statement in error.statements:
            echo(f"{statement};")
        raise CouldNotStart(str(error)) from error
    except PulseError as error:
        raise CouldNotStart(str(error)) from error
    output().print(f"The schema is current: {migrated.revision}.")
    if migrated.pending:
        output().print(_AFTER)
        _print_revisions(migrated.pending)
    if with_roles and migrated.roles is not None:
        output().print(_roles_text(migrated.roles, migrated.role_statements))


def _check(settings: Settings) -> None:
    """Compare the database's revisions with this code's, and exit with the matching code."""
    try:
        state = run_until_signal(read_schema_state(settings))
    except PulseError as error:
        raise CouldNotStart(str(error)) from error
    if state.refusal is not None:
        raise CouldNotStart(state.refusal)
    if any(revision.phase == "before" for revision in state.pending):
        output().print("Revisions are pending: run `pulse migrate` before this release starts.")
        _print_revisions(state.pending)
        raise typer.Exit(REVISIONS_PENDING)
    if state.pending:
        output().print(_AFTER)
        _print_revisions(state.pending)
        raise typer.Exit(ONLY_AFTER_PENDING)
    if state.newer:
        output().print("The database has newer revisions, which are compatible with this code:")
        for revision in state.newer:
            output().print(f"  {revision}")
        raise typer.Exit(SCHEMA_NEWER)
    output().print(f"The schema is current: {state.applied[-1]}.")


def _print_revisions(revisions: Iterable[Revision]) -> None:
    for revision in revisions:
        output().print(f"  {revision}, {revision.phase} the processes are replaced")


def _print_script(settings: Settings, *, after: bool) -> None:
    try:
        script = run_until_signal(migration_script(settings, after=after))
    except PulseError as error:
        raise CouldNotStart(str(error)) from error
    echo(script or "-- The schema is current: nothing to do.")


def _roles_text(names: RoleNames, statements: int) -> str:
    changed = f"{counted(statements, 'statement')} executed" if statements else "nothing to change"
    return (
        f"The roles are set up: owner {names.owner}, runtime {names.runtime}, "
        f"reader {names.reader} ({changed})."
    )
