"""A small disk that can be filled and emptied."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.faults.case import Unsupported

_BLOCK: Final = b"\0" * 65_536


class SmallDisk:
    """A tmpfs mounted at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    @classmethod
    @asynccontextmanager
    async def mounted(cls, path: Path, *, megabytes: int) -> AsyncIterator["SmallDisk"]:
        """A mounted disk; on exit it is unmounted even if files are in use.

        Raises:
            Unsupported: this user cannot mount a file system.
        """
        path.mkdir(parents=True)  # noqa: ASYNC240 - a moment
        await asyncio.to_thread(_mount, path, megabytes)
        try:
            yield cls(path)
        finally:
            _run("umount", "--lazy", str(path))  # blocking, so that cancellation cannot prevent it

    def give_to_owner_of(self, path: Path) -> None:
        """Give the disk to the owner of that path."""
        owner = path.stat()
        os.chown(self.path, owner.st_uid, owner.st_gid)

    def fill(self) -> None:
        """Leave no byte free."""
        with self._ballast.open("wb", buffering=0) as ballast:
            while True:
                try:
                    ballast.write(_BLOCK)
                except OSError:  # the last write filled the rest with a part of a block
                    return

    def free(self) -> None:
        """Delete the file that fills the disk."""
        self._ballast.unlink(missing_ok=True)


def _mount(path: Path, megabytes: int) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        raise Unsupported("only root can mount the small disk")
    options = f"size={megabytes}m,mode=700"
    mounted = _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path))
    if mounted.returncode != 0:
        raise Unsupported(f"cannot mount the small disk: {mounted.stderr.strip()}")


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
