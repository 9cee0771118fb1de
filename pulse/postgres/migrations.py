"""Schema changes, kept by Alembic: each room brings its revisions to one line of history."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Final

import psycopg
import structlog
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, pool, text
from sqlalchemy.exc import DBAPIError

from pulse.errors import PulseError
from pulse.postgres.limits import Limits
from pulse.postgres.session import connect_blocking

_log = structlog.get_logger(__name__)

MIGRATION_LOCK: Final = 0x50554C53_45000001
"""The advisory lock that lets one process migrate at a time; others wait and find it done."""


class SchemaNotCurrent(PulseError):
    """The database's schema is not the one this code needs."""


class MigrationUnderWay(PulseError):
    """Another process brings the schema up at this moment."""


class Migrations:
    """The schema's history over the rooms that own tables. Blocking: call it in a thread."""

    def __init__(self, packages: Sequence[str]) -> None:
        locations = [str(files(package).joinpath("migrations", "versions")) for package in packages]
        self._config = Config()
        self._config.set_main_option("script_location", str(files("pulse.postgres") / "alembic"))
        self._config.set_main_option("path_separator", "newline")
        self._config.set_main_option("version_locations", "\n".join(locations))
        head = ScriptDirectory.from_config(self._config).get_current_head()
        if head is None:
            raise SchemaNotCurrent("this code has no schema revisions: is the installation whole?")
        self.head = head

    def migrate(self, conninfo: str, limits: Limits) -> None:
        """Bring the schema to this code's revision. Any number at once are safe.

        Never waits for another who migrates: come again, until it is done. Where nothing is to do
        nobody is in anybody's way, so that processes may start together.

        A schema newer than this code is left as it is, so that rolling deploys are safe.

        Raises:
            psycopg.OperationalError: Postgres is away.
            SessionUnfit: this server, database or session is not what Pulse needs.
            MigrationUnderWay: another process is at it.
        """
        with connect_blocking(conninfo, "migrate", limits) as connection:
            if self.fault(_current_revision(connection)) is None:
                return
            row = connection.execute(
                "SELECT pg_try_advisory_lock(%s)", (MIGRATION_LOCK,)
            ).fetchone()
            if row is None or not row[0]:
                raise MigrationUnderWay("another process is migrating this database")
            current = _current_revision(connection)
            if self.fault(current) is None:  # done since by the one who had the lock
                return
            _log.info("schema.migrating", current=current, target=self.head)
            self._upgrade(conninfo, limits)

    def current(self, conninfo: str, limits: Limits) -> str | None:
        """The revision the database is at, None for none.

        Raises:
            psycopg.OperationalError: Postgres is away.
            SessionUnfit: this server, database or session is not what Pulse needs.
        """
        with connect_blocking(conninfo, "migrate", limits) as connection:
            return _current_revision(connection)

    def fault(self, current: str | None) -> str | None:
        """Why this revision will not do, or None if it will."""
        if current == self.head or self._is_newer(current):
            return None
        return f"the schema is at {current or 'nothing'}, this code needs {self.head}: migrate"

    def _is_newer(self, revision: str | None) -> bool:
        known = {script.revision for script in self._scripts().walk_revisions()}
        return revision is not None and revision not in known

    def _scripts(self) -> ScriptDirectory:
        return ScriptDirectory.from_config(self._config)

    def _upgrade(self, conninfo: str, limits: Limits) -> None:
        engine = create_engine(
            "postgresql+psycopg://",
            creator=lambda: connect_blocking(conninfo, "migrate", limits, autocommit=False),
            poolclass=pool.NullPool,
        )
        try:
            with engine.begin() as connection:
                connection.execute(text("SET LOCAL statement_timeout = 0"))
                # between two statements revisions are loaded, which takes a starved machine long
                connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '60s'"))
                self._config.attributes["connection"] = connection
                command.upgrade(self._config, "head")
        except DBAPIError as error:
            raise error.orig or error from error


def _current_revision(connection: psycopg.Connection[tuple[object, ...]]) -> str | None:
    row = connection.execute("SELECT to_regclass('alembic_version')").fetchone()
    if row is None or row[0] is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row[0])
