"""The rights that sealing needs; a rebuild does not change the seal."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow

from pulse.evidence.tree import SealedLog
from pulse.postgres import Database
from tests.support.cli import run_pulse
from tests.support.seal import append, append_event, seal_all, sealer

TABLES = ("seal_entries", "seal_nodes", "seal_keys", "seal_state")


def as_owner(conninfo: str, *statements: str) -> None:
    with psycopg.connect(conninfo) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.fixture
def role(conninfo: str) -> Iterator[str]:
    """A role with the rights that docs/reference/seal.md names, and no others."""
    name = f"pulse_{uuid4().hex[:12]}"
    as_owner(
        conninfo,
        f"CREATE ROLE {name} LOGIN",
        f"GRANT SELECT ON stored_events TO {name}",
        f"GRANT USAGE ON SEQUENCE stored_events_notification_id_seq TO {name}",
        f"GRANT SELECT, INSERT ON seal_entries, seal_nodes, seal_keys TO {name}",
        f"GRANT SELECT, UPDATE ON seal_state TO {name}",
        f"GRANT EXECUTE ON FUNCTION recorded_events, last_issued_id, seal_entry TO {name}",
    )
    yield name
    as_owner(conninfo, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def sealed_as(conninfo: str, anchors: Path) -> str:
    """Seal with this role, and return the checkpoint."""

    async def seal() -> str:
        database = Database(conninfo, pool_size=1)
        await database.open()
        try:
            await seal_all(sealer(database, anchors))
            return await SealedLog(database).checkpoint()
        finally:
            await database.close()

    return asyncio.run(seal())


def content(conninfo: str) -> list[list[TupleRow]]:
    with psycopg.connect(conninfo) as connection:
        return [connection.execute(f"TABLE {table}".encode()).fetchall() for table in TABLES]


def test_a_role_seals_without_the_right_to_change_what_is_sealed(
    conninfo: str, role: str, tmp_path: Path
) -> None:
    append(conninfo, 300)
    restricted = make_conninfo(conninfo, user=role)
    assert sealed_as(restricted, tmp_path / "anchors.txt").split("\n")[1] == "300"
    for statement in (
        "UPDATE seal_entries SET entries = ''",
        "DELETE FROM seal_nodes",
        "TRUNCATE seal_keys",
        "DELETE FROM seal_state",
        "INSERT INTO stored_events VALUES (gen_random_uuid(), 1, '', '')",
    ):
        with (
            psycopg.connect(restricted) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"),
        ):
            connection.execute(statement.encode())


def test_a_rebuild_leaves_the_seal_alone(conninfo: str, tmp_path: Path) -> None:
    for _ in range(3):
        append_event(conninfo, "other:topic")
    sealed_as(conninfo, tmp_path / "anchors.txt")
    before = content(conninfo)
    assert run_pulse("rebuild", conninfo=conninfo).exit_code == 0
    assert content(conninfo) == before
