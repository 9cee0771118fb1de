"""A host of the cluster: a namespace, an address, and the programs that run in it."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.cluster import network

_STOP_SECONDS: Final = 60.0


def become_user(user: str) -> tuple[str, ...]:
    """What to put before a command so that this account runs it, without root's capabilities."""
    dropped = ("--inh-caps=-all", "--bounding-set=-all")
    return ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *dropped)


class Host:
    """A host that can be switched on and off. Its directory is its disk and outlives it."""

    def __init__(self, name: str, number: int, home: Path) -> None:
        self.name = name
        self.address = f"{network.NETWORK}.{number}"
        self.disk = home / name
        self.disk.mkdir(parents=True, exist_ok=True)
        self.is_on = False
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def prefix(self) -> tuple[str, ...]:
        """What to put before a command that runs on this host."""
        return ("ip", "netns", "exec", network.PREFIX + self.name)

    def power_on(self) -> None:
        """Create the namespace."""
        assert not self.is_on
        network.add_namespace(self.name, self.address)
        self.is_on = True

    def power_off(self) -> None:
        """Remove the host abruptly: no peer receives a FIN or a reset."""
        if self.is_on:
            network.unplug(self.name)
            network.remove_namespace(self.name)
            self.is_on = False
        for process in self._processes.values():
            process.wait(_STOP_SECONDS)
        self._processes.clear()

    def start(
        self, program: str, command: Sequence[str], variables: Mapping[str, str], user: str = ""
    ) -> None:
        """Start a program; its output is appended to a log on the host's disk."""
        assert program not in self._processes or self._processes[program].poll() is not None
        become = (*self._with_own_sockets(), *become_user(user)) if user else ()
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        with (self.disk / f"{program}.log").open("ab") as log:
            self._processes[program] = subprocess.Popen(
                [*self.prefix, *become, *command],
                cwd="/",
                env={**kept, **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _with_own_sockets(self) -> tuple[str, ...]:
        """Puts a directory of this host's disk in the place of Postgres's socket directory.

        `ip netns exec` gives each program a mount namespace of its own.
        """
        sockets = self.disk / "sockets"
        sockets.mkdir(exist_ok=True)
        sockets.chmod(0o1777)
        script = f'mount --bind {sockets} /run/postgresql && exec "$@"'
        return ("sh", "-c", script, "sh")

    def ended(self, program: str) -> bool:
        """Whether the program was never started or has ended."""
        process = self._processes.get(program)
        return process is None or process.poll() is not None

    def stop(self, program: str) -> None:
        """SIGTERM; returns when it has ended."""
        process = self._processes.pop(program)
        process.send_signal(signal.SIGTERM)
        process.wait(_STOP_SECONDS)

    def kill(self, program: str) -> None:
        """SIGKILL of the program itself, not of its children."""
        process = self._processes.pop(program)
        process.kill()
        process.wait(_STOP_SECONDS)

    def pids(self) -> list[int]:
        """Every process on the host."""
        found = network.ip("netns", "pids", network.PREFIX + self.name)
        return [int(pid) for pid in found.split()]

    def log_tail(self, characters: int = 2000) -> str:
        """The ends of the logs on its disk."""
        parts = []
        for path in sorted(self.disk.glob("*.log")):
            with contextlib.suppress(OSError):
                parts.append(f"{path.name}:\n{path.read_text(errors='replace')[-characters:]}")
        return "\n".join(parts)
