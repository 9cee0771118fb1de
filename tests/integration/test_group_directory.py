"""The directory of a group of processes: locked, created again, and short enough for sockets."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pulse.process.group.directory import GroupDirectory, NoDirectory

MEMBERS = ("api-1", "worker-1")


@pytest.fixture
def parent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory for temporary files, with a short path."""
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        monkeypatch.setattr(tempfile, "tempdir", made)
        yield Path(made)


@pytest.fixture
def directory(parent: Path) -> Iterator[GroupDirectory]:
    made = GroupDirectory(MEMBERS)
    assert Path(made.path).parent == parent
    yield made
    made.remove()


def is_locked(directory: GroupDirectory) -> bool:
    """Whether systemd-tmpfiles would leave it as it is."""
    descriptor = os.open(directory.path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def test_the_directory_is_locked_and_private(directory: GroupDirectory) -> None:
    assert is_locked(directory)
    assert Path(directory.path).stat().st_mode & 0o777 == 0o700


def test_the_directory_is_created_again_if_it_was_removed(directory: GroupDirectory) -> None:
    shutil.rmtree(directory.path)
    directory.ensure()
    assert is_locked(directory)
    assert Path(directory.path).stat().st_mode & 0o777 == 0o700


def test_another_directory_in_its_place_is_neither_used_nor_removed(parent: Path) -> None:
    directory = GroupDirectory(MEMBERS)
    Path(directory.path).rename(parent / "moved")
    Path(directory.path).mkdir()
    with pytest.raises(FileExistsError, match=directory.path):
        directory.ensure()
    directory.remove()
    assert Path(directory.path).exists()


@pytest.mark.parametrize(("length", "fits"), [(58, True), (59, False)])
def test_a_path_that_is_too_long_for_sockets_is_refused(
    parent: Path, monkeypatch: pytest.MonkeyPatch, length: int, *, fits: bool
) -> None:
    deep = parent / ("d" * (length - len(str(parent)) - 1))
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    if fits:
        GroupDirectory(MEMBERS).remove()
    else:
        with pytest.raises(NoDirectory, match=r"set TMPDIR to one that is at least 1 byte shorter"):
            GroupDirectory(MEMBERS)
    assert list(deep.iterdir()) == []
