"""What makes a session unfit, judged by what the server says is in force."""

import pytest

from pulse.postgres import PostgresLimits, SessionUnfit
from pulse.postgres.limits import session_settings
from pulse.postgres.session import require_fit, require_known

NEEDED = session_settings(PostgresLimits())
FIT: dict[str, str | None] = {
    **NEEDED,
    "server_version_num": "150004",
    "server_version": "15.4",
    "server_encoding": "UTF8",
    "transaction_read_only": "off",
    "default_transaction_read_only": "off",
    "transaction_isolation": "read committed",
    "session_replication_role": "origin",
    "in_recovery": "false",
    "current_schema": "public",
    "schemas": "pg_catalog,public",
}


def test_a_session_with_every_needed_setting_is_fit() -> None:
    require_fit(FIT, NEEDED)


def test_a_setting_that_an_older_version_does_not_have_is_not_required() -> None:
    require_known({"transaction_timeout"})


def test_another_missing_setting_shows_that_the_server_is_not_postgres() -> None:
    with pytest.raises(SessionUnfit, match="exit_on_error, jit: Pulse needs Postgres") as unfit:
        require_known({"jit", "transaction_timeout", "exit_on_error"})
    assert unfit.value.is_permanent


def test_temporary_objects_may_come_before_pg_catalog() -> None:
    """Postgres never looks up functions among them."""
    require_fit({**FIT, "schemas": "pg_temp_3,pg_catalog,public"}, NEEDED)


@pytest.mark.parametrize("name", NEEDED)
def test_every_setting_must_be_in_force(name: str) -> None:
    with pytest.raises(SessionUnfit, match=name) as unfit:
        require_fit({**FIT, name: "another"}, NEEDED)
    assert unfit.value.is_permanent


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("server_version_num", "140011", "needs Postgres 15 or newer"),
        ("server_encoding", "LATIN1", "encoding is LATIN1, Pulse needs UTF8"),
        ("current_schema", None, "search_path"),
        ("schemas", "public,pg_catalog", "before pg_catalog"),
        ("schemas", "pg_temp_3,public,pg_catalog", "before pg_catalog"),
        ("transaction_isolation", "serializable", "transaction_isolation"),
        ("session_replication_role", "replica", "session_replication_role"),
    ],
)
def test_a_fault_that_a_person_must_fix_is_named_and_is_permanent(
    name: str, value: str | None, reason: str
) -> None:
    with pytest.raises(SessionUnfit, match=reason) as unfit:
        require_fit({**FIT, name: value}, NEEDED)
    assert unfit.value.is_permanent


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("in_recovery", "true", "standby"),
        ("default_transaction_read_only", "on", "default_transaction_read_only is on"),
        ("transaction_read_only", "on", "transaction_read_only is on"),
    ],
)
def test_a_fault_that_may_pass_is_named_and_is_not_permanent(
    name: str, value: str, reason: str
) -> None:
    with pytest.raises(SessionUnfit, match=reason) as unfit:
        require_fit({**FIT, name: value}, NEEDED)
    assert not unfit.value.is_permanent
