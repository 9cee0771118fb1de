"""`pulse migrate`: migrates the schema to this code's revision, and sets up the database roles."""

from typing import Annotated, TypeAlias

import typer

from pulse.cli.exits import CouldNotStart, WrongSettings, run_until_signal
from pulse.cli.terminal import echo, errors, output, progress_on
from pulse.errors import PulseError
from pulse.postgres.roles import RoleNames, StatementsNeeded
from pulse.process.startup import settings_from_environment
from pulse.process.tools import migrate_once
from pulse.wording import counted

_Name: TypeAlias = str | None
_OWNER = "The role that owns Pulse's tables. [default: pulse_owner]"
_RUNTIME = "The role of Pulse's processes. [default: pulse_runtime]"
_READER = "The role that only reads. [default: pulse_reader]"


def migrate(
    *,
    roles: Annotated[
        bool, typer.Option("--roles", help="Also create the three roles and set their rights.")
    ] = False,
    owner: Annotated[_Name, typer.Option(metavar="ROLE", help=_OWNER)] = None,
    runtime: Annotated[_Name, typer.Option(metavar="ROLE", help=_RUNTIME)] = None,
    reader: Annotated[_Name, typer.Option(metavar="ROLE", help=_READER)] = None,
) -> None:
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

    --roles also creates three roles without LOGIN: one that owns the tables, one
    for Pulse's processes that can only append to the log, and one that can only
    read. PUBLIC loses its rights on Pulse's tables and functions. Run it with the
    URL of the tables' owner or of a superuser. If that role may not execute all
    of the statements, nothing is changed, and those that a superuser has to
    execute are printed. Later migrations grant the rights on new tables. A second
    run corrects rights that were changed by hand. The embedded server has the
    roles without --roles.

    Exit codes: 0 the schema is current, 2 wrong usage or settings, 3 Postgres
    cannot be reached or may not be changed, or the schema does not admit this
    code.

    Examples:
      PULSE_DATABASE_URL=postgresql://owner@localhost:5432/pulse pulse migrate
      pulse migrate --roles
      pulse migrate --roles --reader auditors
    """
    given = {"owner": owner, "runtime": runtime, "reader": reader}
    names = {role: name for role, name in given.items() if name is not None}
    settings = settings_from_environment()
    if names and not roles:
        raise WrongSettings("--owner, --runtime and --reader need --roles")
    if names and settings.database_url is None:
        raise WrongSettings("the roles of the embedded server have fixed names: leave them out")
    try:
        with progress_on(errors(), "position") as on_progress:
            migrated = run_until_signal(
                migrate_once(settings, on_progress, with_roles=roles, role_names=names)
            )
    except StatementsNeeded as error:
        for statement in error.statements:
            echo(f"{statement};")
        raise CouldNotStart(str(error)) from error
    except PulseError as error:
        raise CouldNotStart(str(error)) from error
    revision = migrated.revision
    output().print(f"The schema is current: revision {revision.number} ({revision.name}).")
    if roles and migrated.roles is not None:
        output().print(_roles_text(migrated.roles, migrated.role_statements))


def _roles_text(names: RoleNames, statements: int) -> str:
    changed = f"{counted(statements, 'statement')} executed" if statements else "nothing to change"
    return (
        f"The roles are set up: owner {names.owner}, runtime {names.runtime}, "
        f"reader {names.reader} ({changed})."
    )
