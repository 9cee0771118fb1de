"""The version of this code with its commit, as events record it: `0.2.0+g4fa3e2b1c0de`.

In a wheel the commit is read from a file that the build writes (`hatch_build.py`). In a checkout it
is read from git, once per process; `.dirty` is appended if the package or main.py differs from the
commit. With neither file nor git the version is `0.2.0+unknown`.
"""

import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

import pulse

COMMIT_FILE: Final = "_commit.txt"
_PACKAGE: Final = Path(__file__).parent
_CODE: Final = ("pulse", "main.py")
_GIT_SECONDS: Final = 5.0
_DIGITS: Final = 12


@cache
def code_version() -> str:
    """The version of the code of this process."""
    return f"{pulse.__version__}+{_recorded_commit() or checkout_commit(_PACKAGE.parent)}"


def checkout_commit(root: Path) -> str:
    """The commit of a checkout: `g<12 digits>`, with `.dirty` if its code was changed.

    `unknown` if `root` is not the root of a checkout, or git cannot be run there.
    """
    if not (root / ".git").exists():
        return "unknown"
    try:
        commit = _git(root, "rev-parse", f"--short={_DIGITS}", "HEAD")
        changes = _git(root, "status", "--porcelain", "--", *_CODE)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"g{commit[:_DIGITS]}{'.dirty' if changes else ''}"


def _recorded_commit() -> str:
    try:
        return (_PACKAGE / COMMIT_FILE).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _git(root: Path, *arguments: str) -> str:
    ended = subprocess.run(
        ("git", "--no-optional-locks", "-C", str(root), *arguments),  # noqa: S607 - on the PATH
        capture_output=True,
        text=True,
        check=True,
        timeout=_GIT_SECONDS,
        stdin=subprocess.DEVNULL,
        env={name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    )
    return ended.stdout.strip()
