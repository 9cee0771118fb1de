"""With an invalid market calendar no process starts; the error names the line of the file."""

from pathlib import Path

import pytest

from tests.support.calendars import calendar_file, exchange, holiday, text_of
from tests.support.processes import UP, free_port, run_to_end, uvicorn_on

COMMANDS = [UP, uvicorn_on(free_port())]


@pytest.mark.parametrize("command", COMMANDS, ids=["pulse up", "uvicorn"])
def test_the_line_of_the_error_is_named(command: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "calendar.json"
    path.write_text(text_of(calendar_file(exchange(holidays=[holiday("2026-02-30")]))))
    ended = run_to_end(command, market_calendar=path, data_dir=tmp_path / "data", port=free_port())
    assert ended.returncode == 3
    said = ended.stdout + ended.stderr
    assert f"the market calendar {path} cannot be used:" in said
    assert "exchanges.NSE.holidays[0].date: expected a date, such as 2026-01-26" in said
    assert "line 3" in said
    assert "Traceback" not in said
    assert not (tmp_path / "data" / "postgres").exists()
