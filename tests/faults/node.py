"""One Postgres server under the suite's full control: made, copied, started, killed, promoted.

For cases that need more than one, or that put its files elsewhere. `Server` is for all others.
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
    """A server in one directory; every method blocks. Programs run as the account that owns it."""

    def __init__(self, data_dir: Path, options: Mapping[str, str] | None = None) -> None:
        self.place = ServerPaths.under(data_dir)
        self.place.create_home()
        self._account, self._programs = choose_account(self.place)
        self._options = {**DURABLE, **(options or {})}
        create_private_directory(self.place.sockets, self._account.uid, self._account.gid)

    @property
    def conninfo(self) -> str:
        """Its local socket."""
        return self.place.conninfo

    @property
    def url(self) -> str:
        """The same as PULSE_DATABASE_URL names it."""
        return url_of(self.conninfo)

    async def fetch(self, statement: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of any statement, on a connection of its own."""
        return await fetch_from(self.conninfo, statement, *parameters)

    @property
    def runs(self) -> bool:
        """Whether its postmaster lives."""
        return self._postmaster() is not None

    def make(self) -> None:
        """An empty cluster with its database."""
        create_cluster(self.place, self._account, self._programs)

    def copy_of(self, primary: "Node", *, follow: bool) -> None:
        """A base backup of a running server, in the place of whatever lay here.

        With `follow` it is a replica of that server when it is started, else a server of its own
        that begins where the backup ended.
        """
        self.clear()
        create_private_directory(self.place.cluster, self._account.uid, self._account.gid)
        command = ["--host", str(primary.place.sockets), "--port", str(PORT), "--username", USER]
        command += ["--pgdata", str(self.place.cluster), "--wal-method=stream"]
        command += ["--checkpoint=fast", *(["--write-recovery-conf"] if follow else [])]
        self.run("pg_basebackup", *command)

    def clear(self) -> None:
        """Remove its cluster; it must not run."""
        assert not self.runs, "it runs"
        if self.place.cluster.exists():  # what lies in it is another account's, it itself is ours
            self._succeed(
                self._account.run("find", self.place.cluster, "-mindepth", "1", "-delete")
            )
            self.place.cluster.rmdir()

    def start(self) -> None:
        """Start it and return when it takes connections, recovery included."""
        self._succeed(launch(self.place, self._account, self._programs, self._options))

    def promote(self) -> None:
        """Make a replica a primary; returns when it takes writes."""
        self.run("pg_ctl", "promote", "--wait", "--pgdata", str(self.place.cluster))

    def stop_immediately(self) -> None:
        """End it without a checkpoint, as a power failure would."""
        postmaster = self._postmaster()
        if postmaster is not None:
            postmaster.send_signal(signal.SIGQUIT)
            with contextlib.suppress(psutil.NoSuchProcess):
                postmaster.wait(_STOP_SECONDS)

    def run(self, program: str, *arguments: str) -> str:
        """Run one of the server's programs to its end; what it said."""
        path = self._programs / program
        ended = self._account.run(path, *arguments, timeout_seconds=_COPY_SECONDS)
        self._succeed(ended)
        return ended.stdout

    def _succeed(self, ended: subprocess.CompletedProcess[str]) -> None:
        assert ended.returncode == 0, f"{ended.stdout[-1500:]}\n{self._last_words()}"

    def _last_words(self) -> str:
        logs = sorted((self.place.cluster / "log").glob("*.log"), key=os.path.getmtime)
        return "".join(logs[-1].read_text(errors="replace")[-1500:] for _ in logs[-1:])

    def _postmaster(self) -> psutil.Process | None:
        with contextlib.suppress(OSError, ValueError, IndexError, psutil.NoSuchProcess):
            pid = int((self.place.cluster / "postmaster.pid").read_text().split()[0])
            process = psutil.Process(pid)
            if process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None


def url_of_nodes(*nodes: Node) -> str:
    """PULSE_DATABASE_URL for whichever of these takes writes."""
    hosts = ",".join(str(node.place.sockets) for node in nodes)
    ports = ",".join(str(PORT) for _ in nodes)
    return f"postgresql://{USER}@/{USER}?host={hosts}&port={ports}&target_session_attrs=read-write"
