"""No part of a faulty PULSE_DATABASE_URL is printed, by Pulse or by libpq."""

from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from tests.support.cli import run_pulse
from tests.support.processes import run_to_end

PULSE = ("-m", "pulse.cli")


def test_a_url_with_an_unescaped_password_is_refused_without_printing_it(tmp_path: Path) -> None:
    for url in (
        "postgresql://mallory:s3cret@hidden@127.0.0.1:1/pulse",
        "postgresql://mallory:9731/hidden@127.0.0.1:1/pulse",
    ):
        refused = run_pulse("up", database_url=url, data_dir=tmp_path)
        assert refused.exit_code == 2
        said = refused.out + refused.err
        assert "PULSE_DATABASE_URL" in said
        assert "Traceback" not in said
        assert not [part for part in ("mallory", "s3cret", "hidden", "9731") if part in said]


def test_parts_of_the_url_in_errors_of_libpq_or_the_server_are_not_printed(
    conninfo: str,
) -> None:
    server = conninfo_to_dict(conninfo)
    where = f"host={server['host']}&port={server.get('port', 5432)}"
    for url in (
        f'postgresql://mal"lory:s3cret@/pulse?{where}',
        f"postgresql://{server['user']}@/pulse?{where}&options=-c%20hidden%3Ds3cret",
    ):
        refused = run_to_end((*PULSE, "migrate"), database_url=url)
        assert refused.returncode == 3
        said = refused.stdout + refused.stderr
        assert "pulse: " in said
        secrets = ("mal", "lory", "s3cret", "hidden", "/pulse")
        assert not [part for part in secrets if part in said], said
