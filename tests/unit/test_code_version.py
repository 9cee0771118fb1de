"""The commit in `recorded_by`: that of a checkout, marked if its code was changed."""

import os
import re
import subprocess
from pathlib import Path

import pytest

import pulse
from pulse.application.origin import Origin
from pulse.code_version import checkout_commit, code_version

GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "gc.auto=0")


def git(root: Path, *arguments: str) -> str:
    ended = subprocess.run(
        (*GIT, "-C", str(root), *arguments),
        capture_output=True,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    )
    return ended.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit."""
    (tmp_path / "pulse").mkdir()
    (tmp_path / "pulse" / "code.py").write_text("one = 1\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    return tmp_path


def test_an_unchanged_checkout_has_its_commit(checkout: Path) -> None:
    (checkout / "notes.txt").write_text("not code")
    assert checkout_commit(checkout) == f"g{git(checkout, 'rev-parse', 'HEAD')[:12]}"


@pytest.mark.parametrize("file", ["code.py", "new.py"])
def test_a_checkout_with_changed_code_is_marked(checkout: Path, file: str) -> None:
    (checkout / "pulse" / file).write_text("two = 2\n")
    assert checkout_commit(checkout).endswith(".dirty")


def test_deleted_code_is_a_change(checkout: Path) -> None:
    (checkout / "pulse" / "code.py").unlink()
    assert checkout_commit(checkout).endswith(".dirty")


def test_a_directory_within_a_checkout_is_not_a_checkout(checkout: Path) -> None:
    (checkout / "site-packages").mkdir()
    assert checkout_commit(checkout / "site-packages") == "unknown"


def test_a_checkout_that_git_cannot_read_has_no_known_commit(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert checkout_commit(tmp_path) == "unknown"


def test_without_git_the_commit_is_unknown(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert checkout_commit(checkout) == "unknown"


def test_variables_of_git_do_not_lead_to_another_repository(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = checkout_commit(checkout)
    monkeypatch.setenv("GIT_DIR", str(tmp_path_factory.mktemp("elsewhere")))
    assert checkout_commit(checkout) == expected


def test_events_record_version_and_commit() -> None:
    recorded = Origin.of_this_process().recorded_by("api").code_version
    assert recorded == code_version()
    version = re.escape(pulse.__version__)
    assert re.fullmatch(rf"{version}\+(g[0-9a-f]{{12}}(\.dirty)?|unknown)", recorded)
