"""The `archive_command` of the how-to, which Postgres may run twice for one segment."""

import subprocess
from pathlib import Path

import pytest

from tests.faults.cases.restore import archive_settings

SEGMENT = "000000010000000000000001"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    directory = tmp_path / "wal"
    directory.mkdir()
    return directory


def archived(archive: Path, content: str) -> bool:
    """Archive a segment with this content, as Postgres does; whether that succeeded."""
    segment = archive.with_name("pg_wal_segment")
    segment.write_text(content)
    command = archive_settings(archive)["archive_command"]
    command = command.replace("%p", str(segment)).replace("%f", SEGMENT)
    return subprocess.run(["/bin/sh", "-c", command], check=False, timeout=60).returncode == 0


def test_a_segment_is_archived_again_only_if_it_is_the_same(archive: Path) -> None:
    assert archived(archive, "one")
    assert archived(archive, "one")
    assert not archived(archive, "two")
    assert [(file.name, file.read_text()) for file in archive.iterdir()] == [(SEGMENT, "one")]


def test_a_segment_that_was_cut_short_is_archived_again(archive: Path) -> None:
    (archive / f"{SEGMENT}.part").write_text("o")
    assert archived(archive, "one")
    assert [(file.name, file.read_text()) for file in archive.iterdir()] == [(SEGMENT, "one")]


def test_a_segment_is_not_archived_without_the_directory(archive: Path) -> None:
    archive.rmdir()
    assert not archived(archive, "one")
