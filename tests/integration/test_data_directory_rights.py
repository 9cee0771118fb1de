"""As root, a data directory that others can write or replace is refused with advice."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pulse.postgres.embedded import (
    EmbeddedServer,
    EmbeddedServerError,
    refuse_writable_by_others,
)
from pulse.process.development_key import KeyUnsafe, with_development_key
from pulse.settings import Settings
from tests.support.cli import run_pulse
from tests.support.processes import free_port

FAST = {"fsync": "off"}
OTHER_UID = 12345
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of files")


@pytest.fixture
def base() -> Iterator[Path]:
    base = Path(tempfile.mkdtemp(prefix="pulse-test-"))
    base.chmod(0o755)
    yield base
    shutil.rmtree(base)


def refused(data_dir: Path) -> str:
    with pytest.raises(EmbeddedServerError) as caught:
        EmbeddedServer.acquire(data_dir, FAST)
    with pytest.raises(KeyUnsafe):
        with_development_key(Settings(data_dir=data_dir), make=True)
    assert not (data_dir / "postgres" / "cluster").exists()
    assert not list(data_dir.glob("gateway*"))
    said = str(caught.value)
    assert "PULSE_DATA_DIR" in said
    return said


def accepted(data_dir: Path) -> None:
    EmbeddedServer.acquire(data_dir, FAST).release()
    assert (data_dir / "postgres" / "cluster" / "PG_VERSION").exists()


@needs_root
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775, 0o757, 0o770, 0o702])
def test_a_data_directory_that_others_may_write_is_refused(base: Path, mode: int) -> None:
    data_dir = base / "data"
    data_dir.mkdir()
    data_dir.chmod(mode)
    said = refused(data_dir)
    assert f"The data directory {data_dir} may be written by other users (mode {mode:04o})" in said
    assert f"chmod go-w {data_dir}" in said
    data_dir.chmod(mode & ~0o1022 | 0o711)
    if mode == 0o777:  # the others end in the same mode
        accepted(data_dir)


@needs_root
def test_a_server_directory_that_others_may_write_is_refused(base: Path) -> None:
    home = base / "data" / "postgres"
    home.mkdir(parents=True)
    home.chmod(0o777)
    assert f"chmod go-w {home}" in refused(base / "data")


@needs_root
@pytest.mark.parametrize("exists", [True, False])
def test_a_parent_directory_that_lets_others_replace_the_data_directory_is_refused(
    base: Path, *, exists: bool
) -> None:
    above = base / "above"
    data_dir = above / "between" / "data"
    (data_dir if exists else above).mkdir(parents=True)
    above.chmod(0o777)
    said = refused(data_dir)
    assert f"the directory {above} may be written by other users (mode 0777)" in said
    assert str(data_dir) in said
    above.chmod(0o1777)  # sticky: others cannot rename what is root's
    refuse_writable_by_others(data_dir)  # it raises nothing


@needs_root
def test_a_directory_of_another_user_in_a_sticky_directory_is_refused(base: Path) -> None:
    base.chmod(0o1777)
    data_dir = base / "data"
    data_dir.mkdir()
    os.chown(data_dir, OTHER_UID, OTHER_UID)
    said = refused(data_dir)
    assert f"belongs to uid {OTHER_UID}" in said
    assert f"chown -h root {data_dir}" in said


@needs_root
def test_a_parent_directory_of_another_user_is_refused(base: Path) -> None:
    above = base / "above"
    (above / "data").mkdir(parents=True)
    os.chown(above, OTHER_UID, OTHER_UID)
    assert f"the directory {above} belongs to uid {OTHER_UID}" in refused(above / "data")


@needs_root
def test_a_link_of_another_user_is_refused(base: Path) -> None:
    real = base / "real"
    real.mkdir()
    for link, data_dir in (
        (base / "link", base / "link"),
        (base / "links", base / "links" / "data"),
    ):
        link.symlink_to(real)
        os.chown(link, OTHER_UID, OTHER_UID, follow_symlinks=False)
        assert f"{link} belongs to uid {OTHER_UID}" in refused(data_dir)
        os.chown(link, 0, 0, follow_symlinks=False)
    accepted(base / "link")


@needs_root
def test_a_link_to_a_directory_that_others_may_write_is_refused(base: Path) -> None:
    target = base / "target"
    target.mkdir()
    target.chmod(0o777)
    (base / "relative").symlink_to("link")
    (base / "link").symlink_to(target)
    assert f"chmod go-w {target}" in refused(base / "relative")
    assert f"chmod go-w {target}" in refused(base / "link" / ".." / "target")
    assert f"chmod go-w {target}" in refused(base / "relative" / "data")


@needs_root
@pytest.mark.parametrize("path", ["file/data", "loop/data", "x" * 300])
def test_an_invalid_path_is_one_error_line(base: Path, path: str) -> None:
    (base / "file").touch()
    (base / "loop").symlink_to("loop")
    ended = run_pulse("migrate", data_dir=base / path)
    assert ended.exit_code == 3
    assert ended.err.startswith("pulse: ")


@needs_root
def test_the_commands_print_one_error_line(base: Path) -> None:
    base.chmod(0o777)
    up = run_pulse("up", data_dir=base / "data", port=free_port())
    assert (up.exit_code, up.out) == (3, "")
    assert up.err.count("\n") == 1
    assert f"chmod go-w {base}" in up.err
    migrate = run_pulse("migrate", data_dir=base / "data")
    assert migrate.exit_code == 3
    assert f"chmod go-w {base}" in migrate.err
