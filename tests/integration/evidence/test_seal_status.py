"""The status of the seal: each read checks the signature, the root and the last event."""

from pathlib import Path

import pytest

from pulse.application.seal_status import SealReader
from pulse.evidence.note import Checkpoint, VerifierKey
from pulse.postgres import Database
from tests.support.seal import KEY, OTHER_KEY, append, seal_all, sealer, tamper


def reader(database: Database, key: VerifierKey | None = KEY.verifier) -> SealReader:
    return SealReader(database, lambda: key)


async def root_of(database: Database) -> bytes:
    status = await reader(database).status()
    assert status is not None
    assert status.checkpoint is not None
    return status.checkpoint.root


@pytest.fixture
async def sealed(database: Database, conninfo: str, tmp_path: Path) -> Database:
    append(conninfo, 300)
    await seal_all(sealer(database, tmp_path / "anchors.txt"))
    return database


async def test_without_a_seal_there_is_no_checkpoint_and_no_fault(database: Database) -> None:
    status = await reader(database).status()
    assert status is not None
    assert (status.checkpoint, status.has_root, status.faults) == (None, None, ())


@pytest.mark.parametrize("key", [KEY.verifier, None], ids=["of the process", "of the database"])
async def test_a_sealed_log_passes_every_check(sealed: Database, key: VerifierKey | None) -> None:
    status = await reader(sealed, key).status()
    assert status is not None
    assert status.checkpoint is not None
    assert (status.checkpoint.size, status.health.position) == (300, 300)
    assert (status.faults, status.has_root) == ((), True)
    assert status.key_origin == ("DATABASE" if key is None else "PROCESS")
    assert status.key_name == "pulse.example/log"


async def test_after_a_fork_the_same_key_signs_under_another_name(
    sealed: Database, conninfo: str
) -> None:
    named = KEY.named("pulse.example/log/fork-0123456789ab")
    note = Checkpoint(named.verifier.name, 300, await root_of(sealed)).signed_by(named)
    tamper(
        conninfo, f"UPDATE seal_state SET verifier_key = '{named.verifier}', checkpoint = '{note}'"
    )
    status = await reader(sealed).status()
    assert status is not None
    assert (status.faults, status.key_origin) == ((), "PROCESS")
    assert status.key_name == named.verifier.name


async def test_without_the_right_to_read_the_seal_there_is_no_status(
    sealed: Database, conninfo: str
) -> None:
    tamper(conninfo, "REVOKE SELECT ON seal_state FROM pulse_runtime")
    assert await reader(sealed).status() is None


async def test_another_key_is_a_fault(sealed: Database) -> None:
    status = await reader(sealed, OTHER_KEY.verifier).status()
    assert status is not None
    assert status.checkpoint is not None
    assert status.faults == ("the note has no signature of the key pulse.example/log",)


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        (
            "UPDATE seal_state SET checkpoint = replace(checkpoint, '300', '299')",
            "a signature of the key pulse.example/log is wrong",
        ),
        ("UPDATE seal_state SET checkpoint = 'nothing'", "a note has a text"),
        ("DELETE FROM stored_events WHERE notification_id = 300", "is not in the log"),
        ("DELETE FROM seal_nodes", "does not have the root"),
    ],
    ids=["signature", "note", "event", "nodes"],
)
async def test_tampering_is_a_fault(
    sealed: Database, conninfo: str, statement: str, fault: str
) -> None:
    tamper(conninfo, statement)
    status = await reader(sealed).status()
    assert status is not None
    assert any(fault in found for found in status.faults), status.faults
