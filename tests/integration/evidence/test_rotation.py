"""Rotation of the seal's key, in the library and with `pulse key`."""

import json
import os
from pathlib import Path

import pytest

from pulse.evidence.anchors import AnchorFile, read_anchors
from pulse.evidence.chain import next_key, require_chain
from pulse.evidence.key_file import KeyFileUnusable, create_key_file, read_key_file
from pulse.evidence.merkle import EMPTY_ROOT
from pulse.evidence.note import Checkpoint, NoteInvalid, open_checkpoint
from pulse.evidence.rotation import RotationRefused, rotate_key
from pulse.evidence.sealer import Diverged, SealFault
from pulse.evidence.state import read_keys
from pulse.evidence.tree import SealedLog
from pulse.postgres import Database
from tests.support.accounts import as_user
from tests.support.cli import run_pulse
from tests.support.seal import KEY, OTHER_KEY, append, seal_all, sealer, tamper

ACCOUNT = 10001


@pytest.fixture
def anchors(tmp_path: Path) -> Path:
    return tmp_path / "anchors.txt"


async def test_both_keys_sign_the_rotation(
    database: Database, conninfo: str, anchors: Path
) -> None:
    append(conninfo, 3)
    old = sealer(database, anchors)
    await seal_all(old)
    rotation = await rotate_key(database, KEY, OTHER_KEY, AnchorFile(anchors))
    assert next_key(rotation.note, KEY.verifier) == OTHER_KEY.verifier
    assert rotation.checkpoint == await SealedLog(database).checkpoint()
    assert open_checkpoint(rotation.checkpoint, OTHER_KEY.verifier).size == 3
    append(conninfo, 2)
    stopped = await old.run_once()
    assert isinstance(stopped, SealFault)
    assert stopped.code == "seal_key_differs"
    assert (await seal_all(sealer(database, anchors, OTHER_KEY))).size == 5
    keys = await database.read(read_keys)
    assert [key.verifier_key for key in keys] == [str(KEY.verifier), str(OTHER_KEY.verifier)]
    require_chain(keys)
    content = anchors.read_bytes()  # noqa: ASYNC240 - a test
    assert [a.size for a in read_anchors(content, KEY.verifier)] == [3, 3]
    assert [a.size for a in read_anchors(content, OTHER_KEY.verifier)] == [3, 3, 5]


async def test_a_process_reads_its_key_again_after_a_rotation(
    database: Database, conninfo: str, anchors: Path, tmp_path: Path
) -> None:
    file = tmp_path / "seal.key"
    create_key_file(file, KEY)
    append(conninfo)
    running = sealer(database, anchors, read_key=lambda: read_key_file(file))
    await seal_all(running)
    await rotate_key(database, KEY, OTHER_KEY, AnchorFile(anchors))
    assert isinstance(await running.run_once(), SealFault)
    create_key_file(tmp_path / "new.key", OTHER_KEY)
    (tmp_path / "new.key").rename(file)
    append(conninfo)
    assert (await seal_all(running)).size == 2
    assert running.fault is None


async def test_a_refused_rotation_adds_no_key(
    database: Database, conninfo: str, anchors: Path
) -> None:
    kept = AnchorFile(anchors)
    with pytest.raises(RotationRefused, match="nothing is sealed"):
        await rotate_key(database, KEY, OTHER_KEY, kept)
    append(conninfo)
    await seal_all(sealer(database, anchors))
    with pytest.raises(RotationRefused, match="is sealed with"):
        await rotate_key(database, OTHER_KEY, KEY, kept)
    with pytest.raises(RotationRefused, match="already"):
        await rotate_key(database, KEY, KEY, kept)
    tamper(conninfo, "UPDATE seal_state SET frontier = sha256('x')")
    with pytest.raises(Diverged):
        await rotate_key(database, KEY, OTHER_KEY, kept)
    assert len(await database.read(read_keys)) == 1


def test_a_checkpoint_is_not_a_rotation_note() -> None:
    with pytest.raises(NoteInvalid, match="introduces no key"):
        next_key(Checkpoint(KEY.verifier.name, 0, EMPTY_ROOT).signed_by(KEY), KEY.verifier)


def test_keys_are_created_shown_and_rotated(conninfo: str, tmp_path: Path) -> None:
    one, two = tmp_path / "one.key", tmp_path / "two.key"
    for file in (one, two):
        made = run_pulse("key", "new", str(file), "--origin", "pulse.example/log")
        assert (made.exit_code, made.err) == (0, "")
        assert made.out.strip() == str(read_key_file(file).verifier)
        assert file.stat().st_mode & 0o777 == 0o600
    again = run_pulse("key", "new", str(one), "--origin", "pulse.example/log")
    assert (again.exit_code, again.out) == (1, "")
    assert "exists" in again.err
    assert run_pulse("key", "new", str(tmp_path / "x"), "--origin", "a b").exit_code == 1
    of_fork = "pulse.example/log/fork-0123456789ab"
    assert run_pulse("key", "new", str(tmp_path / "x"), "--origin", of_fork).exit_code == 1
    assert run_pulse("key", "show", conninfo=conninfo).out == "nothing is sealed yet\n"
    assert run_pulse("key", "rotate", str(two), conninfo=conninfo).exit_code == 1
    settings = {"seal_key": str(one), "data_dir": str(tmp_path / "data")}
    refused = run_pulse("key", "rotate", str(two), conninfo=conninfo, **settings)
    assert (refused.exit_code, refused.out) == (1, "")
    tamper(
        conninfo,
        f"UPDATE seal_state SET verifier_key = '{read_key_file(one).verifier}'",
        f"INSERT INTO seal_keys VALUES (1, '{read_key_file(one).verifier}')",
    )
    rotated = run_pulse("key", "rotate", str(two), conninfo=conninfo, **settings)
    assert (rotated.exit_code, rotated.err) == (0, "")
    assert next_key(rotated.out, read_key_file(one).verifier) == read_key_file(two).verifier
    shown = json.loads(run_pulse("key", "show", "--json", conninfo=conninfo).out)
    assert [key["number"] for key in shown["keys"]] == [1, 2]
    assert shown["keys"][1]["rotation"].strip() == rotated.out.strip()
    assert rotated.out.splitlines()[0] in run_pulse("key", "show", conninfo=conninfo).out
    tamper(conninfo, "UPDATE seal_keys SET rotation = NULL WHERE number = 2")
    assert run_pulse("key", "show", conninfo=conninfo).exit_code == 1


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "seal.key"
    create_key_file(file, KEY)
    assert read_key_file(file).verifier == KEY.verifier
    for mode in (0o640, 0o604, 0o620, 0o602):
        file.chmod(mode)
        with pytest.raises(KeyFileUnusable, match="accessible to other users"):
            read_key_file(file)
    file.chmod(0o600)
    for content in (b"", b"x", b"\xff", str(KEY.verifier).encode(), b"x" * 10_000):
        file.write_bytes(content)
        with pytest.raises(KeyFileUnusable, match="has no valid key"):
            read_key_file(file)
    with pytest.raises(KeyFileUnusable, match="cannot be read"):
        read_key_file(tmp_path / "missing")
    with pytest.raises(KeyFileUnusable):
        read_key_file(tmp_path)
    assert not create_key_file(file, KEY)
    with pytest.raises(KeyFileUnusable, match="cannot be created"):
        create_key_file(tmp_path / "missing" / "seal.key", KEY)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file of root")
def test_the_group_may_read_a_key_file_of_root(tmp_path: Path) -> None:
    file = tmp_path / "seal.key"
    create_key_file(file, KEY)
    os.chown(file, 0, ACCOUNT)
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_mode & 0o077 == 0:
            directory.chmod(0o711)
    for mode in (0o440, 0o640):
        file.chmod(mode)
        read = as_user(ACCOUNT, ACCOUNT, lambda: str(read_key_file(file).verifier))
        assert read == str(KEY.verifier)
    for mode in (0o660, 0o644):
        file.chmod(mode)
        assert "accessible to other users" in as_user(
            ACCOUNT, ACCOUNT, lambda: str(read_key_file(file).verifier)
        )
