"""The sealer: the tree of the log, step by step; keys, anchors, restored databases, processes."""

import asyncio
import base64
import hashlib
import json
from datetime import datetime
from pathlib import Path

import psycopg
import pytest
from tlog_scales.signing import Vkey
from tlog_scales.tiles import leaf_hash
from tlog_scales.tlog import InclusionProof

from pulse.eventstore import EventStore
from pulse.evidence.anchors import AnchorFile, read_anchors
from pulse.evidence.note import Checkpoint, NoteInvalid, open_checkpoint
from pulse.evidence.sealer import CHECKPOINT_SECONDS, Busy, Sealed, SealFault
from pulse.evidence.state import read_keys, read_seal_health
from pulse.evidence.tree import NoSealedEvent, NothingSealed, NotYetSealed, SealedLog
from pulse.postgres import Database
from tests.support.seal import (
    KEY,
    OTHER_KEY,
    append,
    append_event,
    has_tile,
    oracle_of,
    seal_all,
    sealer,
    tamper,
)


@pytest.fixture
def anchors(tmp_path: Path) -> Path:
    return tmp_path / "anchors.txt"


def content_of(anchors: Path) -> bytes:
    return anchors.read_bytes()


def replace_content(anchors: Path, content: bytes) -> None:
    anchors.write_bytes(content)


def anchored(anchors: Path) -> list[Checkpoint]:
    return read_anchors(content_of(anchors), KEY.verifier)


async def rows(database: Database, statement: str) -> list[tuple[object, ...]]:
    async with database.connection() as connection:
        return await (await connection.execute(statement.encode())).fetchall()


@pytest.mark.parametrize("steps", [[1], [256], [1, 254, 1, 1], [700, 70], [257, 300, 1, 2]])
async def test_an_oracle_verifies_the_tree(
    database: Database, conninfo: str, anchors: Path, steps: list[int]
) -> None:
    seals, log = sealer(database, anchors, batch_events=300), SealedLog(database)
    for step in steps:
        append(conninfo, step)
        await seal_all(seals)
        checkpoint, reader = await oracle_of(log)
        checkpoint.verify(Vkey.from_string(str(KEY.verifier)))
        assert reader.calculate_root_hash() == checkpoint.root_hash
    assert checkpoint.size == sum(steps)
    stored = await rows(
        database,
        "SELECT notification_id, originator_id, originator_version, topic, state, recorded_at"
        " FROM recorded_events() ORDER BY 1",
    )
    for index, row in enumerate(stored):
        position, order_id, version, topic, state, recorded_at = row
        entry = reader.get_entry(index)
        assert isinstance(state, bytes)
        assert isinstance(recorded_at, datetime)
        assert json.loads(entry) == {
            "position": position,
            "order_id": str(order_id),
            "version": version,
            "topic": topic,
            "recorded_at": recorded_at.isoformat().replace("+00:00", "Z"),
            "state_sha256": hashlib.sha256(state).hexdigest(),
        }
    for index in {0, len(stored) // 2, len(stored) - 1}:
        proof = await log.proof(int(str(stored[index][0])))
        text, _, note = proof.partition("\n\n")
        head, place, *hashes = text.split("\n")
        assert (head, place) == ("c2sp.org/tlog-proof@v1", f"index {index}")
        assert note == await log.checkpoint()
        decoded = [base64.b64decode(line) for line in hashes]
        leaf = leaf_hash(reader.get_entry(index))
        InclusionProof(index, checkpoint.size, decoded).check(leaf, checkpoint.root_hash)


async def test_an_entry_has_golden_bytes(database: Database, conninfo: str, anchors: Path) -> None:
    tamper(
        conninfo,
        "INSERT INTO stored_events VALUES ('0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77', 3,"
        " E'x:\"\\\\\\n\\u0001ü', 'state', 7, '2026-03-02T09:15:00+05:30')",
        "SELECT setval('stored_events_notification_id_seq', 7)",
    )
    await seal_all(sealer(database, anchors))
    bundle = await SealedLog(database).tile("entries/000.p/1")
    entry = (
        '{"position":7,"order_id":"0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77","version":3,'
        '"topic":"x:\\"\\\\\\n\\u0001ü","recorded_at":"2026-03-02T03:45:00Z","state_sha256":'
        f'"{hashlib.sha256(b"state").hexdigest()}"}}'
    ).encode()
    assert bundle == len(entry).to_bytes(2) + entry
    tile = await SealedLog(database).tile("0/000.p/1")
    assert tile == hashlib.sha256(b"\x00" + entry).digest()


async def test_rows_that_only_the_librarys_table_allows_are_sealed(
    database: Database, conninfo: str, anchors: Path
) -> None:
    append_event(conninfo, None, None)
    append_event(conninfo, "x" * 100_000, b"")
    await seal_all(sealer(database, anchors))
    _, reader = await oracle_of(SealedLog(database))
    none, long = (json.loads(reader.get_entry(index)) for index in (0, 1))
    assert none["topic"] == ""
    assert none["state_sha256"] == hashlib.sha256(b"").hexdigest()
    assert long["topic"] == f"sha256:{hashlib.sha256(b'x' * 100_000).hexdigest()}"


async def test_tiles_are_those_of_the_latest_checkpoint(
    database: Database, conninfo: str, anchors: Path
) -> None:
    seals, log = sealer(database, anchors), SealedLog(database)
    append(conninfo, 300)
    await seal_all(seals)
    present = ("0/000", "0/000.p/9", "0/001.p/44", "entries/000", "entries/001.p/44", "1/000.p/1")
    assert [await has_tile(log, path) for path in present] == [True] * 6
    absent = ("0/001", "0/001.p/45", "0/002.p/1", "entries/001", "1/000.p/2", "1/000", "2/000.p/1")
    assert [await has_tile(log, path) for path in absent] == [False] * 7
    assert len(await log.tile("0/000")) == 8192
    assert (await log.tile("0/000"))[: 9 * 32] == await log.tile("0/000.p/9")


async def test_a_position_without_a_sealed_event_has_no_proof(
    database: Database, conninfo: str, anchors: Path
) -> None:
    seals, log = sealer(database, anchors), SealedLog(database)
    with pytest.raises(NothingSealed):
        await log.proof(1)
    append(conninfo)
    tamper(conninfo, "SELECT setval('stored_events_notification_id_seq', 9)")
    append(conninfo)
    await seal_all(seals)
    append(conninfo)
    assert "index 1" in await log.proof(10)
    with pytest.raises(NotYetSealed):
        await log.proof(11)
    for position in (0, 5, 12):
        with pytest.raises(NoSealedEvent):
            await log.proof(position)
    tamper(
        conninfo,
        "INSERT INTO stored_events VALUES (gen_random_uuid(), 1, 'inserted later', '', 5)",
    )
    await seal_all(seals)
    with pytest.raises(NoSealedEvent):
        await log.proof(5)


async def test_an_event_beyond_the_sequence_is_left_out(
    database: Database, conninfo: str, anchors: Path
) -> None:
    append(conninfo)
    tamper(
        conninfo, "INSERT INTO stored_events VALUES (gen_random_uuid(), 1, 'far ahead', '', 1000)"
    )
    assert (await seal_all(sealer(database, anchors))).size == 1


async def test_only_one_of_two_processes_seals_at_a_time(
    database: Database, conninfo: str, anchors: Path
) -> None:
    append(conninfo, 3)
    one, two = sealer(database, anchors), sealer(database, anchors)
    async with database.connection() as connection, connection.transaction():
        await connection.execute("SELECT FROM seal_state FOR UPDATE")
        assert isinstance(await one.run_once(), Busy)
    await seal_all(one)
    append(conninfo, 3)
    await seal_all(two)
    append(conninfo, 3)
    assert (await seal_all(one)).size == 9


async def test_the_process_that_sealed_last_continues_while_its_checkpoints_are_recent(
    database: Database, conninfo: str, anchors: Path
) -> None:
    one, two = sealer(database, anchors), sealer(database, anchors)
    for each in (one, two):
        await each.run_once()
    for _ in range(3):
        append(conninfo)
        assert isinstance(await one.run_once(), Sealed)
    append(conninfo)
    other = await two.run_once()
    assert isinstance(other, Busy)
    assert two.poll_after(other) == CHECKPOINT_SECONDS
    assert isinstance(await one.run_once(), Sealed)
    tamper(conninfo, "UPDATE seal_state SET checkpoint_at = checkpoint_at - interval '1 s'")
    append(conninfo)
    taken_over = await two.run_once()
    assert isinstance(taken_over, Sealed)
    assert taken_over.events == 1
    assert [anchor.size for anchor in anchored(anchors)] == [1, 2, 3, 4, 5]


async def test_several_sealers_and_writers_make_one_tree(
    database: Database, conninfo: str, anchors: Path
) -> None:
    sealers = [sealer(database, anchors, batch_events=7) for _ in range(3)]

    async def write() -> None:
        for _ in range(20):
            await asyncio.to_thread(append, conninfo, 5)

    writing = asyncio.gather(write(), write())
    while not writing.done():
        for result in await asyncio.gather(*(each.run_once() for each in sealers)):
            assert isinstance(result, Sealed | Busy)
    await writing
    assert (await seal_all(sealers[0])).size == 200
    checkpoint, reader = await oracle_of(SealedLog(database))
    assert reader.calculate_root_hash() == checkpoint.root_hash
    positions = [json.loads(reader.get_entry(i))["position"] for i in range(200)]
    assert positions == sorted(positions)
    for anchor in anchored(anchors):
        assert reader.mth(0, anchor.size) == anchor.root


async def test_appends_do_not_wait_for_the_sealer(
    database: Database, store: EventStore, conninfo: str
) -> None:
    append(conninfo)
    async with database.connection() as connection, connection.transaction():
        await connection.execute("SELECT FROM seal_state FOR UPDATE")
        await asyncio.to_thread(append, conninfo, 1)
    assert (await store.end()) == 2


async def test_a_process_with_another_key_does_not_seal(
    database: Database, conninfo: str, anchors: Path
) -> None:
    append(conninfo)
    first = await seal_all(sealer(database, anchors))
    append(conninfo)
    other = sealer(database, anchors, OTHER_KEY)
    result = await other.run_once()
    assert isinstance(result, SealFault)
    assert result.code == "seal_key_differs"
    assert str(KEY.verifier) in result.message
    assert other.fault == result
    assert (await database.read(read_seal_health)).size == first.size
    with pytest.raises(NoteInvalid):
        open_checkpoint(await SealedLog(database).checkpoint(), OTHER_KEY.verifier)


async def test_the_first_key_is_recorded(database: Database, anchors: Path) -> None:
    await sealer(database, anchors).run_once()
    (key,) = await database.read(read_keys)
    assert (key.number, key.verifier_key, key.rotation) == (1, str(KEY.verifier), None)
    with pytest.raises(NothingSealed):
        await SealedLog(database).checkpoint()


async def test_every_checkpoint_is_anchored(
    database: Database, conninfo: str, anchors: Path
) -> None:
    seals = sealer(database, anchors)
    for _ in range(3):
        append(conninfo, 2)
        await seal_all(seals)
    kept = anchored(anchors)
    assert [anchor.size for anchor in kept] == [2, 4, 6]
    assert AnchorFile(anchors).last(KEY.verifier) == kept[-1]


async def test_a_step_without_events_signs_nothing(
    database: Database, conninfo: str, anchors: Path
) -> None:
    seals = sealer(database, anchors)
    append(conninfo)
    await seal_all(seals)
    before = await SealedLog(database).checkpoint()
    await seals.run_once()
    assert await SealedLog(database).checkpoint() == before
    assert len(anchored(anchors)) == 1


DELETE_LAST = "DELETE FROM stored_events WHERE notification_id > 3"


FOUND_BY_EACH_STEP = [
    DELETE_LAST,
    "UPDATE stored_events SET state = 'other' WHERE notification_id = 5",
    "UPDATE stored_events SET recorded_at = recorded_at + interval '1 s'",
    "UPDATE seal_state SET frontier = sha256('x') || sha256('y')",
    "UPDATE seal_state SET frontier = ''",
    "UPDATE seal_state SET size = 4, position = 4, frontier = sha256('x')",
]
FOUND_BY_A_START = [  # only a start reads every entry of the right edge
    "DELETE FROM seal_entries WHERE first_index = 4",
    "UPDATE seal_entries SET entries = entries || '\\x0001'",
]


@pytest.mark.parametrize(
    ("statement", "restarted"),
    [
        *((statement, True) for statement in FOUND_BY_EACH_STEP + FOUND_BY_A_START),
        *((statement, False) for statement in FOUND_BY_EACH_STEP),
    ],
)
async def test_a_changed_log_or_seal_is_not_sealed_further(
    database: Database, conninfo: str, anchors: Path, statement: str, *, restarted: bool
) -> None:
    seals = sealer(database, anchors, batch_events=4)
    append(conninfo, 5)
    await seal_all(seals)
    before = await database.read(read_seal_health)
    tamper(conninfo, statement)
    append(conninfo, 2)
    if restarted:
        seals = sealer(database, anchors)
    result = await seals.run_once()
    assert isinstance(result, SealFault), result
    assert result.code == "seal_diverged"
    after = await database.read(read_seal_health)
    assert after.checkpoint == before.checkpoint


async def test_a_database_restored_to_an_earlier_point_is_not_sealed(
    database: Database, conninfo: str, anchors: Path
) -> None:
    seals = sealer(database, anchors)
    append(conninfo, 3)
    await seal_all(seals)
    dump = "CREATE TABLE saved AS SELECT * FROM seal_state"
    tamper(conninfo, dump)
    append(conninfo, 3)
    await seal_all(seals)
    tamper(
        conninfo,
        "DELETE FROM stored_events WHERE notification_id > 3",
        "DELETE FROM seal_entries WHERE first_index >= 3",
        "DELETE FROM seal_state",
        "INSERT INTO seal_state SELECT * FROM saved",
        "SELECT setval('stored_events_notification_id_seq', 3)",
    )
    append(conninfo, 4)
    for each in (seals, sealer(database, anchors)):
        result = await each.run_once()
        assert isinstance(result, SealFault)
        assert "restored to an earlier point" in result.message
    without_anchors = sealer(database, anchors.with_name("none"))
    assert isinstance(
        await without_anchors.run_once(), Sealed
    )  # nothing outside of the database shows the restore


async def test_a_tree_of_the_known_size_with_other_hashes_is_not_sealed(
    database: Database, conninfo: str, anchors: Path
) -> None:
    seals = sealer(database, anchors)
    append(conninfo, 3)
    await seal_all(seals)
    tamper(conninfo, "UPDATE seal_state SET frontier = sha256('x') || sha256('y')")
    append(conninfo, 1)
    result = await seals.run_once()
    assert isinstance(result, SealFault)
    assert "the hashes of the tree of 3 entries are not those it had" in result.message


async def test_a_tree_that_was_set_back_without_anchors_is_not_continued(
    database: Database, conninfo: str, anchors: Path
) -> None:
    append(conninfo, 3)
    await seal_all(sealer(database, anchors))
    tamper(conninfo, "CREATE TABLE saved AS SELECT * FROM seal_state")
    append(conninfo, 3)
    await seal_all(sealer(database, anchors))
    tamper(conninfo, "DELETE FROM seal_state", "INSERT INTO seal_state SELECT * FROM saved")
    result = await sealer(database, anchors.with_name("none")).run_once()
    assert isinstance(result, SealFault)
    assert "entries beyond its size" in result.message


async def test_an_anchor_of_another_tree_stops_the_seal(
    database: Database, conninfo: str, anchors: Path
) -> None:
    append(conninfo, 5)
    await seal_all(sealer(database, anchors))
    kept = content_of(anchors)
    tamper(
        conninfo,
        "TRUNCATE seal_entries, seal_nodes, seal_keys",
        "DELETE FROM seal_state",
        "INSERT INTO seal_state DEFAULT VALUES",
        "UPDATE stored_events SET state = 'other' WHERE notification_id = 2",
    )
    await seal_all(sealer(database, anchors.with_name("forged")))
    replace_content(anchors, kept)
    result = await sealer(database, anchors).run_once()
    assert isinstance(result, SealFault)
    assert "differs from the last anchor" in result.message


async def test_an_anchor_file_that_is_cut_short_is_read_up_to_there(
    database: Database, conninfo: str, anchors: Path
) -> None:
    seals = sealer(database, anchors)
    for _ in range(3):
        append(conninfo)
        await seal_all(seals)
    whole = content_of(anchors)
    for cut in range(len(whole)):
        sizes = [anchor.size for anchor in read_anchors(whole[:cut], KEY.verifier)]
        assert sizes == [1, 2, 3][: len(sizes)]
    replace_content(anchors, whole[:-20])
    append(conninfo)
    await seal_all(sealer(database, anchors))
    assert [a.size for a in anchored(anchors)] == [1, 2, 4]


async def test_anchors_that_cannot_be_written_do_not_stop_the_seal(
    database: Database, conninfo: str, tmp_path: Path
) -> None:
    replace_content(tmp_path / "taken", b"")
    seals = sealer(database, tmp_path / "taken" / "anchors.txt")
    append(conninfo)
    assert (await seal_all(seals)).size == 1


@pytest.mark.parametrize("table", ["seal_entries", "seal_nodes", "seal_keys"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "TRUNCATE {}", "UPDATE {} SET {} = {}"])
async def test_the_seal_is_append_only_for_the_owner_too(
    database: Database, conninfo: str, anchors: Path, table: str, statement: str
) -> None:
    append(conninfo, 256)
    await seal_all(sealer(database, anchors))
    column = {"seal_entries": "entries", "seal_nodes": "hash", "seal_keys": "rotation"}[table]
    text = statement.format(table, column, column)
    with (
        psycopg.connect(conninfo) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"),
    ):
        connection.execute(text.encode())
