"""Where everything of one embedded server lies; naming the paths touches nothing.

PULSE_DATA_DIR/
  postgres/            home: the server's own directory
    start.lock         held alone while the server is started or stopped
    users.lock         held together by everyone who uses it
    cluster/           the data, the server's log in cluster/log
    socket/            0700, unless its path is too long for a socket
    binaries-.../      a copy of the programs, only where the server's user cannot read them
"""

import hashlib
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PORT = 5432
DATABASE = USER = "pulse"
# struct sockaddr_un holds 108 bytes on Linux and 104 elsewhere, the last one a NUL.
_SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103
_SOCKET_NAME = f".s.PGSQL.{PORT}"


@dataclass(frozen=True, slots=True)
class Place:
    """The paths of one embedded server; the same for every process that names the same data."""

    home: Path
    sockets: Path

    @classmethod
    def under(cls, data_dir: Path) -> "Place":
        """Derive the paths; nothing is touched."""
        # Path.resolve raises where links form a loop; creating the directory gives a better error
        home = Path(os.path.realpath(data_dir)) / "postgres"
        beside = home / "socket"
        return cls(home, beside if _holds_socket(beside) else _short_directory(home))

    @property
    def cluster(self) -> Path:
        """The data directory of Postgres."""
        return self.home / "cluster"

    @property
    def socket(self) -> Path:
        """The socket the server listens on."""
        return self.sockets / _SOCKET_NAME

    @property
    def start_lock(self) -> Path:
        """Held alone while the server is started or stopped."""
        return self.home / "start.lock"

    @property
    def users_lock(self) -> Path:
        """Held together while the server is in use."""
        return self.home / "users.lock"

    @property
    def conninfo(self) -> str:
        """What libpq needs to connect."""
        host = str(self.sockets).replace("\\", "\\\\").replace("'", "\\'")
        return f"host='{host}' port={PORT} user={USER} dbname={DATABASE}"


def _holds_socket(directory: Path) -> bool:
    """Whether libpq and the server can name a socket there: lists of hosts split at commas."""
    path = os.fsencode(directory / _SOCKET_NAME)
    try:
        plain = not set(path.decode()) & set(',"\n')
    except UnicodeDecodeError:
        return False
    return plain and len(path) <= _SOCKET_PATH_BYTES


def _short_directory(home: Path) -> Path:
    """Name the home's own directory in the temp directory, the same for all who share it.

    TMPDIR differs between users and sessions, /tmp does not.
    """
    temporary = Path("/tmp")  # noqa: S108 - its owner and mode are checked before every use
    base = temporary if temporary.is_dir() else Path(tempfile.gettempdir())
    return base / f"pulse-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}"
