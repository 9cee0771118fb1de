"""Which checkpoints of a file of anchors a pack has."""

from pathlib import Path

import pytest

from pulse.evidence import anchors, pack_anchors
from pulse.evidence.anchors import AnchorFile, AnchorUnusable
from pulse.evidence.note import Checkpoint, SigningKey
from pulse.evidence.pack.keys import TrustedKey, open_trusted
from pulse.evidence.pack_anchors import all_anchors, choose_anchors
from tests.support.seal import KEY, OTHER_KEY

KEYS = [TrustedKey(KEY.verifier)]


def anchored(file: Path, *sizes: int, key: SigningKey = KEY) -> None:
    for size in sizes:
        AnchorFile(file).append(Checkpoint(key.verifier.name, size, bytes(32)).signed_by(key))


def chosen(file: Path, first: int, last: int, size: int) -> list[int]:
    return [anchor.size for anchor in choose_anchors(file, KEYS, first, last, size)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "anchors.txt"


def test_the_nearest_to_the_selection_the_first_and_the_last_are_chosen(file: Path) -> None:
    anchored(file, *range(10, 200, 10))
    assert chosen(file, 25, 62, 150) == [10, 20, 30, 70, 150]
    assert chosen(file, 29, 69, 150) == [10, 20, 30, 70, 150]
    assert chosen(file, 30, 70, 150) == [10, 30, 40, 80, 150]
    assert chosen(file, 0, 5, 10) == [10]
    assert chosen(file, 0, 5, 9) == []


def test_a_large_file_is_read_in_parts(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    anchored(file, *range(1, 60))
    for chunk in (7, 64, 199, 1000):
        monkeypatch.setattr(anchors, "READ_BYTES", chunk)
        assert chosen(file, 20, 30, 55) == [1, 20, 21, 31, 55]


def test_larger_checkpoints_of_a_key_from_before_a_fork_are_not_chosen(file: Path) -> None:
    anchored(file, 5, 40, 90)
    forked = KEY.named("pulse.example/log/fork-0123456789ab")
    anchored(file, 60, 95, key=forked)
    keys = [TrustedKey(forked.verifier), TrustedKey(KEY.verifier, 50)]
    found = choose_anchors(file, keys, 20, 70, 100)
    assert [anchor.size for anchor in found] == [5, 40, 95]


def test_checkpoints_cut_short_or_signed_by_others_are_left_out(file: Path) -> None:
    anchored(file, 5)
    anchored(file, 8, key=OTHER_KEY)
    file.write_bytes(file.read_bytes() + b"\npulse.example/log\n9")
    anchored(file, 12)
    assert chosen(file, 5, 6, 20) == [5, 12]
    assert [anchor.size for anchor in all_anchors(file, KEYS, 20)] == [5, 12]


def test_a_size_that_no_tree_has_is_left_out(file: Path) -> None:
    anchored(file, 5)
    note = file.read_text()
    for size in ("9" * 5_000, "0" * 5, "05"):
        file.write_text(file.read_text() + note.replace("\n5\n", f"\n{size}\n"))
    anchored(file, 12)
    assert chosen(file, 5, 6, 20) == [5, 12]
    assert [anchor.size for anchor in all_anchors(file, KEYS, 20)] == [5, 12]


def test_a_replaced_key_counts_up_to_its_rotation(file: Path) -> None:
    anchored(file, 5, 9)
    anchored(file, 9, 12, key=OTHER_KEY)
    keys = [TrustedKey(OTHER_KEY.verifier), TrustedKey(KEY.verifier, 5)]
    found = all_anchors(file, keys, 20)
    assert [anchor.size for anchor in found] == [5, 9, 12]
    assert open_trusted(found[1].note, [TrustedKey(OTHER_KEY.verifier)]), "the one of the new key"


def test_a_file_that_does_not_exist_has_no_anchors_unless_it_was_named(file: Path) -> None:
    assert chosen(file, 0, 1, 5) == []
    with pytest.raises(AnchorUnusable, match="cannot be read"):
        all_anchors(file, KEYS, 5)
    with pytest.raises(AnchorUnusable, match="cannot be read"):
        choose_anchors(file.parent, KEYS, 0, 1, 5)


def test_too_many_named_checkpoints_are_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_anchors, "MAX_ANCHORS", 4)
    anchored(file, 1, 2, 3)
    with pytest.raises(AnchorUnusable, match="more than 2 checkpoints"):
        all_anchors(file, KEYS, 5)
