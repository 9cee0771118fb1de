"""The directory of a group of processes: the lock of its log, the sockets of its members."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog

from pulse.errors import PulseError
from pulse.process.group.metrics import metrics_file
from pulse.wording import counted

_log = structlog.get_logger(__name__)

_MAX_SOCKET_PATH_BYTES: Final = 103  # of the 104 that the smallest sockaddr_un holds
_MAX_GENERATION: Final = 999_999_999


class NoDirectory(PulseError):
    """No directory for temporary files can be used; the message says what to do."""


class GroupDirectory:
    """A new directory that other users cannot read.

    It is locked until this process ends, because systemd-tmpfiles, which removes old files, does
    not remove a locked directory.
    """

    def __init__(self, members: Iterable[str]) -> None:
        """Create it.

        Raises:
            NoDirectory: it cannot be created, or its path is too long for sockets.
        """
        try:
            self.path = tempfile.mkdtemp(prefix="pulse-up-")
        except OSError as error:
            raise NoDirectory(
                f"several processes need a directory for temporary files: {error.strerror}; set "
                "TMPDIR to one that this user may write"
            ) from error
        self._descriptor = self._locked()
        longest = max(
            (os.fsencode(metrics_file(self.path, name, _MAX_GENERATION)) for name in members),
            key=len,
        )
        if len(longest) > _MAX_SOCKET_PATH_BYTES:
            excess = counted(len(longest) - _MAX_SOCKET_PATH_BYTES, "byte")
            self.remove()
            raise NoDirectory(
                f"the path of the directory for temporary files, {Path(self.path).parent}, is too "
                f"long for sockets: set TMPDIR to one that is at least {excess} shorter"
            )

    def ensure(self) -> None:
        """Create the directory again if it was removed.

        Raises:
            OSError: it cannot be created, or its path is in use.
        """
        if self._exists():
            return
        Path(self.path).mkdir(mode=0o700)
        os.close(self._descriptor)
        self._descriptor = self._locked()
        _log.error(
            "group.directory_was_removed",
            directory=self.path,
            consequence="the metrics of running members are missing until they are restarted",
            remedy="restart them with SIGHUP; exclude the directory from cleanup of old files",
        )

    def remove(self) -> None:
        """Remove the directory, unless another directory is now at its path."""
        if self._exists():
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._descriptor)

    def _locked(self) -> int:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        return descriptor

    def _exists(self) -> bool:
        try:
            return os.path.samestat(os.lstat(self.path), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False
