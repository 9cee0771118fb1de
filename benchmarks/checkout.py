"""A checkout to measure: this one, or an earlier commit with its own virtual environment."""

import subprocess
import sys
from pathlib import Path
from typing import Final, Self

import msgspec

from tests.support.processes import ROOT

_CHECKOUTS: Final = ROOT / ".bench"
"""Earlier commits, kept between runs. Delete the directory to install them again."""


class Checkout(msgspec.Struct, frozen=True):
    """A tree of Pulse's code and the interpreter that runs it."""

    name: str
    root: Path
    python: str

    @classmethod
    def this(cls) -> Self:
        """This process's checkout."""
        return cls("this commit", ROOT, sys.executable)

    @classmethod
    def of_commit(cls, commit: str) -> Self:
        """That commit in its own directory, installed on first use (a minute).

        Raises:
            RuntimeError: the commit is not in this clone, or its packages cannot be installed.
        """
        root = _CHECKOUTS / commit
        if not root.exists():
            _run("git", "clone", "--quiet", "--no-checkout", str(ROOT), str(root))
            _run("git", "-C", str(root), "checkout", "--quiet", commit)
        _run("make", "--silent", "-C", str(root), ".venv/.dev")
        return cls(commit, root, str(root / ".venv" / "bin" / "python"))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


THIS: Final = Checkout.this()
EARLIER: Final = "f75193a"
"""A commit from before decision 22, the baseline of the parts `earlier` and `sustained`."""
