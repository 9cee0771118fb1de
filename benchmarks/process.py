"""A process to measure: Pulse or a peer."""

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Self

import psutil

from benchmarks.checkout import THIS, Checkout
from tests.support.processes import environment, free_port

_START_SECONDS: Final = 40.0
_STOP_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.01


class Process:
    """One child process with its output in a file. `url` is its address, if it serves."""

    def __init__(self, child: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._child = child
        self._process = psutil.Process(child.pid)
        self._port = port
        self._log = log

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        home: Path,
        *arguments: str,
        settings: Mapping[str, object] | None = None,
        ready: str | None = None,
        checkout: Checkout = THIS,
    ) -> AsyncIterator[Self]:
        """Run `python` with these arguments; PULSE_PORT is its port.

        It is ready when it has printed `ready`, or if that is None, when its port accepts
        connections.
        """
        port = free_port()
        log = home / f"{port}.log"
        with log.open("ab") as out:
            child = subprocess.Popen(  # noqa: ASYNC220 - fast, and nothing else runs
                [checkout.python, *arguments],
                cwd=checkout.root,
                env=environment({"log_level": "error", **(settings or {}), "port": port}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = cls(child, port, log)
        try:
            await process._until_ready(ready)
            yield process
        finally:
            await asyncio.to_thread(process._end)

    @property
    def cpu_seconds(self) -> float:
        """Its CPU time so far."""
        times = self._process.cpu_times()
        return times.user + times.system

    @property
    def cpu_seconds_of_members(self) -> dict[str, float]:
        """The CPU time so far of each kind of process of a group: api, worker, supervisor.

        The kind of a process without a group is `one process`.
        """
        children = self._process.children()
        spent = {"supervisor" if children else "one process": self.cpu_seconds}
        for child in children:
            name = str(json.loads(child.cmdline()[-1])["name"])
            times = child.cpu_times()
            kind = name.partition("-")[0]
            spent[kind] = spent.get(kind, 0.0) + times.user + times.system
        return spent

    @property
    def memory_of_all_mib(self) -> float:
        """The unshared memory (USS) of the process and its children."""
        processes = [self._process, *self._process.children()]
        return float(sum(p.memory_full_info().uss for p in processes)) / 2**20

    @property
    def memory_mib(self) -> float:
        """Its resident memory."""
        return self._process.memory_info().rss / 2**20

    async def until_printed(self, words: str, seconds: float = _START_SECONDS) -> None:
        """Wait until its output contains these words.

        Raises:
            RuntimeError: it ended before, or did not print them in time.
        """
        deadline = time.monotonic() + seconds
        while words not in self._output:
            self._require(time.monotonic() < deadline)
            await asyncio.sleep(_POLL_SECONDS)

    async def until_ended(self, seconds: float) -> float:
        """Wait until it exits with code 0; returns its peak memory in MiB.

        Raises:
            RuntimeError: it failed, or did not exit in time.
        """
        deadline, peak = time.monotonic() + seconds, 0.0
        while self._child.poll() is None:
            with contextlib.suppress(psutil.Error):
                peak = max(peak, self.memory_mib)
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"the process did not exit within {seconds:g} s:\n{self._output[-3000:]}"
                )
            await asyncio.sleep(_POLL_SECONDS)
        if self._child.returncode:
            raise RuntimeError(
                f"the process exited with {self._child.returncode}:\n{self._output[-3000:]}"
            )
        return peak

    @property
    def _output(self) -> str:
        return self._log.read_text(errors="replace")

    async def _until_ready(self, ready: str | None) -> None:
        if ready is not None:
            await self.until_printed(ready)
            return
        deadline = time.monotonic() + _START_SECONDS
        while not await self._listens():
            self._require(time.monotonic() < deadline)
            await asyncio.sleep(_POLL_SECONDS)

    async def _listens(self) -> bool:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.close()
            return True
        return False

    def _require(self, in_time: bool) -> None:  # noqa: FBT001
        if self._child.poll() is not None or not in_time:
            raise RuntimeError(f"the process is not ready:\n{self._output[-3000:]}")

    def _end(self) -> None:
        self._child.terminate()
        try:
            self._child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
