"""Pulse as real processes, called over the loopback."""

import contextlib
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx
from psycopg.conninfo import conninfo_to_dict

from tests.support.database import as_runtime_if_set_up
from tests.support.forked import Forked, Running, is_module
from tests.support.waiting import backoff_delays

ROOT: Final = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS: Final = 40.0
_PORTS: Final = range(12_000, 32_000)
_WHERE: Final = ("host", "port", "target_session_attrs")

PLAIN_HTTP: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""The `verify` of clients that need no TLS: httpx reads all certificates for each, in 20 ms."""

UP: Final = ("-m", "pulse.cli", "up")


def uvicorn_on(port: int) -> tuple[str, ...]:
    return ("-m", "uvicorn", "main:app", "--port", str(port))


def free_port() -> int:
    """A port of 127.0.0.1 that nothing uses, and that no other test of this machine receives.

    It is below the ports that the system gives to outgoing connections. It stays reserved until
    this process ends: only one process can bind the abstract Unix socket named after the port.
    """
    for port in random.sample(_PORTS, len(_PORTS)):
        with contextlib.suppress(OSError), contextlib.ExitStack() as unless_reserved:
            reserved = unless_reserved.enter_context(socket.socket(socket.AF_UNIX))
            reserved.bind(f"\0pulse-test-port-{port}")
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
            unless_reserved.pop_all()
            reserved.detach()
            return port
    raise AssertionError("no port is free")


def until(condition: Callable[[], Any], what: str, seconds: float = DEADLINE_SECONDS) -> Any:
    """Poll the condition until it is true; returns its value."""
    deadline = time.monotonic() + seconds
    delays = backoff_delays()
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(next(delays))
    return result


def url_of(conninfo: str) -> str:
    """A conninfo as a PULSE_DATABASE_URL; also for a Unix socket."""
    parts = {name: quote(str(value), safe="") for name, value in conninfo_to_dict(conninfo).items()}
    query = "&".join(f"{name}={parts[name]}" for name in _WHERE if name in parts)
    who = ":".join(parts[name] for name in ("user", "password") if name in parts)
    return f"postgresql://{who}@/{parts['dbname']}?{query}"


def greeted_commands(greeting: str) -> list[str]:
    """The shell commands of the greeting: its indented lines, with continuations joined."""
    return re.findall(r"^  (curl .*)$", greeting.replace("\\\n", " "), re.MULTILINE)


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """This process's environment with only these PULSE_* variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PULSE_")}
    return {**kept, **{f"PULSE_{name.upper()}": str(value) for name, value in settings.items()}}


def run_to_end(command: tuple[str, ...], **settings: object) -> subprocess.CompletedProcess[str]:
    """Run a process and wait for its end."""
    with tempfile.TemporaryDirectory() as home:
        out, err = Path(home, "out"), Path(home, "err")
        process = _started(command, ROOT, environment(settings), out, err)
        try:
            code = process.wait(DEADLINE_SECONDS)
        finally:
            process.kill()
        return subprocess.CompletedProcess(command, code, out.read_text(), err.read_text())


def _started(
    command: tuple[str, ...],
    root: Path,
    env: Mapping[str, str],
    out: Path,
    err: Path,
    *,
    forked: bool = True,
) -> Running:
    """The process of `python` with these arguments, forked if that is possible."""
    if forked and is_module(command) and root == ROOT:
        return Forked(command, cwd=root, env=env, stdout=out, stderr=err)
    with out.open("ab") as stdout, err.open("ab") as stderr:
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=root,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )


class PulseProcess:
    """A process with the API under /pulse; its standard output and error go to files.

    On a database with roles it connects as the role of processes, even if `database_url` names the
    superuser. Its code is that in `root`. It is forked from a process that has imported Pulse,
    which saves most of the time of a start, or with `forked=False` is a new interpreter.
    """

    def __init__(
        self,
        home: Path,
        *,
        command: tuple[str, ...] = UP,
        port: int = 0,
        root: Path = ROOT,
        forked: bool = True,
        **settings: object,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}/pulse"
        if "database_url" in settings:
            conninfo = as_runtime_if_set_up(str(settings["database_url"]))
            settings["database_url"] = url_of(conninfo)
        self._out, self._err = home / f"{self.port}.out", home / f"{self.port}.err"
        env = environment({"port": self.port, **settings})
        self._process = _started(command, root, env, self._out, self._err, forked=forked)
        self.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False, verify=PLAIN_HTTP)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def output(self) -> str:
        """Its standard output."""
        return self._out.read_text()

    @property
    def logged(self) -> str:
        """Its log, on standard error."""
        return self._err.read_text()

    def until_serving(self) -> None:
        """Wait until its health check answers."""
        until(lambda: self._answers() or self._process.poll() is not None, "it serves")
        assert self._process.poll() is None, self.logged

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self.http.get("/health").status_code == httpx.codes.OK
        return False

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it; returns the exit code."""
        self.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; returns the exit code."""
        return self._process.wait(DEADLINE_SECONDS)

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def close(self) -> None:
        """End the process: SIGTERM first, then SIGKILL."""
        self.http.close()
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(DEADLINE_SECONDS)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(DEADLINE_SECONDS)

    def post(self, request: dict[str, Any]) -> httpx.Response:
        return self.http.post("/internal/orders", json=request)

    def order(self, order_id: str) -> dict[str, Any]:
        response = self.http.get(f"/internal/orders/{order_id}")
        assert response.status_code == httpx.codes.OK, response.text
        answered: dict[str, Any] = response.json()
        return answered

    def until_completed(self, order_id: str, seconds: float = DEADLINE_SECONDS) -> dict[str, Any]:
        """Wait until the order is COMPLETED, tolerating errors; returns the order."""
        return self._until(
            order_id,
            lambda answered: answered.get("order_queue_status") == "COMPLETED",
            f"order {order_id} is COMPLETED",
            seconds,
        )

    def until_first_released(self, order_id: str) -> dict[str, Any]:
        """Wait until the first slice is RELEASED; then the order stays as it is for minutes."""
        return self._until(
            order_id,
            lambda answered: [s["state"] for s in answered.get("slices", ())][:1] == ["RELEASED"],
            f"the first slice of {order_id} is released",
            DEADLINE_SECONDS,
        )

    def _until(
        self, order_id: str, holds: Callable[[dict[str, Any]], bool], what: str, seconds: float
    ) -> dict[str, Any]:
        answered: dict[str, Any] = {}

        def is_so() -> bool:
            answered.clear()
            answered.update(self.http.get(f"/internal/orders/{order_id}").json())
            return holds(answered)

        until(is_so, what, seconds)
        return answered


@contextlib.contextmanager
def pulse(home: Path, **settings: Any) -> Iterator[PulseProcess]:
    """A process that serves; it is stopped on exit."""
    process = PulseProcess(home, **settings)
    try:
        process.until_serving()
        yield process
    finally:
        process.close()


def postmaster_file(data_dir: Path) -> Path:
    return data_dir / "postgres" / "cluster" / "postmaster.pid"


def postmaster_id(data_dir: Path) -> int | None:
    """The embedded server's process id, or None if it does not run."""
    with contextlib.suppress(FileNotFoundError, IndexError, ValueError):
        return int(postmaster_file(data_dir).read_text().split()[0])
    return None


def is_alive(process_id: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def processes_in(cluster: Path) -> list[int]:
    """The processes of the embedded server: those with its data directory as working directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").samefile(cluster) and is_alive(int(process.name)):
                found.append(int(process.name))
    return found
