"""How a group of processes ends: by a signal, by a closed terminal, or killed."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from pulse.process.development_key import KEY_FILE
from pulse.process.group.member import Member
from tests.support.groups import START_SECONDS, pulse_group
from tests.support.orders import order
from tests.support.processes import (
    DEADLINE_SECONDS,
    ROOT,
    UP,
    environment,
    free_port,
    is_alive,
    postmaster_id,
    processes_in,
    run_to_end,
    until,
)

pytestmark = pytest.mark.timeout(300)  # processes start one after the other
SMALLEST: Final = ("--workers", "1")


def test_members_stop_when_the_supervisor_is_killed_and_so_does_the_embedded_server(
    tmp_path: Path, data_dir: Path
) -> None:
    with pulse_group(tmp_path, *SMALLEST, data_dir=data_dir) as group:
        accepted = group.post(order())
        assert accepted.status_code == 201
        group.until_completed(accepted.json()["order_id"])
        postmaster = postmaster_id(data_dir)
        assert postmaster is not None
        group.send_signal(signal.SIGKILL)
        until(group.has_ended, "the members have ended")
        until(lambda: not is_alive(postmaster), "the embedded server has ended")
    home = tmp_path / "again"
    home.mkdir()
    with pulse_group(home, *SMALLEST, port=group.port, data_dir=data_dir) as group:
        order_id = accepted.json()["order_id"]
        assert group.order(order_id)["order_queue_status"] == "COMPLETED"
        assert group.stop(signal.SIGINT) == 0
        assert processes_in(data_dir / "postgres" / "cluster") == []


@pytest.mark.parametrize(
    ("with_nohup", "then"), [(False, "group.stopping"), (True, "group.restarting")]
)
def test_a_closed_terminal_stops_the_group_unless_nohup_started_it(
    tmp_path: Path, module_database_url: str, *, with_nohup: bool, then: str
) -> None:
    master, slave = pty.openpty()
    settings = {
        "database_url": module_database_url,
        "data_dir": tmp_path / "data",
        "port": free_port(),
        "log_format": "json",
    }
    with (tmp_path / "err").open("ab") as err:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN_ON_TERMINAL, str(int(with_nohup)), *UP, *SMALLEST],
            cwd=ROOT,
            env=environment(settings),
            stdin=slave,
            stdout=slave,
            stderr=err,
            start_new_session=True,
        )
    os.close(slave)
    log = tmp_path / "err"
    try:
        until(
            lambda: "group.serving" in log.read_text() or process.poll() is not None,
            "it serves",
            START_SECONDS,
        )
        assert process.poll() is None, log.read_text()
        os.close(master)
        until(lambda: then in log.read_text() or process.poll() is not None, then)
        if with_nohup:
            process.terminate()
        assert process.wait(DEADLINE_SECONDS) == 0
        assert [name for name in AFTER_HANGUP if name in log.read_text()] == [then]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


RUN_ON_TERMINAL: Final = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
if sys.argv[1] == "1":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
AFTER_HANGUP: Final = ("group.stopping", "group.restarting")


def test_a_port_in_use_ends_the_start_with_an_error(
    module_database_url: str, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"database_url": module_database_url, "data_dir": tmp_path / "data"}
    with pulse_group(tmp_path, *SMALLEST, **settings) as group:
        ended = run_to_end((*UP, "--processes", "2"), port=group.port, **settings)
        assert ended.returncode == 3
        assert "address already in use" in ended.stderr
        assert "Traceback" not in ended.stderr


def test_a_first_process_that_cannot_start_ends_the_group_with_code_3(tmp_path: Path) -> None:
    calendar = tmp_path / "calendar.json"
    calendar.write_text("no calendar")
    ended = run_to_end(
        (*UP, "--processes", "2"),
        port=free_port(),
        market_calendar=calendar,
        data_dir=tmp_path / "data",
    )
    assert ended.returncode == 3
    assert f"the market calendar {calendar} cannot be used:" in ended.stderr
    assert "Traceback" not in ended.stderr


def blocks_hangup(pid: int) -> bool:
    """Whether this process blocks SIGHUP, so that the signal stays pending."""
    status = Path(f"/proc/{pid}/status").read_text()
    (blocked,) = re.findall(r"^SigBlk:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return bool(int(blocked, 16) & 1 << (signal.SIGHUP - 1))


def test_a_member_that_cannot_start_says_why_in_one_line(tmp_path: Path) -> None:
    """As in a restart, if its key file has become readable for others since the group started."""
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o700)
    key = data_dir / KEY_FILE
    key.write_text("0" * 64)
    key.chmod(0o644)
    member = Member(name="api-1", generation=2, members=(), directory=str(tmp_path), control=-1)
    ended = run_to_end(
        ("-m", "pulse.process.group", msgspec.json.encode(member).decode()),
        data_dir=data_dir,
        log_format="json",
    )
    assert ended.returncode == 3
    (line,) = ended.stderr.splitlines()
    assert "is accessible to other users" in json.loads(line)["reason"]


def test_signals_during_the_start_leave_nothing_behind(tmp_path: Path) -> None:
    """SIGHUP (a reload) as soon as the command is imported, and SIGTERM later."""
    data_dir, log = tmp_path / "data", tmp_path / "err"
    with log.open("ab") as err:
        process = subprocess.Popen(
            [sys.executable, *UP, "--processes", "2"],
            cwd=ROOT,
            env=environment({"data_dir": data_dir, "port": free_port(), "log_format": "json"}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=err,
            start_new_session=True,
        )
    try:
        until(lambda: blocks_hangup(process.pid), "the command is imported")
        process.send_signal(signal.SIGHUP)
        until((data_dir / "postgres").exists, "the embedded server is being made")
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0
        assert processes_in(data_dir / "postgres" / "cluster") == []
        assert '"level": "error"' not in log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
