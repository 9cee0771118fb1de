"""PULSE_DATABASE_URL: what libpq could not read is refused, and nothing of it is repeated."""

import re
from pathlib import Path

import pytest

from pulse.database_url import checked_url, settings_of_options

SECRETS = ("s3cret", "mallory", "hidden", "9731")

RIGHT = [
    "postgresql://db.example/pulse",
    "postgres://pulse@db_1:5432/pulse",
    "postgresql:///pulse",
    "postgresql://",
    "postgresql://mallory:s3cret@db.example:5432/pulse",
    "postgresql://mallory:s3%40cr%2Fet%3A%25@db.example/pulse",
    "postgresql://mallory%40tenant:s3c:r?e#t@db.example/pulse",
    "postgresql://[::1]:5432/pulse",
    "postgresql://pulse@/pulse?host=db1,db2&port=5432,5433&target_session_attrs=read-write",
    "postgresql://a,b,c:5432/pulse",
    "postgresql://a:1,b:2/pulse",
    "postgresql://%2Fvar%2Frun%2Fpostgresql/pulse",
    "postgresql:///pulse?host=/run/a b".replace(" ", "%20"),
    "postgresql:///pulse?hostaddr=127.0.0.1&sslmode=verify-full&ssl_min_protocol_version=tlsv1.2",
    "postgresql:///pulse?options=-c%20search_path%3Dpulse%20-cwork_mem%3D4MB%20--jit%3Don%20-e",
    "postgresql:///pulse?connect_timeout=3&keepalives=1&require_auth=!password,scram-sha-256",
    "postgresql:///?service=pulse",
]

WRONG = [
    "mysql://mallory:s3cret@db/pulse",
    "host=db password=s3cret",
    "postgresql://mallory:s3cret@hidden@db/pulse",
    "postgresql://mallory:@s3cret@db/pulse",
    "postgresql://mallory:s3cret/hidden@db/pulse",
    "postgresql://mallory:9731/s3cret@db/pulse",
    "postgresql://mallory:9731/s3cret?user=hidden@db/pulse",
    "postgresql://mallory:s3cret/pulse",
    "postgresql://db:s3cret/pulse",
    "postgresql://db:97319731/pulse",
    "postgresql://db:0/pulse",
    "postgresql://mallory:s3cret%@db/pulse",
    "postgresql://mallory:s3cret%zz@db/pulse",
    "postgresql://mallory:s3cret%00@db/pulse",
    "postgresql://mallory:s3cret@[::1/pulse",
    "postgresql://mallory:s3cret@hidden;db/pulse",
    "postgresql://mallory:s3cret@hid%40den/pulse",
    "postgresql://mallory:s3cret@hidden db/pulse",
    "postgresql://mallory:s3cret@hid\tden/pulse",
    "postgresql://mallory:s3cret@db/pulse?hidden=1",
    "postgresql://mallory:s3cret@db/pulse?hidden",
    "postgresql://mallory:s3cret@db/pulse?password=a=hidden",
    "postgresql://mallory@db/pulse?password=s3cret@hidden",
    "postgresql://mallory@db/pulse?sslmode=s3cret",
    "postgresql://mallory@db/pulse?sslnegotiation=s3cret",
    "postgresql://mallory@db/pulse?channel_binding=s3cret",
    "postgresql://mallory@db/pulse?gssencmode=s3cret",
    "postgresql://mallory@db/pulse?target_session_attrs=s3cret",
    "postgresql://mallory@db/pulse?load_balance_hosts=s3cret",
    "postgresql://mallory@db/pulse?ssl_min_protocol_version=s3cret",
    "postgresql://mallory@db/pulse?require_auth=s3cret",
    "postgresql://mallory@db/pulse?connect_timeout=s3cret",
    "postgresql://mallory@db/pulse?keepalives=s3cret",
    "postgresql://mallory@db/pulse?tcp_user_timeout=s3cret",
    "postgresql://mallory@db/pulse?replication=s3cret",
    "postgresql://mallory@db/pulse?options=s3cret",
    "postgresql://mallory@db/pulse?options=-c%20s3cret",
    "postgresql://mallory@db/pulse?options=--s3cret",
    "postgresql://mallory@db/pulse?hostaddr=s3cret",
    "postgresql://mallory@db/pulse?host=hidden,db2&port=9731,9731,9731",
    "postgresql://mallory@db/pulse?host=hidden&hostaddr=10.9.7.31,10.9.7.32",
]


@pytest.mark.parametrize("url", RIGHT)
def test_a_url_that_libpq_can_read_is_unchanged(url: str) -> None:
    assert checked_url(url) == url


@pytest.mark.parametrize("url", WRONG)
def test_a_url_that_libpq_cannot_read_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="a Postgres URL such as") as refused:
        checked_url(url)
    assert not [secret for secret in SECRETS if secret in str(refused.value)]


def test_the_part_at_fault_is_named() -> None:
    with pytest.raises(ValueError, match=re.escape("a port is not a whole number")):
        checked_url("postgresql://db:x/pulse")
    with pytest.raises(ValueError, match="the value of sslmode"):
        checked_url("postgresql://db/pulse?sslmode=x")


def test_a_passfile_that_libpq_would_complain_of_on_stderr_is_refused(tmp_path: Path) -> None:
    passfile = tmp_path / "hidden"
    passfile.touch(0o644)
    for wrong in (passfile, tmp_path):
        with pytest.raises(ValueError, match="the value of passfile") as refused:
            checked_url(f"postgresql:///pulse?passfile={wrong}")
        assert "hidden" not in str(refused.value)
    passfile.chmod(0o600)
    assert checked_url(f"postgresql:///pulse?passfile={passfile}")


def test_settings_are_read_from_options_as_the_server_reads_them() -> None:
    options = r"-c search_path=a\ b -cwork_mem=4MB --statement-timeout=5s -e --jit=off=x"
    assert settings_of_options(options) == {
        "search_path": "a b",
        "work_mem": "4MB",
        "statement_timeout": "5s",
        "jit": "off=x",
    }
    assert settings_of_options("") == {}


@pytest.mark.parametrize("options", ["-c", "-c jit", "--jit", "jit=on", "-c -c jit=on"])
def test_options_that_a_server_would_repeat_in_its_error_are_refused(options: str) -> None:
    with pytest.raises(ValueError, match="not a server"):
        settings_of_options(options)
