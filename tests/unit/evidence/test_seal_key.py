"""The development key of the seal: created once, only for the embedded server."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pulse.evidence.key_file import KeyFileUnusable, read_key_file
from pulse.process.seal import DEVELOPMENT_KEY, anchor_file, seal_key_file, with_seal_key
from pulse.settings import Settings


def test_the_key_is_created_once_and_found_again(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "a" / "data")
    assert seal_key_file(settings) is None
    made = with_seal_key(settings)
    file = tmp_path / "a" / "data" / DEVELOPMENT_KEY
    assert made.seal_key == file
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    key = read_key_file(file).verifier
    assert key.name.startswith("pulse.invalid/")
    assert with_seal_key(settings) == made
    assert seal_key_file(settings) == file
    assert read_key_file(file).verifier == key


def test_two_installations_have_two_names(tmp_path: Path) -> None:
    names = set()
    for home in ("a", "b"):
        file = with_seal_key(Settings(data_dir=tmp_path / home)).seal_key
        assert file is not None
        names.add(read_key_file(file).verifier.name)
    assert len(names) == 2


def test_of_many_concurrent_creators_one_wins(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        files = list(pool.map(with_seal_key, [Settings(data_dir=tmp_path / "data")] * 8))
    assert len(set(files)) == 1
    assert [path.name for path in (tmp_path / "data").iterdir()] == [DEVELOPMENT_KEY]


def test_no_key_is_created_for_a_configured_database_or_key(tmp_path: Path) -> None:
    elsewhere = Settings(data_dir=tmp_path / "data", database_url="postgresql://localhost/pulse")
    assert with_seal_key(elsewhere) == elsewhere
    assert seal_key_file(elsewhere) is None
    named = Settings(data_dir=tmp_path / "data", seal_key=tmp_path / "seal.key")
    assert with_seal_key(named) == named
    assert seal_key_file(named) == tmp_path / "seal.key"
    assert not (tmp_path / "data").exists()


def test_a_directory_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(KeyFileUnusable, match="PULSE_DATA_DIR"):
        with_seal_key(Settings(data_dir=tmp_path / "taken" / "data"))


def test_anchors_are_in_the_data_directory_unless_set(tmp_path: Path) -> None:
    assert anchor_file(Settings(data_dir=tmp_path)).path == tmp_path / "seal-anchors.txt"
    kept = Settings(data_dir=tmp_path, anchor_file=tmp_path / "kept")
    assert anchor_file(kept).path == tmp_path / "kept"
