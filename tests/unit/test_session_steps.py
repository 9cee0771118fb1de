"""What makes a session unfit, judged by what the server says is in force."""

from collections.abc import Sequence
from typing import Any

import pytest

from pulse.postgres import Limits, SessionUnfit
from pulse.postgres.limits import session_settings
from pulse.postgres.pooler import settings_of_options
from pulse.postgres.session_steps import Ask, verification

FIT = {
    **session_settings(Limits()),
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


def judged(found: dict[str, Any]) -> str:
    """Where the names of a session with these settings lead, should it be fit."""
    steps = verification(Limits())
    assert isinstance(next(steps), Ask)
    rows: Sequence[tuple[str, Any]] = list(found.items())
    with pytest.raises(StopIteration) as end:
        steps.send(rows)
    schema: str = end.value.value
    return schema


def test_a_session_as_it_is_needed_is_fit() -> None:
    assert judged(FIT) == "public"


def test_a_setting_that_an_older_version_does_not_know_is_not_missed() -> None:
    assert judged({name: value for name, value in FIT.items() if name != "transaction_timeout"})


def test_functions_are_never_looked_up_among_temporary_objects() -> None:
    assert judged({**FIT, "schemas": "pg_temp_3,pg_catalog,public"}) == "public"


def test_on_a_local_socket_there_is_nothing_to_keep_alive() -> None:
    assert judged({**FIT, "tcp_user_timeout": "0", "tcp_keepalives_idle": "0"})


@pytest.mark.parametrize("name", session_settings(Limits()))
def test_every_setting_must_be_in_force(name: str) -> None:
    steps = verification(Limits())
    next(steps)
    with pytest.raises(SessionUnfit, match=name) as unfit:
        steps.send([*FIT.items(), (name, "another")])
    assert unfit.value.lasting


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("server_version_num", "140011", "needs Postgres 15 or newer"),
        ("server_encoding", "LATIN1", "encoding is LATIN1 and Pulse needs UTF8"),
        ("current_schema", None, "search_path"),
        ("schemas", "public,pg_catalog", "before pg_catalog"),
        ("schemas", "pg_temp_3,public,pg_catalog", "before pg_catalog"),
        ("transaction_isolation", "serializable", "transaction_isolation"),
        ("session_replication_role", "replica", "session_replication_role"),
    ],
)
def test_what_a_person_must_change_is_named_and_lasts(
    name: str, value: str | None, reason: str
) -> None:
    steps = verification(Limits())
    next(steps)
    with pytest.raises(SessionUnfit, match=reason) as unfit:
        steps.send([*FIT.items(), (name, value)])
    assert unfit.value.lasting


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("in_recovery", "true", "standby"),
        ("default_transaction_read_only", "on", "default_transaction_read_only is on"),
        ("transaction_read_only", "on", "transaction_read_only is on"),
    ],
)
def test_what_may_pass_is_named_and_does_not_last(name: str, value: str, reason: str) -> None:
    steps = verification(Limits())
    next(steps)
    with pytest.raises(SessionUnfit, match=reason) as unfit:
        steps.send([*FIT.items(), (name, value)])
    assert not unfit.value.lasting


def test_settings_are_read_from_options_as_the_server_reads_them() -> None:
    options = r"-c search_path=a\ b -cwork_mem=4MB --statement-timeout=5s -e --jit=off=x"
    assert settings_of_options(options) == {
        "search_path": "a b",
        "work_mem": "4MB",
        "statement_timeout": "5s",
        "jit": "off=x",
    }
    assert settings_of_options("") == {}
