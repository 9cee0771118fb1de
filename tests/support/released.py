"""The code of the previous release, which runs alongside this code in upgrade tests."""

import subprocess
from pathlib import Path
from typing import Final

from tests.support.processes import ROOT

REFERENCE: Final = (ROOT / "tests/release/released.txt").read_text(encoding="ascii").strip()
"""The commit or tag of that release, changed at each release (docs/how-to/check-a-change.md).

Until 0.2.0 has a tag it is a commit of version 0.1.0 whose newest revision is 15: the oldest code
that revision 16 admits, so that the schema is newer than it.
"""


def unpack_released(directory: Path) -> Path:
    """Write that code into the directory; returns it. Processes run in it, with `-m pulse.cli`.

    A clone needs its history for this: `git fetch --unshallow`, or `--tags`.
    """
    commit = _git("rev-parse", "--verify", f"{REFERENCE}^{{commit}}").decode().strip()
    archive = _git("archive", "--format=tar", commit, "pulse", "main.py")
    subprocess.run(["tar", "-x", "-C", directory], input=archive, check=True)
    (directory / "pulse" / "_commit.txt").write_text(f"g{commit[:12]}", encoding="ascii")
    return directory


def _git(*arguments: str) -> bytes:
    ended = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, check=False)
    assert ended.returncode == 0, (
        f"the clone lacks {REFERENCE}, which tests/release/released.txt names: "
        f"fetch its history and tags ({ended.stderr.decode().strip()})"
    )
    return ended.stdout
