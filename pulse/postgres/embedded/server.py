"""One use of the embedded server: the first to come starts it, the last to leave stops it.

Whoever uses the server holds `users.lock` together with the others, and whoever starts or
stops it holds `start.lock` alone. `users.lock` is taken and converted only under `start.lock`:
so nobody can slip in while the leaving one's shared lock is exchanged for the exclusive one,
which flock does not do atomically, and getting it means to be the last.
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from pulse.postgres.embedded import control
from pulse.postgres.embedded.client import ignore_client_variables
from pulse.postgres.embedded.directories import make_home
from pulse.postgres.embedded.errors import EmbeddedServerError
from pulse.postgres.embedded.locks import Lock, exclusive
from pulse.postgres.embedded.place import Place
from pulse.postgres.embedded.process import is_ready, serves
from pulse.postgres.embedded.trust import refuse_writable_by_others


class EmbeddedServer:
    """A use of the server in one data directory; all methods block and may be called anywhere.

    A user who is killed counts no longer, and takes the server with them no more than they
    keep it: the next last one out stops it. A forked child holds no use; it acquires its own.
    """

    def __init__(self, place: Place, use: Lock, options: Mapping[str, str]) -> None:
        self._place = place
        self._options = options
        self._uses = [use]

    @classmethod
    def acquire(cls, data_dir: Path, options: Mapping[str, str] | None = None) -> Self:
        """Use the server of this directory; it is ready for connections on return.

        Args:
            data_dir: PULSE_DATA_DIR; it is made if missing, and left as it is otherwise.
            options: further server settings, for tests only; a running server keeps its own.

        From then on this process ignores the PG* variables of its shell: they name other servers.

        Raises:
            EmbeddedServerError: there is no server for this platform, user or data; or, as root,
                others may write the directory.
        """
        ignore_client_variables()
        refuse_writable_by_others(data_dir)
        place = Place.under(data_dir)
        make_home(place)
        with exclusive(place.start_lock, control.LOCK_SECONDS):
            use = Lock(place.users_lock)
            try:
                _hold_together(use)
                control.start(place, options or {})
            except BaseException:
                use.close()
                raise
        return cls(place, use, options or {})

    @staticmethod
    def has_data(data_dir: Path) -> bool:
        """Whether a server was ever made in this directory; makes none."""
        return (Place.under(data_dir).cluster / "PG_VERSION").exists()

    @property
    def conninfo(self) -> str:
        """What libpq needs to connect: the socket, the user and the database `pulse`."""
        return self._place.conninfo

    def ensure_running(self) -> bool:
        """Start the server again if it is gone; True if this call had to.

        Raises:
            EmbeddedServerError: it cannot be started, or this use has ended.
        """
        if not any(not use.closed for use in self._uses):
            raise EmbeddedServerError(
                "This process does not use the embedded server any more: acquire it anew."
            )
        if serves(self._place):
            return False
        with exclusive(self._place.start_lock, control.LOCK_SECONDS):
            if is_ready(self._place):
                return False
            control.start(self._place, self._options)
        return True

    def release(self) -> None:
        """End this use, and stop the server if it was the last; harmless when repeated.

        Raises:
            EmbeddedServerError: the server does not stop; this use has ended all the same.
        """
        try:
            use = self._uses.pop()  # atomic: of two threads that release, one does it
        except IndexError:
            return
        if use.closed:
            return
        try:
            with exclusive(self._place.start_lock, control.LOCK_SECONDS):
                if use.try_exclusive():
                    control.stop(self._place)
        finally:
            use.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def _hold_together(use: Lock) -> None:
    """Count as a user; only a stranger can refuse it, as Pulse's own hold the start lock."""
    if not use.try_shared():
        raise EmbeddedServerError(
            "Something other than Pulse holds users.lock of the embedded server: end it."
        )
