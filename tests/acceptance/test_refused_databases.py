"""An unsuitable database ends the start with one error line."""

from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from tests.support.database import database_in
from tests.support.pgbouncer import PASSWORD, PGBOUNCER, pgbouncer
from tests.support.processes import run_to_end, url_of

UP = ("-m", "pulse.cli", "up")
BACKGROUND = ("-m", "pulse.background")


def assert_refused(reason: str, tmp_path: Path, database_url: str) -> None:
    for command in (UP, BACKGROUND):
        ended = run_to_end(command, database_url=database_url, data_dir=tmp_path, log_level="error")
        assert ended.returncode == 3
        assert ended.stderr.count(reason) == 1, ended.stderr
        assert "Traceback" not in ended.stderr


@pytest.mark.skipif(PGBOUNCER is None, reason="no PgBouncer on this machine")
def test_a_pooler_that_shares_sessions_ends_the_start(conninfo: str, tmp_path: Path) -> None:
    with pgbouncer(conninfo, pool_mode="transaction") as address:
        url = url_of(make_conninfo(address, password=PASSWORD))
        assert_refused("pooler in transaction or statement mode", tmp_path, url)


def test_a_database_that_is_not_in_utf8_ends_the_start(postgres: str, tmp_path: Path) -> None:
    with database_in("LATIN1", postgres) as conninfo:
        assert_refused("encoding is LATIN1, Pulse needs UTF8", tmp_path, url_of(conninfo))
