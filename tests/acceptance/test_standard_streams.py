"""Standard streams that are full, closed or unread: servers go on, commands exit cleanly."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.processes import (
    DEADLINE_SECONDS,
    PLAIN_HTTP,
    ROOT,
    environment,
    free_port,
    postmaster_file,
    until,
)

SHOW = "splitter show --total 1000 --splits 20 --duration 60"
FULL = "/dev/full"
BAD = [">/dev/full 2>{err}", ">&- 2>{err}", "2>/dev/full >{err}"]


def shell(command: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run a `pulse` command line with redirections in a shell, to its end."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m pulse.cli {command}"],
        cwd=ROOT,
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


@contextlib.contextmanager
def up(redirection: str, **settings: object) -> Iterator["subprocess.Popen[bytes]"]:
    line = f"exec {sys.executable} -m pulse.cli up {redirection}"
    process = subprocess.Popen(["bash", "-c", line], cwd=ROOT, env=environment(settings))
    try:
        yield process
    finally:
        process.kill()
        process.wait(DEADLINE_SECONDS)


def answers(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url, trust_env=False, verify=PLAIN_HTTP).is_success
    return False


@pytest.mark.parametrize("redirection", BAD)
def test_a_process_with_unusable_streams_serves_and_stops_cleanly(
    tmp_path: Path, module_database_url: str, redirection: str
) -> None:
    port, err = free_port(), tmp_path / "err"
    line = redirection.format(err=err)
    with up(line, port=port, database_url=module_database_url) as process:
        until(lambda: answers(f"http://127.0.0.1:{port}/pulse/health/ready"), "it serves")
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0
    assert "Traceback" not in err.read_text()


def test_with_all_streams_closed_the_embedded_server_starts_and_stops(data_dir: Path) -> None:
    port = free_port()
    with up("<&- >&- 2>&-", port=port, data_dir=data_dir) as process:
        until(lambda: answers(f"http://127.0.0.1:{port}/pulse/health/ready"), "it serves")
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0
    assert not postmaster_file(data_dir).exists()


def test_a_process_serves_if_nothing_reads_its_greeting(data_dir: Path) -> None:
    port = free_port()
    read, write = os.pipe()
    os.close(read)
    process = subprocess.Popen(
        [sys.executable, "-m", "pulse.cli", "up"],
        cwd=ROOT,
        env=environment({"port": port, "data_dir": data_dir}),
        stdout=write,
        stderr=write,
    )
    os.close(write)
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/pulse/health/ready"), "it serves")
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0
    finally:
        process.kill()
        process.wait(DEADLINE_SECONDS)
    assert not postmaster_file(data_dir).exists()


@pytest.mark.parametrize(
    ("command", "buffered"),
    [("--version", True), (SHOW, True), (SHOW, False)],
    ids=["version", "buffered", "unbuffered"],
)
def test_a_full_output_ends_a_command_with_one_error_line(
    monkeypatch: pytest.MonkeyPatch, command: str, *, buffered: bool
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", "" if buffered else "1")
    ended = shell(f"{command} >{FULL}")
    assert ended.returncode == 1
    assert ended.stderr.startswith("pulse: the output cannot be written: No space left on device")
    assert ended.stderr.count("\n") == 1


def test_with_both_outputs_full_the_exit_code_is_1() -> None:
    assert shell(f"{SHOW} >{FULL} 2>{FULL}").returncode == 1


@pytest.mark.parametrize("command", ["--help", SHOW])
def test_an_unread_output_ends_a_command_silently(command: str) -> None:
    unread = shell(f"{command} | head -1")
    assert (unread.returncode, unread.stderr) in {(141, ""), (0, "")}


def test_a_closed_output_ends_a_command_silently() -> None:
    closed = shell(f"{SHOW} >&-")
    assert (closed.returncode, closed.stderr) == (0, "")


@pytest.mark.parametrize(
    ("redirection", "settings", "code"),
    [
        (f"2>{FULL}", {"batch_size": 0}, 2),
        (f"2>{FULL}", {}, 3),
        ("2>&-", {}, 3),
        ("<&- >&- 2>&-", {}, 3),
    ],
)
def test_an_error_that_cannot_be_printed_keeps_its_exit_code(
    tmp_path: Path, redirection: str, settings: dict[str, object], code: int
) -> None:
    ended = shell(f"status {redirection}", data_dir=tmp_path, **settings)
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", "")
