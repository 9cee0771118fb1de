"""The statement of the how-to that compares the log with the seal's entries."""

import re
from pathlib import Path

import psycopg
import pytest

from pulse.postgres import Database
from tests.support.processes import ROOT
from tests.support.seal import append, append_event, seal_all, sealer, tamper

PAGE = (ROOT / "docs" / "how-to" / "check-the-seal.md").read_text()
(STATEMENT,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)


def differing(conninfo: str) -> list[int]:
    """The first leaves of the rows that differ."""
    with psycopg.connect(conninfo) as connection:
        return [row[0] for row in connection.execute(STATEMENT.encode())]


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE stored_events SET state = 'x' WHERE notification_id = 300", [256]),
        ("UPDATE stored_events SET topic = 'x' WHERE notification_id = 1", [0]),
        ("UPDATE stored_events SET recorded_at = now() WHERE notification_id = 600", [512]),
        ("DELETE FROM stored_events WHERE notification_id = 2", [0]),
        ("DELETE FROM stored_events WHERE notification_id > 500", [256, 512]),
        ("UPDATE stored_events SET originator_version = 7 WHERE notification_id = 3", [0]),
        ("INSERT INTO stored_events VALUES (gen_random_uuid(), 1, 'x', '', 602)", [512]),
        ("INSERT INTO stored_events VALUES (gen_random_uuid(), 1, 'x', '', 604)", []),
    ],
)
async def test_every_change_of_a_sealed_event_is_found(
    database: Database, conninfo: str, tmp_path: Path, statement: str, found: list[int]
) -> None:
    append(conninfo, 600)
    append_event(conninfo, "x" * 300, None)
    tamper(conninfo, "SELECT setval('stored_events_notification_id_seq', 602)")
    append(conninfo)
    await seal_all(sealer(database, tmp_path / "anchors.txt"))
    assert differing(conninfo) == []
    tamper(conninfo, statement)
    assert differing(conninfo) == found
