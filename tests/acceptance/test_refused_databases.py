"""An unsuitable database ends the start with one error line."""

from pathlib import Path

import pytest

from tests.support.database import database_in
from tests.support.processes import UP, run_to_end, url_of

BACKGROUND = ("-m", "pulse.background")


@pytest.mark.parametrize("command", [UP, BACKGROUND], ids=["pulse up", "pulse.background"])
def test_a_database_that_is_not_in_utf8_ends_the_start(
    postgres: str, tmp_path: Path, command: tuple[str, ...]
) -> None:
    with database_in("LATIN1", postgres) as conninfo:
        ended = run_to_end(
            command, database_url=url_of(conninfo), data_dir=tmp_path, log_level="error"
        )
    assert ended.returncode == 3
    assert ended.stderr.count("encoding is LATIN1, Pulse needs UTF8") == 1, ended.stderr
    assert "Traceback" not in ended.stderr
