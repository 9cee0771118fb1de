"""A Postgres server that can be created, copied, started, killed and promoted.

For cases with several servers. Other cases use `Server`.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, LiteralString

import psutil

from pulse.postgres.embedded.account import choose_account
from pulse.postgres.embedded.cluster import create_cluster, launch
from pulse.postgres.embedded.directories import PORT, USER, ServerPaths, create_private_directory
from tests.faults.server import DURABLE, fetch_from
from tests.support.processes import url_of

_COPY_SECONDS: Final = 300
_STOP_SECONDS: Final = 30.0


class Node:
    """A server in one directory. Methods block. Programs run as the account that owns it."""

    def __init__(self, data_dir: Path, options: Mapping[str, str] | None = None) -> None:
        self.paths = ServerPaths.under(data_dir)
        self.paths.create_home()
        self._account, self._programs = choose_account(self.paths)
        self._options = {**DURABLE, **(options or {})}
        create_private_directory(self.paths.sockets, self._account.uid, self._account.gid)

    @property
    def conninfo(self) -> str:
        """Its local socket."""
        return self.paths.conninfo

    @property
    def url(self) -> str:
        """The same as PULSE_DATABASE_URL names it."""
        return url_of(self.conninfo)

    async def fetch(self, statement: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
        """Execute a statement on a new connection; returns its rows."""
        return await fetch_from(self.conninfo, statement, *parameters)

    @property
    def runs(self) -> bool:
        """Whether its postmaster runs."""
        return self._postmaster() is not None

    def make(self) -> None:
        """Create an empty cluster with its database."""
        create_cluster(self.paths, self._account, self._programs)

    def copy_of(self, primary: "Node", *, follow: bool) -> None:
        """Replace the cluster by a base backup of a running server.

        With `follow` it starts as a replica of that server, otherwise as an independent server.
        """
        self.clear()
        create_private_directory(self.paths.cluster, self._account.uid, self._account.gid)
        command = ["--host", str(primary.paths.sockets), "--port", str(PORT), "--username", USER]
        command += ["--pgdata", str(self.paths.cluster), "--wal-method=stream"]
        command += ["--checkpoint=fast", *(["--write-recovery-conf"] if follow else [])]
        self.run("pg_basebackup", *command)

    def create_directory(self, directory: Path) -> None:
        """Create a directory that the server may write."""
        create_private_directory(directory, self._account.uid, self._account.gid)

    def recover(self, settings: str) -> None:
        """Let a copied cluster recover from an archive at its next start, with these settings."""
        script = 'printf "%s" "$1" >> postgresql.auto.conf && touch recovery.signal'
        command = ("sh", "-c", f'cd "$0" && {script}', self.paths.cluster, settings)
        self._succeed(self._account.run(*command))

    def clear(self) -> None:
        """Remove its cluster; it must not run."""
        assert not self.runs, "the server is running"
        if self.paths.cluster.exists():  # its content belongs to another account than the directory
            self._succeed(
                self._account.run("find", self.paths.cluster, "-mindepth", "1", "-delete")
            )
            self.paths.cluster.rmdir()

    def start(self) -> None:
        """Start it; returns when it accepts connections, after recovery."""
        self._succeed(launch(self.paths, self._account, self._programs, self._options))

    def promote(self) -> None:
        """Promote a replica; returns when it accepts writes."""
        self.run("pg_ctl", "promote", "--wait", "--pgdata", str(self.paths.cluster))

    def stop_immediately(self) -> None:
        """Immediate shutdown, without a checkpoint, like a power failure."""
        postmaster = self._postmaster()
        if postmaster is not None:
            postmaster.send_signal(signal.SIGQUIT)
            with contextlib.suppress(psutil.NoSuchProcess):
                postmaster.wait(_STOP_SECONDS)

    def run(self, program: str, *arguments: str) -> str:
        """Run one of the server's programs; returns its standard output."""
        path = self._programs / program
        ended = self._account.run(path, *arguments, timeout_seconds=_COPY_SECONDS)
        self._succeed(ended)
        return ended.stdout

    def _succeed(self, ended: subprocess.CompletedProcess[str]) -> None:
        assert ended.returncode == 0, f"{ended.stdout[-1500:]}\n{self._log_tail()}"

    def _log_tail(self) -> str:
        logs = sorted((self.paths.cluster / "log").glob("*.log"), key=os.path.getmtime)
        return "".join(logs[-1].read_text(errors="replace")[-1500:] for _ in logs[-1:])

    def _postmaster(self) -> psutil.Process | None:
        with contextlib.suppress(OSError, ValueError, IndexError, psutil.NoSuchProcess):
            pid = int((self.paths.cluster / "postmaster.pid").read_text().split()[0])
            process = psutil.Process(pid)
            if process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None


def url_of_nodes(*nodes: Node) -> str:
    """A PULSE_DATABASE_URL that connects to the node that accepts writes."""
    hosts = ",".join(str(node.paths.sockets) for node in nodes)
    ports = ",".join(str(PORT) for _ in nodes)
    return f"postgresql://{USER}@/{USER}?host={hosts}&port={ports}&target_session_attrs=read-write"
