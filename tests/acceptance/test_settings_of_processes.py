"""Invalid PULSE_* values end each start at once, with one message and exit code 2."""

from pathlib import Path

import pytest

from tests.support.cli import run_pulse
from tests.support.processes import UP, free_port, run_to_end, uvicorn_on

COMMANDS = [UP, uvicorn_on(free_port())]
WRONG = {"port": "abc", "batch_size": 0, "poll_interval_seconds": -1}


@pytest.mark.parametrize("command", COMMANDS, ids=["pulse up", "uvicorn"])
def test_wrong_settings_are_all_named_in_one_message(command: tuple[str, ...]) -> None:
    ended = run_to_end(command, **WRONG)
    assert ended.returncode == 2
    for name, value in WRONG.items():
        (line,) = [text for text in ended.stderr.splitlines() if f"PULSE_{name.upper()}" in text]
        assert str(value) in line
        assert "expected" in line
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


@pytest.mark.parametrize(
    "url", ["mysql://pulse:s3cret@127.0.0.1/pulse", "postgresql://pulse:s3cret%zz@127.0.0.1/pulse"]
)
def test_a_wrong_database_url_is_refused_without_its_password(url: str) -> None:
    ended = run_pulse("up", database_url=url)
    assert ended.exit_code == 2
    assert "PULSE_DATABASE_URL" in ended.err
    assert "s3cret" not in ended.err + ended.out
    assert "Traceback" not in ended.err


def test_uvicorn_too_refuses_a_wrong_database_url_without_its_password() -> None:
    command = uvicorn_on(free_port())
    ended = run_to_end(command, database_url="mysql://pulse:s3cret@127.0.0.1/pulse")
    assert ended.returncode == 2
    assert "PULSE_DATABASE_URL" in ended.stderr
    assert "s3cret" not in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "pulse.cli", "status"),
        ("-m", "pulse.cli", "token", "--subject", "a"),
        ("-m", "pulse.background"),
        UP,
        uvicorn_on(free_port()),
    ],
    ids=["status", "token", "background", "up", "uvicorn"],
)
def test_a_misspelt_variable_is_named_at_every_start(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")  # nothing can start there: every command ends at once
    ended = run_to_end(command, data_dir=tmp_path / "file", batchsize="s3cret")
    (line,) = [text for text in ended.stderr.splitlines() if "PULSE_BATCHSIZE" in text]
    assert "settings.unknown_variable" in line
    assert "PULSE_BATCH_SIZE" in line
    assert "s3cret" not in ended.stderr + ended.stdout
