"""Locks between processes: flock on a file, one open file description for each lock.

Two acquires in one process hold two descriptions, so the kernel counts threads and processes
alike and forgets whoever is killed; there is no count here that could go wrong. A program
started from here does not inherit a lock (close-on-exec), nor does a forked child.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakSet

from pulse.postgres.embedded.errors import EmbeddedServerError

_POLL_SECONDS = 0.02
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Lock:
    """One holder's lock on a file; not held until asked for, gone when closed or killed."""

    def __init__(self, path: Path) -> None:
        try:
            self._fd = os.open(path, _FLAGS, 0o600)
        except OSError as error:
            raise EmbeddedServerError(
                f"The lock file {path} cannot be opened ({error.strerror}): run Pulse as the user "
                "who owns it, or choose another PULSE_DATA_DIR."
            ) from error
        _open_locks.add(self)

    @property
    def closed(self) -> bool:
        """Whether nothing is held any more, because of `close` or because this is a fork."""
        return self._fd < 0

    def try_shared(self) -> bool:
        """Hold it together with others, unless someone holds it alone."""
        return self._try(fcntl.LOCK_SH)

    def try_exclusive(self) -> bool:
        """Hold it alone; when it cannot be had at once, what was held before is lost too.

        That is flock's rule for conversions, which are not atomic: the old lock goes first.
        """
        return self._try(fcntl.LOCK_EX)

    def close(self) -> None:
        """Hold nothing any more; harmless when repeated."""
        if not self.closed:
            # A child between fork and exec shares the description: closing alone would leave
            # the lock with it for that moment.
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            self.forget()

    def forget(self) -> None:
        """Close the file without unlocking what other processes share through it."""
        if not self.closed:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _try(self, kind: int) -> bool:
        try:
            fcntl.flock(self._fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def exclusive(path: Path, timeout_seconds: float) -> Iterator[None]:
    """Hold the file's lock alone inside the block.

    Raises:
        EmbeddedServerError: someone else holds it for longer than the timeout.
    """
    lock = Lock(path)
    deadline = time.monotonic() + timeout_seconds
    try:
        while not lock.try_exclusive():
            if time.monotonic() >= deadline:
                raise EmbeddedServerError(
                    f"Another process has been starting or stopping the embedded server for more "
                    f"than {timeout_seconds:g} s: find who holds {path} and end it."
                )
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        lock.close()


_open_locks: WeakSet[Lock] = WeakSet()


def _forget_after_fork() -> None:
    """A forked child is no user of its own: it must not keep the server for a dead parent."""
    for lock in list(_open_locks):
        lock.forget()
    _open_locks.clear()


os.register_at_fork(after_in_child=_forget_after_fork)
