"""The checks of `pulse doctor`: whether Pulse can run here, and what to change if it cannot."""

import shutil
import stat
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec
import psycopg

from pulse.application.clock_watch import ClockWatch
from pulse.application.origin import system_clock
from pulse.errors import PulseError
from pulse.eventstore import probe_append
from pulse.postgres import Connection, Database, SessionUnfit, describe
from pulse.postgres.embedded import has_data
from pulse.postgres.migrations import Migrations
from pulse.postgres.server_facts import ServerFacts, read_server_facts
from pulse.process.development_key import KEY_FILE
from pulse.process.revisions import HEAD, REVISIONS
from pulse.process.server import open_server
from pulse.settings import Settings, unknown_variables

State = Literal["ok", "warn", "fail"]

CONNECTIONS_OUTSIDE_POOL: Final = 4
"""Those of the appender, the listener, the worker's presence, and the gauges of the database."""

_MIN_FREE_MIB: Final = 256
_LOW_FREE_MIB: Final = 2048
_LOW_WAL_MIB: Final = 1024
_MIB: Final = 2**20
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class Check(msgspec.Struct, frozen=True):
    """The result of one check. The message of `warn` and `fail` says what to change."""

    name: str
    state: State
    message: str


async def examine(settings: Settings, environment: Mapping[str, str]) -> AsyncIterator[Check]:
    """Run every check; those that need Postgres are left out if it cannot be reached.

    Changes nothing, with one exception: an embedded server that is not running is started for the
    time of the checks, and its roles are created if they are missing.
    """
    yield _settings(environment)
    for check in (*_files(settings), _disk(settings)):
        yield check
    if settings.database_url is None and not has_data(settings.data_dir):
        yield Check("connection", "warn", "there is no data yet: the first `pulse up` creates it")
        return
    try:
        async with open_server(settings) as server:
            async for check in _database(settings, server.conninfo):
                yield check
    except (psycopg.Error, PulseError) as error:
        yield Check("connection", "fail", _connection_fault(error))


def _settings(environment: Mapping[str, str]) -> Check:
    """The settings were read, so they are valid. Unknown PULSE_ variables have no effect."""
    unknown = unknown_variables(environment)
    if unknown:
        names = ", ".join(
            f"{name} (did you mean {similar}?)" if similar else name
            for name, similar in unknown.items()
        )
        return Check("settings", "warn", f"unknown variables are ignored, correct them: {names}")
    return Check("settings", "ok", "every PULSE_ variable is known and valid")


def _files(settings: Settings) -> Iterator[Check]:
    """The modes of the data directory and of the development key, if they exist."""
    data_dir, key = settings.data_dir, settings.data_dir / KEY_FILE
    if not data_dir.exists():
        yield Check("files", "ok", "there is no data directory")
        return
    faults = []
    if data_dir.stat().st_mode & _OTHERS_WRITE:
        faults.append(f"other users may write {data_dir}: chmod go-w {data_dir}")
    if key.exists() and key.stat().st_mode & _OTHERS:
        faults.append(f"other users may read the development key {key}: chmod 600 {key}")
    if faults:
        yield Check("files", "fail", "; ".join(faults))
    else:
        yield Check("files", "ok", f"only its owner may write {data_dir}")


def _disk(settings: Settings) -> Check:
    if settings.database_url is not None:
        return Check("disk", "ok", "the data is on the Postgres server: monitor its disk there")
    existing = next(path for path in _with_parents(settings.data_dir) if path.exists())
    usage = shutil.disk_usage(existing)
    free_mib = usage.free // _MIB
    measured = f"{free_mib:,} MiB of {usage.total // _MIB:,} MiB free for {settings.data_dir}"
    if free_mib < _MIN_FREE_MIB:
        return Check("disk", "fail", f"{measured}: free space, or Postgres refuses writes")
    if free_mib < _LOW_FREE_MIB:
        return Check("disk", "warn", f"{measured}: free space soon")
    return Check("disk", "ok", measured)


def _with_parents(path: Path) -> tuple[Path, ...]:
    absolute = path.absolute()
    return (absolute, *absolute.parents)


async def _database(settings: Settings, conninfo: str) -> AsyncIterator[Check]:
    database = Database(conninfo, pool_size=2, code_revision=HEAD)
    connection = await database.connect("doctor")
    async with connection:
        facts = await read_server_facts(connection)
        yield Check("connection", "ok", f"Postgres {facts.server_version}")
        pooler = "a pooler in session mode" if facts.has_pooler else "no pooler in between"
        yield Check("pooler", "ok", pooler)
        yield Check("session", "ok", "the session settings that Pulse needs are in force")
        schema = await _schema(settings, database)
        yield schema
        if schema.state == "ok":
            yield await _append(connection)
        for check in check_server(settings, facts):
            yield check
    await database.open()
    try:
        yield await _clock(settings, database)
    finally:
        await database.close()


async def _schema(settings: Settings, database: Database) -> Check:
    migrations = Migrations(REVISIONS)
    fault = migrations.fault(await migrations.current(database.conninfo, database.limits))
    if fault is None:
        return Check("schema", "ok", f"revision {HEAD}")
    if settings.migrate:
        return Check("schema", "warn", f"{fault}; the next start migrates it")
    return Check("schema", "fail", fault)


async def _append(connection: Connection) -> Check:
    fault = await probe_append(connection)
    if fault is None:
        return Check("append", "ok", "this role may append to the log")
    return Check("append", "fail", f"no order would be accepted: {fault.reason}")


async def _clock(settings: Settings, database: Database) -> Check:
    limit = settings.max_clock_offset_seconds
    watch = ClockWatch(database, system_clock, max_offset_seconds=limit)
    try:
        offset = await watch.run_once()
    except PulseError as error:
        return Check("clock", "fail", f"it cannot be compared with the database's: {error}")
    measured = f"{abs(offset):.3f} s from the database's, {limit:g} s are allowed"
    if abs(offset) > limit:
        return Check("clock", "fail", f"{measured}: no order would be accepted, correct the clock")
    if abs(offset) > limit / 2:
        return Check("clock", "warn", f"{measured}: synchronise this host's clock")
    return Check("clock", "ok", measured)


def check_server(settings: Settings, facts: ServerFacts) -> Iterator[Check]:
    """The role, and the server's settings that durability and capacity depend on."""
    embedded = settings.database_url is None
    if facts.is_superuser and not embedded:
        remedy = "run Pulse under a role with only the rights that it needs"
        yield Check("role", "warn", f"{facts.role} is a superuser: {remedy}")
    else:
        kind = "that of the embedded server" if embedded else "is not a superuser"
        yield Check("role", "ok", f"{facts.role}, {kind}")
    for name, is_on in (("fsync", facts.fsync), ("full_page_writes", facts.full_page_writes)):
        if is_on:
            yield Check(name, "ok", "on")
        else:
            remedy = "a crash of the server can lose or corrupt accepted orders, turn it on"
            yield Check(name, "fail", f"off: {remedy}")
    yield _synchronous_commit(facts)
    yield _max_connections(settings, facts)
    yield _min_wal_size(facts, embedded=embedded)


def _synchronous_commit(facts: ServerFacts) -> Check:
    """Pulse sets it for its sessions, so another value shows a pooler or proxy that drops it."""
    value = facts.synchronous_commit
    if value in {"on", "remote_apply"}:
        return Check("synchronous_commit", "ok", value)
    remedy = "accepted orders can be lost, set it to on"
    return Check("synchronous_commit", "fail", f"{value}: {remedy}")


def _max_connections(settings: Settings, facts: ServerFacts) -> Check:
    processes = _processes(settings)
    needed = processes * (settings.pool_size + CONNECTIONS_OUTSIDE_POOL)
    usable = facts.max_connections - facts.reserved_connections
    takers = (
        "a process takes" if processes == 1 else f"the {processes} processes of `pulse up` take"
    )
    measured = f"{usable} usable, {facts.connections} in use, {takers} up to {needed}"
    if usable < needed:
        return Check("max_connections", "fail", f"{measured}: raise it, or lower PULSE_POOL_SIZE")
    if usable - facts.connections < needed:
        return Check("max_connections", "warn", f"{measured}: raise it to start more processes")
    return Check("max_connections", "ok", measured)


def _processes(settings: Settings) -> int:
    """The processes of `pulse up` that have a pool."""
    if settings.processes == 1 and settings.worker_processes is None:
        return 1
    return settings.processes + (settings.worker_processes or 1)


def _min_wal_size(facts: ServerFacts, *, embedded: bool) -> Check:
    measured = f"{facts.min_wal_mib:,} MiB"
    if embedded or facts.min_wal_mib >= _LOW_WAL_MIB:
        return Check("min_wal_size", "ok", measured)
    remedy = "under load new WAL segments delay commits, set it to 1GB or more"
    return Check("min_wal_size", "warn", f"{measured}: {remedy}")


def _connection_fault(error: Exception) -> str:
    if isinstance(error, SessionUnfit):
        return str(error)
    if isinstance(error, psycopg.Error):
        return f"Postgres cannot be reached: {describe(error)}; check PULSE_DATABASE_URL"
    return str(error)
