"""Pulse processes that are forked from one that has imported Pulse: imports are most of a start.

They run the command's module as `python -m` does, with the environment, working directory and
streams of a new process. Tests of how Python itself starts execute a new interpreter instead.
"""

import contextlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Final, Protocol

_CONTEXT: Final = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__, "tests.support.forked_imports"])


class Running(Protocol):
    """What tests use of a process: the part of `subprocess.Popen` that a forked one has, too."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int, /) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class Forked:
    """A running forked process."""

    def __init__(
        self,
        command: tuple[str, ...],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdout: Path,
        stderr: Path,
    ) -> None:
        assert is_module(command), command
        for path in (stdout, stderr):
            path.touch()
        self._process = ForkServerProcess(
            target=_run, args=(command[1:], cwd, dict(env), stdout, stderr)
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; returns the exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return code

    def send_signal(self, sig: int, /) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def is_module(command: tuple[str, ...]) -> bool:
    """Whether it is the command line of a module: only such a process can be forked."""
    return command[0] == "-m"


def _run(
    command: tuple[str, ...], cwd: Path, env: dict[str, str], stdout: Path, stderr: Path
) -> None:
    """Become the process of this command line."""
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, path, flags in (
        (0, Path(os.devnull), os.O_RDONLY),
        (1, stdout, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        (2, stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    ):
        opened = os.open(path, flags, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - multiprocessing has closed it
    sys.argv = list(command)
    sys.path[:] = [str(cwd), *(path for path in sys.path if path != str(cwd))]
    threading.current_thread().name = "MainThread"
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)
