"""The command line: help, error lines and exit codes."""

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from pulse.code_version import code_version
from tests.support.cli import run_pulse
from tests.support.orders import order
from tests.support.processes import PLAIN_HTTP, ROOT, environment, free_port, until, url_of

ID = "3f2a8c1e-0000-4000-8000-000000000001"
COMMANDS = [
    ["up"],
    ["api"],
    ["gateway"],
    ["background"],
    ["config"],
    ["doctor"],
    ["token"],
    ["migrate"],
    ["load"],
    ["preview"],
    ["replay"],
    ["export"],
    ["cancel"],
    ["status"],
    ["rebuild"],
    ["verify"],
    ["evidence"],
    ["splitter", "compare"],
    ["splitter", "show"],
    ["splitter", "rules"],
    ["projections", "status"],
    ["projections", "retry"],
    ["orders", "failed"],
    ["calendar", "show"],
    ["calendar", "check"],
]
ON_POSTGRES = [
    ["replay", ID],
    ["replay", ID, "--version", "1"],
    ["export", "-o", "unwritten"],
    ["cancel", ID],
    ["cancel", ID, "--reason", "a test", "--json"],
    ["status"],
    ["status", "--json"],
    ["rebuild"],
    ["projections", "status"],
    ["projections", "retry", "--all"],
    ["orders", "failed"],
    ["orders", "failed", "--json"],
    ["verify"],
    ["verify", "--json"],
    ["evidence", "--list"],
    ["evidence", "--order", ID, "-o", "unwritten"],
    ["splitter", "compare", "--stored", "pulse.domain:split_v1"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_has_its_exit_codes_and_an_example(command: list[str]) -> None:
    ended = run_pulse(*command, "--help")
    assert (ended.exit_code, ended.err) == (0, "")
    assert "Exit codes: 0 " in ended.out
    assert "Example" in ended.out
    assert "pulse " + " ".join(command) in ended.out.partition("Example")[2]
    assert [line for line in ended.out.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("group", [[], ["projections"], ["orders"], ["calendar"]])
def test_a_group_without_a_command_prints_its_help(group: list[str]) -> None:
    ended = run_pulse(*group)
    assert ended.exit_code == 2
    assert ended.out == run_pulse(*group, "--help").out
    assert "Exit codes: 0 " in " ".join(ended.out.split())


def test_the_version_is_printed() -> None:
    assert run_pulse("--version").out == f"pulse {code_version()}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["replay"],
        ["preview"],
        ["cancel"],
        ["cancel", ID, "--reason", "x" * 256],
        ["cancel", ID, "--reason", "\udcff"],
        ["status", "--nothing"],
        ["up", "--port", "0"],
        ["up", "--port", "x"],
        ["orders", "failed", "--limit", "0"],
    ],
    ids=lambda arguments: ascii(" ".join(arguments))[:60],
)
def test_wrong_usage_is_one_line_that_names_the_help(arguments: list[str]) -> None:
    ended = run_pulse(*arguments)
    assert (ended.exit_code, ended.out) == (2, "")
    assert ended.err.startswith("pulse: ")
    assert ended.err.endswith(" --help`\n")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("command", [*ON_POSTGRES, ["migrate"], ["api"]], ids=" ".join)
def test_wrong_settings_end_every_command_with_2(command: list[str]) -> None:
    ended = run_pulse(*command, batch_size=0)
    assert (ended.exit_code, ended.out) == (2, "")
    assert "PULSE_BATCH_SIZE='0': expected" in ended.err


@pytest.mark.parametrize("command", [*ON_POSTGRES, ["migrate"]], ids=" ".join)
def test_an_unreachable_postgres_is_one_error_line_and_exit_code_3(command: list[str]) -> None:
    url = f"postgresql://pulse:s3cret@127.0.0.1:{free_port()}/pulse"
    ended = run_pulse(*command, database_url=url)
    assert (ended.exit_code, ended.out) == (3, "")
    assert ended.err.startswith("pulse: Postgres cannot be reached: ")
    assert "check PULSE_DATABASE_URL" in ended.err
    assert "s3cret" not in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("command", ON_POSTGRES, ids=" ".join)
def test_an_outdated_schema_is_one_error_line_and_exit_code_3(
    command: list[str], empty_conninfo: str
) -> None:
    ended = run_pulse(*command, conninfo=empty_conninfo)
    assert (ended.exit_code, ended.out) == (3, "")
    assert "`pulse migrate`" in ended.err
    assert ended.err.count("\n") == 1


def test_migrate_makes_the_schema_current_and_then_finds_nothing_to_do(empty_conninfo: str) -> None:
    first, second = (run_pulse("migrate", conninfo=empty_conninfo) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.out.splitlines()[-1] == second.out.strip()
    assert run_pulse("status", database_url=url_of(empty_conninfo)).exit_code == 0


def test_an_unusable_data_directory_is_one_error_line_and_exit_code_3(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = run_pulse("status", data_dir=tmp_path / "file")
    assert (ended.exit_code, ended.out) == (3, "")
    assert "PULSE_DATA_DIR" in ended.err


def start(*arguments: str, **settings: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "pulse.cli", *arguments],
        cwd=ROOT,
        env=environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_api_and_background_share_the_work_and_stop_cleanly(conninfo: str) -> None:
    port = free_port()
    settings: dict[str, object] = {"database_url": url_of(conninfo), "port": free_port()}
    api = start("api", "--port", str(port), "--host", "localhost", **settings)
    background = start("background", **settings)
    try:
        assert api.stdout is not None
        assert api.stdout.readline() == f"The Pulse API listens on http://localhost:{port}\n"
        url = f"http://localhost:{port}/internal/orders"
        with httpx.Client(trust_env=False, verify=PLAIN_HTTP) as http:
            answer = http.post(url, json=order())
            assert answer.status_code == 201
            order_url = f"{url}/{answer.json()['order_id']}"
            until(
                lambda: http.get(order_url).json()["order_queue_status"] == "COMPLETED",
                "the order is split",
            )
        assert "Workers  1 present" in run_pulse("status", conninfo=conninfo).out
        background.send_signal(signal.SIGTERM)
        api.send_signal(signal.SIGINT)
        assert (background.wait(20), api.wait(20)) == (0, 0)
    finally:
        for process in (api, background):
            process.kill()
            process.wait(20)
            if process.stdout is not None:
                process.stdout.close()
