"""Notices about the seal, and what `pulse status` shows of it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pulse.evidence.note import SigningKey
from pulse.postgres import Database
from tests.support.cli import run_pulse
from tests.support.seal import KEY, append, seal_all, sealer, tamper


@pytest.fixture
def anchors(tmp_path: Path) -> Path:
    return tmp_path / "anchors.txt"


def seal(conninfo: str, anchors: Path) -> None:
    """Seal what the log has."""

    async def sealed() -> None:
        database = Database(conninfo, pool_size=1)
        await database.open()
        try:
            await seal_all(sealer(database, anchors))
        finally:
            await database.close()

    asyncio.run(sealed())


def status(conninfo: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run_pulse("status", "--json", conninfo=conninfo).out)
    return found


def of_seal(found: dict[str, Any]) -> dict[str, bool]:
    """The notices about the seal, and whether each needs a person."""
    return {n["code"]: n["needs_person"] for n in found["notices"] if "seal" in n["code"]}


def record(conninfo: str, seconds_ago: int) -> None:
    """Append an event that was recorded that long ago."""
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            "INSERT INTO stored_events (originator_id, originator_version, topic, state,"
            " recorded_at) VALUES (gen_random_uuid(), 1, 'other:topic', '',"
            " clock_timestamp() - %s * interval '1 s')",
            (seconds_ago,),
        )


def test_a_database_without_a_seal_is_a_notice(conninfo: str) -> None:
    found = status(conninfo)
    assert of_seal(found) == {"not_sealed": False}
    assert found["seal"] is None
    assert "Seal" not in run_pulse("status", conninfo=conninfo).out


def test_status_shows_the_seal(conninfo: str, anchors: Path) -> None:
    append(conninfo, 3)
    seal(conninfo, anchors)
    found = status(conninfo)
    assert of_seal(found) == {}
    assert (found["seal"]["size"], found["seal"]["position"]) == (3, 3)
    assert found["seal"]["verifier_key"] == str(KEY.verifier)
    assert found["seal"]["behind_seconds"] == 0
    text = run_pulse("status", conninfo=conninfo).out
    assert "Seal  3 events sealed\n  position 3 of 3, all sealed\n" in text
    assert str(KEY.verifier) in text


def test_a_seal_that_is_behind_is_a_notice(conninfo: str, anchors: Path) -> None:
    append(conninfo)
    seal(conninfo, anchors)
    record(conninfo, 20)
    assert of_seal(status(conninfo)) == {"seal_behind": False}
    tamper(conninfo, "UPDATE seal_state SET sealed_at = sealed_at - interval '20 s'")
    found = status(conninfo)
    assert of_seal(found) == {"seal_behind": True}
    (notice,) = (n for n in found["notices"] if n["code"] == "seal_behind")
    assert "position 1 of 2, and no process is sealing" in notice["message"]


def test_missing_sealed_events_are_a_notice(conninfo: str, anchors: Path) -> None:
    append(conninfo, 3)
    seal(conninfo, anchors)
    tamper(conninfo, "DELETE FROM stored_events WHERE notification_id = 3")
    assert of_seal(status(conninfo)) == {"sealed_events_missing": True}


def test_a_key_of_another_database_is_shown_without_control_characters(
    conninfo: str,
) -> None:
    key = SigningKey("pulse.example/log", bytes(32)).verifier
    tamper(conninfo, f"UPDATE seal_state SET verifier_key = E'\\x1b{key}'")
    ended = run_pulse("status", conninfo=conninfo)
    assert "\\x1b" in ended.out
