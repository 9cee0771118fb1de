"""A Pulse process under test: start, kill, freeze, stop and inspect it."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import aiohttp
import psutil

from tests.support.processes import ROOT, environment, free_port

Kind = Literal["everything", "api", "gateway", "worker"]

_COMMANDS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "everything": ("up",),
    "api": ("api",),
    "gateway": ("gateway",),
    "worker": ("background",),
}
_START_SECONDS: Final = 40.0
_STOP_SECONDS: Final = 40.0
_POLL_SECONDS: Final = 0.02


class Member:
    """A Pulse process that can be restarted. It keeps its port.

    `prefix` is put before the command; `variables` are added to the environment.
    """

    def __init__(
        self,
        kind: Kind,
        home: Path,
        settings: Mapping[str, object],
        *,
        prefix: tuple[str, ...] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.kind: Kind = kind
        self.port = free_port()
        self.settings = dict(settings)
        self.starts = 0
        self._home = home
        self._prefix = prefix
        self._variables = dict(variables or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The base URL of its API, without a trailing slash."""
        root = f"http://127.0.0.1:{self.port}"
        return f"{root}/pulse" if self.kind == "everything" else root

    @property
    def gateway_url(self) -> str:
        """The base URL of its gateway; only for kinds "gateway" and "everything"."""
        return f"{self.url.removesuffix('/pulse')}/gapi" if self.kind == "everything" else self.url

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has no running process."""
        return self._process is None or self._process.poll() is not None

    @property
    def exit_code(self) -> int | None:
        """The exit code, or None while it runs or before its first start."""
        return None if self._process is None else self._process.poll()

    @property
    def logged(self) -> str:
        """The log of its current or last process."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    @property
    def _log_path(self) -> Path:
        return self._home / f"{self.kind}-{self.port}-{self.starts}.log"

    @property
    def _works(self) -> bool:
        return "workers.started" in self.logged

    @property
    def memory_bytes(self) -> int:
        """Its resident memory."""
        return int(psutil.Process(self.pid).memory_info().rss)

    @property
    def open_files(self) -> int:
        """The number of its file descriptors, without its callers' connections."""
        process = psutil.Process(self.pid)
        found = process.net_connections("tcp")
        callers = [c for c in found if c.status == "ESTABLISHED" and c.laddr.port == self.port]
        return int(process.num_fds()) - len(callers)

    def start(self) -> None:
        """Start the process; does not wait until it serves."""
        assert self.ended, "the process is already running"
        command = [*self._prefix, sys.executable, "-m", "pulse.cli", *_COMMANDS[self.kind]]
        settings = {"log_format": "json", **self.settings, "port": self.port}
        self.starts += 1
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**environment(settings), **self._variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    async def until_serving(self) -> None:
        """Wait until its health check answers, or until a worker has started its loops."""
        deadline = time.monotonic() + _START_SECONDS
        while not (self._works if self.kind == "worker" else await self._answers()):
            assert not self.ended, f"{self.kind} exited at start:\n{self.logged[-3000:]}"
            assert time.monotonic() < deadline, f"{self.kind} did not start within the time limit"
            await asyncio.sleep(_POLL_SECONDS)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal; has no effect if the process has ended."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def kill(self) -> None:
        """Send SIGKILL and reap the process."""
        self.send_signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.send_signal(signal.SIGCONT)

    async def stop(self) -> int:
        """Send SIGTERM; returns the exit code."""
        self.send_signal(signal.SIGTERM)
        return await self.until_ended()

    async def until_ended(self, seconds: float = _STOP_SECONDS) -> int:
        """Wait for the end of the process, killing it after `seconds`; returns the exit code."""
        assert self._process is not None
        deadline = time.monotonic() + seconds
        while self._process.poll() is None:
            if time.monotonic() > deadline:
                self.kill()
            await asyncio.sleep(_POLL_SECONDS)
        return self._process.returncode

    async def close(self) -> None:
        """Stop the process if it runs, frozen or not."""
        if not self.ended:
            self.thaw()
            await self.stop()

    async def _answers(self) -> bool:
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as http,
                http.get(f"{self.url}/health") as answer,
            ):
                return answer.status == 200
        return False


def is_alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False
