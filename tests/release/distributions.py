"""Builds the source distribution, and the wheel from it, and checks their files and metadata."""

import re
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Final
from zipfile import ZipFile

import pulse
from tests.release.environments import TOOLS, CheckFailed, run
from tests.support.processes import ROOT

EXTRAS: Final = {"charts", "embedded", "otel", "reload", "testing"}
_PYTHONS: Final = {"3.11", "3.12", "3.13"}
_COMMIT: Final = "pulse/_commit.txt"
_RELEASE: Final = re.compile(r"^## \[(\d+\.\d+\.\d+)\]", re.MULTILINE)


def build(directory: Path) -> Path:
    """The wheel, built from the source distribution alone."""
    hatchling = (TOOLS / "python", "-m", "hatchling", "build")
    run(*hatchling, "-t", "sdist", "-d", directory)
    (archive,) = directory.glob("*.tar.gz")
    run("tar", "-xzf", archive, "-C", directory)
    source = directory / archive.name.removesuffix(".tar.gz")
    run(*hatchling, "-t", "wheel", "-d", directory, cwd=source)
    (wheel,) = directory.glob("*.whl")
    return wheel


def check(wheel: Path) -> None:
    """Check the wheel's files and metadata.

    Raises:
        CheckFailed: they are not those of this checkout.
    """
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        (entry_points,) = (name for name in names if name.endswith("/entry_points.txt"))
        check_files({name for name in names if ".dist-info/" not in name})
        check_metadata(Parser().parsestr(archive.read(metadata).decode()))
        if "pulse = pulse.cli:main" not in archive.read(entry_points).decode():
            raise CheckFailed("the wheel has no command `pulse`")


def check_files(names: set[str]) -> None:
    """Check that a wheel's files (`names`) are those that git has below pulse/, and the commit."""
    known = set(run("git", "ls-files", "pulse").splitlines()) | {_COMMIT}
    if missing := known - names:
        raise CheckFailed(f"not in the wheel: {', '.join(sorted(missing))}")
    if unknown := names - known:
        raise CheckFailed(f"in the wheel, but not in git: {', '.join(sorted(unknown))}")


def check_metadata(metadata: Message) -> None:
    """Check version, Python versions, extras and description."""
    _expect("Version", metadata["Version"], pulse.__version__)
    _expect("Requires-Python", metadata["Requires-Python"], ">=3.11")
    missing = EXTRAS - set(metadata.get_all("Provides-Extra", []))
    _expect("missing extras", missing, set())
    classifiers = metadata.get_all("Classifier", [])
    _expect("Private", "Private :: Do Not Upload" in classifiers, expected=True)
    prefix = "Programming Language :: Python :: 3."
    stated = {f"3.{one.removeprefix(prefix)}" for one in classifiers if one.startswith(prefix)}
    _expect("Python versions", stated, _PYTHONS)
    _expect("description", metadata["Description-Content-Type"], "text/markdown")
    released = _RELEASE.search((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    if released is not None:
        _expect("newest release in CHANGELOG.md", released[1], pulse.__version__)


def _expect(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise CheckFailed(f"metadata of the wheel: {what} is {found}, not {expected}")
