"""`pulse up` as a group of processes."""

import contextlib
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx

from tests.support.processes import PLAIN_HTTP, UP, PulseProcess, is_alive, until

START_SECONDS: Final = 200.0
"""Processes start one after the other. On a busy machine each start takes many seconds."""

_SERIES: Final = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')

Series = tuple[dict[str, str], float]


class PulseGroup(PulseProcess):
    """The supervisor of a group, which logs JSON."""

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Its log lines of this event so far."""
        complete = self.logged.rpartition("\n")[0].splitlines()
        found = [json.loads(line) for line in complete if event in line]
        return [line for line in found if line.get("event") == event]

    def pids(self) -> dict[str, int]:
        """The process that was last started for each member."""
        return {line["name"]: line["pid"] for line in self.lines("process.started")}

    def signal_member(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to a member; returns its process id."""
        pid = self.pids()[name]
        os.kill(pid, number)
        return pid

    def has_ended(self) -> bool:
        """Whether no process of the group is left."""
        started = [line["pid"] for line in self.lines("process.started")]
        return not any(map(is_alive, [self.pid, *started]))

    def until_logged(self, event: str, times: int = 1) -> None:
        """Wait until it has logged this event `times` times."""
        until(
            lambda: len(self.lines(event)) >= times or self.ended,
            f"{times} times {event}",
            START_SECONDS,
        )
        assert len(self.lines(event)) >= times, self.logged

    def scrape(self) -> dict[str, list[Series]]:
        """The series of `/metrics` on a new connection, by name."""
        with httpx.Client(trust_env=False, verify=PLAIN_HTTP, timeout=30) as client:
            url = f"http://127.0.0.1:{self.port}/metrics"
            answer = client.get(url, headers=self.http.headers)
        assert answer.status_code == 200
        found: dict[str, list[Series]] = {}
        for name, labels, value in _SERIES.findall(answer.text):
            found.setdefault(name, []).append((dict(_LABEL.findall(labels)), float(value)))
        return found

    def whole_scrape(self) -> dict[str, list[Series]]:
        """A scrape that every process has answered in time."""
        found: dict[str, list[Series]] = {}

        def is_whole() -> bool:
            found.clear()
            found.update(self.scrape())
            return found["pulse_processes_missing"] == [({}, 0.0)]

        until(is_whole, "every process answers", START_SECONDS)
        return found


@contextlib.contextmanager
def pulse_group(
    home: Path, *options: str, token: str = "", **settings: Any
) -> Iterator[PulseGroup]:
    """A group that serves; its processes have ended on exit."""
    group = PulseGroup(home, command=(*UP, *options), log_format="json", **settings)
    if token:
        group.http.headers["Authorization"] = f"Bearer {token}"
    try:
        group.until_logged("group.serving")
        yield group
    finally:
        group.close()
        until(group.has_ended, "all members have ended")
