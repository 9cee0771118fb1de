"""One Postgres server under the suite's full control: made, copied, started, killed, promoted.

For cases that need more than one, or that put its files elsewhere. `Server` is for all others.
"""

import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, LiteralString

import psutil

from pulse.postgres.embedded.binaries import find_binaries
from pulse.postgres.embedded.choice import choose_way
from pulse.postgres.embedded.cluster import make_cluster
from pulse.postgres.embedded.directories import make_home, own_directory
from pulse.postgres.embedded.options import for_pg_ctl, server_options
from pulse.postgres.embedded.place import DATABASE, PORT, USER, Place
from pulse.postgres.embedded.ways import Outcome
from tests.faults.server import DURABLE, fetch_from
from tests.support.processes import url_of

_START_SECONDS: Final = 60
_COPY_SECONDS: Final = 300
_STOP_SECONDS: Final = 30.0


class Node:
    """A server in one directory; every method blocks. Programs run as the account that owns it."""

    def __init__(self, data_dir: Path, options: Mapping[str, str] | None = None) -> None:
        self.place = Place.under(data_dir)
        make_home(self.place)
        self._way, self._binaries = choose_way(self.place, find_binaries())
        self._options = {**DURABLE, **(options or {})}
        own_directory(self.place.sockets, self._way.uid, self._way.gid)

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
        make_cluster(self.place, self._way, self._binaries)

    def copy_of(self, primary: "Node", *, follow: bool) -> None:
        """A base backup of a running server, in the place of whatever lay here.

        With `follow` it is a replica of that server when it is started, else a server of its own
        that begins where the backup ended.
        """
        self.clear()
        own_directory(self.place.cluster, self._way.uid, self._way.gid)
        command = ["--host", str(primary.place.sockets), "--port", str(PORT), "--username", USER]
        command += ["--pgdata", str(self.place.cluster), "--wal-method=stream"]
        command += ["--checkpoint=fast", *(["--write-recovery-conf"] if follow else [])]
        self.run("pg_basebackup", *command)

    def clear(self) -> None:
        """Remove its cluster; it must not run."""
        assert not self.runs, "it runs"
        if self.place.cluster.exists():  # what lies in it is another account's, it itself is ours
            self._succeed(self._way.run(["find", self.place.cluster, "-mindepth", "1", "-delete"]))
            self.place.cluster.rmdir()

    def start(self) -> None:
        """Start it and return when it takes connections, recovery included."""
        settings = for_pg_ctl(self.place.cluster, server_options(self.place.sockets, self._options))
        command: list[str | Path] = [self._binaries.program("pg_ctl"), "start", "--wait"]
        command += [f"--timeout={_START_SECONDS}", f"--options={settings}"]
        outcome = self._way.run(
            command,
            timeout_seconds=_START_SECONDS + 5,
            environment={"PGDATA": str(self.place.cluster)},
        )
        self._succeed(outcome)

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
        command: list[str | Path] = [self._binaries.program(program), *arguments]
        outcome = self._way.run(command, timeout_seconds=_COPY_SECONDS)
        self._succeed(outcome)
        return outcome.output

    def _succeed(self, outcome: Outcome) -> None:
        assert outcome.succeeded, f"{outcome.output[-1500:]}\n{self._last_words()}"

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
    return (
        f"postgresql://{USER}@/{DATABASE}?host={hosts}&port={ports}&target_session_attrs=read-write"
    )
