"""PG* variables do not affect the embedded server; with a URL they mean what libpq documents."""

from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from tests.support.cli import run_pulse
from tests.support.orders import order
from tests.support.processes import pulse, run_to_end, until, url_of

PULSE = ("-m", "pulse.cli")
MIGRATE = (*PULSE, "migrate")
OTHER_VARIABLES = ("PGSERVICEFILE", "PGSYSCONFDIR", "PGDATESTYLE", "PGTZ", "PGGEQO", "PGDATA")
NAMES = [option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar]


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable that libpq reads has an invalid value."""
    for name in (*NAMES, *OTHER_VARIABLES):
        monkeypatch.setenv(name, "hostile")


@pytest.mark.usefixtures("hostile")
def test_the_embedded_server_ignores_the_environment_of_libpq(
    tmp_path: Path,
) -> None:
    data_dir = tmp_path / "data"
    migrated = run_to_end(MIGRATE, data_dir=data_dir)
    assert migrated.returncode == 0, migrated.stderr
    with pulse(tmp_path, data_dir=data_dir) as process:
        order_id = process.post(order()).json()["order_id"]
        process.until_completed(order_id)
        until(lambda: process.http.get("/health/ready").status_code == 200, "it is ready")
        replayed = run_to_end((*PULSE, "replay", order_id), data_dir=data_dir)
        assert replayed.returncode == 0, replayed.stderr


@pytest.mark.parametrize("name", ["PGSERVICE", "PGHOSTADDR", "PGSSLMODE", "PGOPTIONS"])
def test_the_embedded_server_ignores_each_variable(
    name: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "hostile")
    migrated = run_pulse("migrate", data_dir=data_dir)
    assert migrated.exit_code == 0, migrated.err


def test_with_a_url_the_variables_mean_what_libpq_documents(
    conninfo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    server = conninfo_to_dict(conninfo)
    monkeypatch.setenv("PGHOST", str(server["host"]))
    monkeypatch.setenv("PGPORT", str(server.get("port", 5432)))
    monkeypatch.setenv("PGUSER", str(server["user"]))
    found = run_to_end(MIGRATE, database_url=f"postgresql:///{server['dbname']}")
    assert found.returncode == 0, found.stderr
    monkeypatch.setenv("PGSERVICE", "missing")
    refused = run_to_end(MIGRATE, database_url=url_of(conninfo))
    assert refused.returncode != 0
    assert "service" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1, refused.stderr
