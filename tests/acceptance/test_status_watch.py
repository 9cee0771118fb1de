"""`pulse status --watch`: a table on a terminal, lines in a pipe, a clean end by Ctrl-C."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pytest

from tests.support.processes import (
    DEADLINE_SECONDS,
    ROOT,
    PulseProcess,
    environment,
    free_port,
    run_to_end,
    until,
)

WATCH = [sys.executable, "-m", "pulse.cli", "status", "--watch", "--every", "0.2"]


@contextmanager
def watching(url: str, *options: str, stdout: Any = subprocess.PIPE) -> Iterator[Any]:
    process = subprocess.Popen(
        [*WATCH, *options],
        cwd=ROOT,
        env={**environment({"database_url": url}), "TERM": "xterm", "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def end_by_ctrl_c(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=DEADLINE_SECONDS)
    assert (process.returncode, said) == (0, "")


def lines(stream: IO[str], count: int) -> list[str]:
    return [stream.readline() for _ in range(count)]


def test_in_a_pipe_each_refresh_is_a_line(module_database_url: str) -> None:
    with watching(module_database_url) as process:
        first, second = lines(process.stdout, 2)
        end_by_ctrl_c(process)
    assert "accepted -" in first
    assert "accepted 0.0" in second
    for line in (first, second):
        assert "PENDING 0" in line
        assert line.endswith("healthy\n")
        assert "\x1b" not in line


def test_with_json_each_refresh_is_an_object(
    module_database_url: str, served: PulseProcess
) -> None:
    with watching(module_database_url, "--json") as process:
        first = json.loads(process.stdout.readline())
        served.until_completed(served.post(_order()).json()["order_id"])
        rates = until(
            lambda: (json.loads(process.stdout.readline()))["per_second"]["accepted_orders"],
            "the order is in a rate",
        )
        end_by_ctrl_c(process)
    assert first["per_second"]["accepted_orders"] is None
    assert first["workers_present"] == 1
    assert rates > 0


def test_on_a_terminal_there_is_a_live_table(module_database_url: str) -> None:
    ours, theirs = pty.openpty()
    with watching(module_database_url, stdout=theirs) as process:
        os.close(theirs)
        shown, deadline = "", time.monotonic() + DEADLINE_SECONDS
        while shown.count("Projected") < 3:
            assert time.monotonic() < deadline, shown
            if select.select([ours], [], [], 1)[0]:
                shown += os.read(ours, 65_536).decode()
        end_by_ctrl_c(process)
    os.close(ours)
    assert "\x1b[" in shown
    for part in ("Accepted", "PENDING", "Workers", "Halts", "Ctrl-C ends", "Healthy."):
        assert part in shown


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_an_unreachable_server_is_one_message(options: tuple[str, ...]) -> None:
    url = f"postgresql://pulse@127.0.0.1:{free_port()}/pulse"
    ended = run_to_end((*WATCH[1:], *options), database_url=url)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.startswith("pulse: Postgres cannot be reached")
    assert ended.stderr.count("\n") == 1


def test_the_option_every_is_refused_without_watch() -> None:
    ended = run_to_end(("-m", "pulse.cli", "status", "--every", "2"))
    assert ended.returncode == 2
    assert "--watch" in ended.stderr


def _order() -> dict[str, Any]:
    return {
        "order_unique_key": "ouk_of_the_watch",
        "instrument": "NSE:TCS",
        "side": "BUY",
        "total_quantity": 100,
        "split_config": {"num_splits": 5, "duration_minutes": 60},
    }
