"""Declared forks of a restored log: the log is sealed again, and auditors find the fork."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import msgspec
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pulse.eventstore import EventMapper
from pulse.evidence.anchors import AnchorFile, read_notes
from pulse.evidence.chain import declared_fork, require_chain
from pulse.evidence.key_file import create_key_file
from pulse.evidence.log_fork import Forked, ForkPlan, ForkRefused, LogForker
from pulse.evidence.losses import LostEvents
from pulse.evidence.note import Checkpoint, SigningKey, open_checkpoint
from pulse.evidence.rotation import rotate_key
from pulse.evidence.seal_checks import Trust
from pulse.evidence.sealer import SealFault
from pulse.evidence.state import read_keys
from pulse.evidence.tree import SealedLog
from pulse.evidence.verification import Verification
from pulse.postgres import Database
from tests.support.cli import run_pulse
from tests.support.database import ROLES
from tests.support.restore import restore_backup, take_backup
from tests.support.seal import KEY, OTHER_KEY, append, oracle_of, seal_all, sealer, tamper

REASON = "restored after a lost disk"


@pytest.fixture
def anchors(tmp_path: Path) -> Path:
    return tmp_path / "anchors.txt"


class Found(msgspec.Struct, frozen=True):
    """What verification says of the seal."""

    faults: tuple[str, ...]
    details: tuple[str, ...]
    anchors: int
    earlier: int
    largest_earlier: int
    forks: int
    compared: int
    lost: tuple[LostEvents, ...]


async def fork(conninfo: str, anchors: Path, key: SigningKey | None = KEY) -> Forked:
    """Fork the log as a member of the owner."""
    async with opened_forker(conninfo, anchors, key) as forker:
        return await forker.fork(await forker.plan(), forked_by="cli:operator", reason=REASON)


async def plan(conninfo: str, anchors: Path) -> ForkPlan:
    """What a fork will do."""
    async with opened_forker(conninfo, anchors) as forker:
        return await forker.plan()


@asynccontextmanager
async def opened_forker(
    conninfo: str, anchors: Path, key: SigningKey | None = KEY
) -> AsyncIterator[LogForker]:
    """A forker with the rights of the owner."""
    database = Database(make_conninfo(conninfo, user=ROLES.owner), pool_size=1)
    await database.open()
    try:
        yield LogForker(database, key, known=anchors, anchors=AnchorFile(anchors))
    finally:
        await database.close()


async def verified(database: Database, anchors: Path, key: SigningKey = KEY) -> Found:
    """Verify the seal with this key and these anchors."""
    trust = Trust(key.verifier, anchors.read_bytes())  # noqa: ASYNC240 - a test
    parts = [part async for part in Verification(database, EventMapper()).seal(trust)]
    findings = [finding for part in parts for finding in part.findings]
    last = parts[-1]
    return Found(
        tuple(finding.fault for finding in findings),
        tuple(finding.detail for finding in findings),
        last.anchors,
        last.earlier.count,
        last.earlier.largest,
        len(last.forks),
        sum(part.entries for part in parts),
        last.lost,
    )


async def log_id_of(conninfo: str) -> UUID:
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("SELECT log_id FROM log_identity").fetchone()
    assert row is not None
    log_id = row[0]
    assert isinstance(log_id, UUID)
    return log_id


async def sealed_and_restored(database: Database, conninfo: str, anchors: Path) -> None:
    """A log of 3 sealed events, of which an anchor has 8; the other 5 are lost."""
    append(conninfo, 3)
    running = sealer(database, anchors)
    await seal_all(running)
    take_backup(conninfo)
    append(conninfo, 2)
    await seal_all(running)
    append(conninfo, 3)
    await seal_all(running)
    restore_backup(conninfo)


async def test_a_restored_log_is_sealed_again_only_after_a_fork(
    database: Database, conninfo: str, anchors: Path
) -> None:
    await sealed_and_restored(database, conninfo, anchors)
    before = await log_id_of(conninfo)
    refused = await sealer(database, anchors).run_once()
    assert isinstance(refused, SealFault)
    assert refused.code == "seal_diverged"
    forked = await fork(conninfo, anchors)
    assert (forked.fork.old_log_id, forked.fork.new_log_id) == (before, await log_id_of(conninfo))
    assert (forked.fork.position, forked.fork.size, forked.fork.known_size) == (3, 3, 8)
    append(conninfo, 7)
    assert (await seal_all(sealer(database, anchors))).size == 10
    checkpoint, tiles = await oracle_of(SealedLog(database))
    assert checkpoint.origin == f"pulse.example/log/fork-{forked.fork.new_log_id.hex[:12]}"
    assert tiles.calculate_root_hash() == checkpoint.root_hash
    found = await verified(database, anchors)
    assert (found.faults, found.forks) == ((), 1)
    assert (found.earlier, found.largest_earlier) == (2, 8)


async def test_the_note_of_a_fork_declares_it_and_is_signed_under_both_names(
    database: Database, conninfo: str, anchors: Path
) -> None:
    await sealed_and_restored(database, conninfo, anchors)
    forked = await fork(conninfo, anchors)
    keys = await database.read(read_keys)
    require_chain(keys)
    note = keys[-1].rotation
    assert note == forked.note
    declared = declared_fork(note)
    assert declared is not None
    assert msgspec.structs.astuple(declared) == msgspec.structs.astuple(forked.fork)
    assert (declared.forked_by, declared.reason) == ("cli:operator", REASON)
    assert note is not None
    assert open_checkpoint(note, KEY.verifier).size == 3
    assert note in read_notes(anchors.read_bytes())  # noqa: ASYNC240 - a test


async def test_an_undeclared_fork_is_found_after_a_declared_one(
    database: Database, conninfo: str, anchors: Path
) -> None:
    await sealed_and_restored(database, conninfo, anchors)
    await fork(conninfo, anchors)
    append(conninfo, 2)
    running = sealer(database, anchors)
    await seal_all(running)
    take_backup(conninfo)
    append(conninfo, 4)
    await seal_all(running)
    restore_backup(conninfo)
    append(conninfo, 9)
    await seal_all(sealer(database, anchors.with_name("other.txt")))
    found = await verified(database, anchors)
    assert found.faults == ("ANCHOR",)
    assert "another root" in found.details[0]


async def test_a_change_of_an_event_from_before_a_fork_is_found(
    database: Database, conninfo: str, anchors: Path
) -> None:
    await sealed_and_restored(database, conninfo, anchors)
    forked = await fork(conninfo, anchors)
    append(conninfo, 2)
    await seal_all(sealer(database, anchors))
    assert (await verified(database, anchors)).faults == ()
    tamper(conninfo, "UPDATE stored_events SET state = '{\"n\":99}' WHERE notification_id = 2")
    assert (await verified(database, anchors)).faults == ("ALTERED",)
    assert forked.note is not None


async def test_a_fork_whose_log_was_changed_is_refused(
    database: Database, conninfo: str, anchors: Path
) -> None:
    """Pulse ran on the restored log before the fork, without the anchors."""
    await sealed_and_restored(database, conninfo, anchors)
    append(conninfo, 3)
    await seal_all(sealer(database, anchors.with_name("other.txt")))
    with pytest.raises(ForkRefused, match="contradicts the checkpoint of 5 entries"):
        await fork(conninfo, anchors)
    tamper(conninfo, "UPDATE seal_state SET frontier = sha256('x')")
    with pytest.raises(ForkRefused, match="the tree of the seal was changed"):
        await fork(conninfo, anchors)
    with psycopg.connect(conninfo) as connection:
        assert connection.execute("SELECT count(*) FROM log_forks").fetchone() == (0,)


async def test_a_fork_that_is_lost_in_another_restore_belongs_to_the_earlier_log(
    database: Database, conninfo: str, anchors: Path
) -> None:
    """The log is restored to before its first fork, and before a rotation."""
    await sealed_and_restored(database, conninfo, anchors)
    take_backup(conninfo)
    await fork(conninfo, anchors)
    append(conninfo, 2)
    await seal_all(sealer(database, anchors))
    await rotate_key(database, KEY, OTHER_KEY, AnchorFile(anchors))
    append(conninfo, 2)
    await seal_all(sealer(database, anchors, OTHER_KEY))
    restore_backup(conninfo)
    undeclared = await verified(database, anchors)
    assert "ANCHOR" in undeclared.faults
    again = await fork(conninfo, anchors)
    append(conninfo, 9)
    await seal_all(sealer(database, anchors))
    found = await verified(database, anchors)
    assert (found.faults, found.forks) == ((), 1)
    assert (found.earlier, found.largest_earlier) == (7, 8)
    assert again.fork.known_size == 8


async def test_the_loss_includes_what_was_sealed_after_a_fork_that_is_lost(
    database: Database, conninfo: str, anchors: Path
) -> None:
    await sealed_and_restored(database, conninfo, anchors)
    take_backup(conninfo)
    await fork(conninfo, anchors)
    append(conninfo, 9)
    await rotate_key(database, KEY, OTHER_KEY, AnchorFile(anchors))
    await seal_all(sealer(database, anchors, OTHER_KEY))
    restore_backup(conninfo)
    planned = await plan(conninfo, anchors)
    assert (planned.size, planned.known_size, planned.lost_sealed_events) == (3, 12, 9)


async def test_anchors_of_the_log_before_a_fork_do_not_count_as_a_further_loss(
    database: Database, conninfo: str, anchors: Path
) -> None:
    """The first fork has declared their loss."""
    await sealed_and_restored(database, conninfo, anchors)
    await fork(conninfo, anchors)
    append(conninfo, 1)
    await seal_all(sealer(database, anchors))
    assert (await plan(conninfo, anchors)).known_size == 4


@pytest.mark.parametrize("fakes", [1, 100])
async def test_notes_that_no_key_signed_do_not_hide_others(
    database: Database, conninfo: str, anchors: Path, fakes: int
) -> None:
    await sealed_and_restored(database, conninfo, anchors)
    forger = SigningKey(KEY.verifier.name, bytes(31) + b"\7")
    made = [2**60, *range(4, 4 + fakes), 3, 10**30]
    notes = [Checkpoint(KEY.verifier.name, size, bytes(32)).signed_by(forger) for size in made]
    kept = anchors.read_text()  # noqa: ASYNC240 - a test
    anchors.write_text("\n".join((*notes, kept, *notes)))  # noqa: ASYNC240 - a test
    assert (await plan(conninfo, anchors)).known_size == 8
    append(conninfo, 3)
    await seal_all(sealer(database, anchors.with_name("other.txt")))
    with pytest.raises(ForkRefused, match="contradicts the checkpoint of 5 entries"):
        await plan(conninfo, anchors)


async def test_a_key_is_rotated_under_the_name_of_the_fork(
    database: Database, conninfo: str, anchors: Path
) -> None:
    await sealed_and_restored(database, conninfo, anchors)
    forked = await fork(conninfo, anchors)
    await rotate_key(database, KEY, OTHER_KEY, AnchorFile(anchors))
    append(conninfo, 2)
    stopped = await sealer(database, anchors).run_once()
    assert isinstance(stopped, SealFault)
    assert stopped.code == "seal_key_differs"
    await seal_all(sealer(database, anchors, OTHER_KEY))
    names = [key.verifier_key.partition("+")[0] for key in await database.read(read_keys)]
    origin = f"pulse.example/log/fork-{forked.fork.new_log_id.hex[:12]}"
    assert names == ["pulse.example/log", origin, origin]
    for key in (KEY, OTHER_KEY):
        assert (await verified(database, anchors, key)).faults == ()


async def test_the_administrator_of_the_database_cannot_choose_the_name(
    database: Database, conninfo: str, anchors: Path
) -> None:
    append(conninfo, 3)
    await seal_all(sealer(database, anchors))
    for name in ("pulse.example/log/fork-0123456789ab", "another.example/log"):
        named = KEY.named(name).verifier
        tamper(
            conninfo,
            f"UPDATE seal_state SET verifier_key = '{named}'",
            "DELETE FROM seal_keys WHERE number > 1",
            f"INSERT INTO seal_keys VALUES (2, '{named}', (SELECT checkpoint FROM seal_state))",
        )
        append(conninfo)
        refused = await sealer(database, anchors).run_once()
        assert isinstance(refused, SealFault)
        assert refused.code == "seal_key_differs"


async def test_events_that_the_seal_still_has_are_declared_as_lost(
    database: Database, conninfo: str, anchors: Path
) -> None:
    """The events are deleted from the log, and no backup has them. This happens twice."""
    append(conninfo, 5)
    await seal_all(sealer(database, anchors))
    tamper(conninfo, "DELETE FROM stored_events WHERE notification_id > 3")
    assert isinstance(await sealer(database, anchors).run_once(), SealFault)
    assert (await plan(conninfo, anchors)).missing_sealed == 2
    forked = await fork(conninfo, anchors)
    assert forked.note is not None
    assert "loss-accepted-after 3" in forked.note.splitlines()
    append(conninfo, 4)
    await seal_all(sealer(database, anchors))
    checkpoint, tiles = await oracle_of(SealedLog(database))
    positions = [json.loads(tiles.get_entry(i))["position"] for i in range(checkpoint.size)]
    assert positions == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert (await verified(database, anchors)).faults == ()
    tamper(conninfo, "DELETE FROM stored_events WHERE notification_id > 2")
    assert (await plan(conninfo, anchors)).missing_sealed == 5
    await fork(conninfo, anchors)
    append(conninfo, 1)
    await seal_all(sealer(database, anchors))
    found = await verified(database, anchors)
    assert (found.faults, found.compared) == ((), 3)
    assert found.lost == (LostEvents(2, 2), LostEvents(3, 5))


def test_declared_losses_are_shown(conninfo: str, tmp_path: Path) -> None:
    key, data = tmp_path / "seal.key", tmp_path / "data"
    create_key_file(key, KEY)
    settings = {"seal_key": str(key), "data_dir": str(data)}

    async def seal() -> None:
        database = Database(conninfo, pool_size=1)
        await database.open()
        try:
            await seal_all(sealer(database, data / "seal-anchors.txt"))
        finally:
            await database.close()

    append(conninfo, 6)
    asyncio.run(seal())
    tamper(conninfo, "DELETE FROM stored_events WHERE notification_id > 4")
    forked = run_pulse("log", "fork", "--reason", REASON, "--yes", conninfo=conninfo, **settings)
    assert "lacks the last 2 events that the seal has" in forked.out
    lost = "2 sealed events are not in the log, as the note of key 2 declares"
    shown = run_pulse("log", "show", conninfo=conninfo, **settings)
    assert lost in shown.out.splitlines()
    as_json = run_pulse("log", "show", "--json", conninfo=conninfo, **settings)
    assert json.loads(as_json.out)["lost"] == [{"key": 2, "events": 2}]
    found = run_pulse("verify", conninfo=conninfo, **settings).out.splitlines()
    assert lost in found
    assert any(line.startswith("4 events compared with the seal of ") for line in found)
    as_json = run_pulse("verify", "--json", conninfo=conninfo, **settings)
    totals = json.loads(as_json.out)
    assert (totals["sealed"], totals["lost"]) == (4, [{"key": 2, "events": 2}])


async def test_a_log_that_was_not_sealed_yet_gets_an_origin_of_its_own(
    database: Database, conninfo: str, anchors: Path
) -> None:
    take_backup(conninfo)
    append(conninfo, 4)
    await seal_all(sealer(database, anchors))
    restore_backup(conninfo)
    forked = await fork(conninfo, anchors)
    assert (forked.fork.size, forked.fork.known_size, forked.checkpoint) == (0, 4, None)
    append(conninfo, 6)
    await seal_all(sealer(database, anchors))
    assert (await verified(database, anchors)).faults == ()


async def test_a_fork_without_a_seal_is_recorded_in_the_database(
    database: Database, conninfo: str, anchors: Path
) -> None:
    append(conninfo, 2)
    before = await log_id_of(conninfo)
    forked = await fork(conninfo, anchors, key=None)
    assert (forked.note, forked.fork.size, forked.fork.old_log_id) == (None, None, before)
    assert not anchors.exists()  # noqa: ASYNC240 - a test
    append(conninfo)
    await seal_all(sealer(database, anchors))
    found = await verified(database, anchors)
    assert (found.faults, found.forks) == ((), 1)


async def test_a_record_that_differs_from_the_note_or_the_identity_is_found(
    database: Database, conninfo: str, anchors: Path
) -> None:
    await sealed_and_restored(database, conninfo, anchors)
    await fork(conninfo, anchors)
    tamper(conninfo, "UPDATE log_identity SET log_id = gen_random_uuid()")
    assert (await verified(database, anchors)).faults == ("FORK",)
    tamper(
        conninfo,
        "UPDATE log_identity SET log_id = (SELECT new_log_id FROM log_forks)",
        "UPDATE log_forks SET reason = 'nothing happened'",
    )
    assert (await verified(database, anchors)).faults == ("FORK",)
    tamper(conninfo, "DELETE FROM log_forks")
    assert (await verified(database, anchors)).faults == ("FORK",)


@pytest.mark.parametrize("pinned", [True, False])
async def test_the_record_of_a_fork_cannot_be_removed(
    database: Database, conninfo: str, anchors: Path, *, pinned: bool
) -> None:
    await sealed_and_restored(database, conninfo, anchors)
    await fork(conninfo, anchors)
    append(conninfo, 2)
    await seal_all(sealer(database, anchors))
    tamper(
        conninfo,
        "DELETE FROM log_forks",
        "DELETE FROM seal_keys WHERE number = 1",
        "UPDATE seal_keys SET number = 1, rotation = NULL",
    )
    trust = Trust(KEY.verifier if pinned else None)
    parts = [part async for part in Verification(database, EventMapper()).seal(trust)]
    details = [finding.detail for part in parts for finding in part.findings]
    assert "no note declares this fork" in details[0]


@pytest.mark.parametrize("statement", ["UPDATE log_forks SET reason = 'x'", "TRUNCATE log_forks"])
async def test_a_recorded_fork_cannot_be_changed(conninfo: str, statement: str) -> None:
    with (
        psycopg.connect(make_conninfo(conninfo, user=ROLES.owner)) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"),
    ):
        connection.execute(statement.encode())


async def test_only_the_owner_forks_and_only_with_the_right_key(
    database: Database, conninfo: str, anchors: Path
) -> None:
    append(conninfo)
    await seal_all(sealer(database, anchors))
    with pytest.raises(ForkRefused, match=f"the role {ROLES.runtime} may not"):
        await LogForker(database, KEY, known=anchors, anchors=AnchorFile(anchors)).plan()
    with pytest.raises(ForkRefused, match="set PULSE_SEAL_KEY"):
        await fork(conninfo, anchors, key=None)
    with pytest.raises(ForkRefused, match="is sealed with"):
        await fork(conninfo, anchors, key=OTHER_KEY)
    for reason in ("", " ", "two\nlines", "x" * 256, "\x1b[1m"):
        with pytest.raises(ForkRefused, match="one line"):
            await LogForker(database, KEY, known=anchors, anchors=AnchorFile(anchors)).fork(
                msgspec.convert(
                    {
                        "log_id": UUID(int=0),
                        "position": 0,
                        "origin": None,
                        "size": None,
                        "known_size": None,
                        "lacks_sealed": False,
                        "missing_sealed": 0,
                        "processes": (),
                    },
                    ForkPlan,
                ),
                forked_by="cli:operator",
                reason=reason,
            )


async def test_a_log_that_changed_after_the_plan_is_not_forked(
    conninfo: str, anchors: Path
) -> None:
    async with opened_forker(conninfo, anchors, key=None) as forker:
        planned = await forker.plan()
        append(conninfo)
        with pytest.raises(ForkRefused, match="changed meanwhile"):
            await forker.fork(planned, forked_by="cli:operator", reason=REASON)


def test_the_command_shows_the_plan_and_asks(conninfo: str, tmp_path: Path) -> None:
    key, data = tmp_path / "seal.key", tmp_path / "data"
    create_key_file(key, KEY)
    settings = {"seal_key": str(key), "data_dir": str(data)}
    before = json.loads(run_pulse("log", "show", "--json", conninfo=conninfo).out)
    assert before["forks"] == []
    planned = run_pulse("log", "fork", "--reason", REASON, conninfo=conninfo, **settings)
    assert (planned.exit_code, planned.err) == (1, "nothing was changed: confirm with --yes\n")
    assert f"log_id: {before['log_id']}, which will be replaced" in planned.out
    assert "ends at position 0" in planned.out
    with psycopg.connect(conninfo, application_name="pulse:pool@elsewhere/r17:4242"):
        refused = run_pulse("log", "fork", "--reason", REASON, "--yes", conninfo=conninfo)
    assert refused.exit_code == 1
    assert "Pulse is running on this database: elsewhere:4242 (pool)" in refused.err
    forked = run_pulse("log", "fork", "--reason", REASON, "--yes", conninfo=conninfo, **settings)
    assert (forked.exit_code, forked.err) == (0, "")
    shown = json.loads(run_pulse("log", "show", "--json", conninfo=conninfo).out)
    assert shown["log_id"] in forked.out
    assert shown["log_id"] != before["log_id"]
    assert [each["reason"] for each in shown["forks"]] == [REASON]
    assert REASON in run_pulse("log", "show", conninfo=conninfo).out
    assert REASON in run_pulse("verify", conninfo=conninfo, **settings).out
    missing = run_pulse(
        *("log", "fork", "--reason", REASON, "--anchors", str(tmp_path / "none")),
        conninfo=conninfo,
        **settings,
    )
    assert (missing.exit_code, missing.out) == (1, "")
    as_json = run_pulse("log", "fork", "--reason", "x", "--yes", "--json", conninfo=conninfo)
    assert as_json.exit_code == 1
    assert "PULSE_SEAL_KEY" in as_json.err


def test_a_fork_needs_a_writable_file_of_anchors(conninfo: str, tmp_path: Path) -> None:
    key, anchors = tmp_path / "seal.key", tmp_path / "anchors"
    create_key_file(key, KEY)
    anchors.mkdir()
    settings = {"seal_key": str(key), "anchor_file": str(anchors), "data_dir": str(tmp_path)}
    before = run_pulse("log", "show", conninfo=conninfo).out
    kept = tmp_path / "kept.txt"
    kept.touch()
    command = ("log", "fork", "--reason", REASON, "--yes", "--anchors", str(kept))
    refused = run_pulse(*command, conninfo=conninfo, **settings)
    assert (refused.exit_code, refused.err) == (
        1,
        f"pulse: {anchors} cannot be written: Is a directory\n",
    )
    assert run_pulse("log", "show", conninfo=conninfo).out == before


def test_a_fork_whose_note_was_not_anchored_has_a_separate_exit_code(
    conninfo: str, tmp_path: Path
) -> None:
    """The file can be opened, and not written, as on a full disk."""
    key, kept = tmp_path / "seal.key", tmp_path / "kept.txt"
    create_key_file(key, KEY)
    kept.touch()
    settings = {"seal_key": str(key), "anchor_file": "/dev/full", "data_dir": str(tmp_path)}
    command = ("log", "fork", "--reason", REASON, "--yes", "--json", "--anchors", str(kept))
    forked = run_pulse(*command, conninfo=conninfo, **settings)
    assert forked.exit_code == 10
    assert "pulse: the log was forked, but its note was not anchored: /dev/full" in forked.err
    shown = json.loads(run_pulse("log", "show", "--json", conninfo=conninfo).out)
    assert json.loads(forked.out)["fork"]["new_log_id"] == shown["log_id"]


def test_with_json_the_plan_and_the_question_are_on_standard_error(
    conninfo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal, screen = os.openpty()
    with os.fdopen(screen) as stdin:
        os.write(terminal, b"y\n")
        monkeypatch.setattr("sys.stdin", stdin)
        command = ("log", "fork", "--reason", REASON, "--json")
        forked = run_pulse(*command, conninfo=conninfo, data_dir=str(tmp_path))
    os.close(terminal)
    assert forked.exit_code == 0
    assert json.loads(forked.out)["fork"]["reason"] == REASON
    assert "which will be replaced" in forked.err
    assert "Fork the log?" in forked.err
