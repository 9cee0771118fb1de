"""Where an embedded server lies, the directories made for it, and those that root may not use.

PULSE_DATA_DIR/
  postgres/            home: the server's own directory
    start.lock         held alone while the server is started or stopped
    users.lock         shared by every process that uses the server
    cluster/           the data; the server's log in cluster/log
    socket/            0700; a path that is too long for a socket is replaced by one in /tmp
    binaries-.../      a copy of the programs, only where the server's account cannot read them
"""

import hashlib
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple, Self

from psycopg.conninfo import make_conninfo

from pulse.errors import PulseError

PORT: Final = 5432
USER: Final = "pulse"
"""The superuser, and the name of the database."""
_ROOT: Final = 0
_PRIVATE: Final = 0o700
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_MAX_SOCKET_PATH_BYTES: Final = 103  # of the 104 that the smallest sockaddr_un holds
_MAX_LINKS: Final = 40


class EmbeddedServerError(PulseError):
    """The embedded Postgres server cannot do what was asked; the message says what to do."""


class Place(NamedTuple):
    """The paths of one server; the same for every process that names the same data directory."""

    home: Path
    sockets: Path

    @classmethod
    def under(cls, data_dir: Path) -> Self:
        """Derive the paths; touches nothing."""
        home = Path(os.path.realpath(data_dir), "postgres")
        sockets = home / "socket"
        path = str(sockets / f".s.PGSQL.{PORT}")
        fits = len(os.fsencode(path)) <= _MAX_SOCKET_PATH_BYTES and path.isprintable()
        if not fits or {",", '"'} & set(path):  # at these, lists of hosts and sockets are split
            digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
            sockets = Path("/tmp", f"pulse-{digest}")  # noqa: S108 - checked before every use
        return cls(home, sockets)

    @property
    def cluster(self) -> Path:
        """The data directory of Postgres."""
        return self.home / "cluster"

    @property
    def is_made(self) -> bool:
        """Whether a cluster was ever made here."""
        return os.path.exists(self.cluster / "PG_VERSION")  # noqa: PTH110 - of any path at all

    @property
    def conninfo(self) -> str:
        """What libpq needs to connect."""
        return make_conninfo("", host=str(self.sockets), port=PORT, user=USER, dbname=USER)

    def make_home(self) -> None:
        """Make the missing directories down to the home; existing ones stay as they are.

        They are private, but root's can be passed through, since the server then runs under another
        account.

        Raises:
            EmbeddedServerError: this user may not make them.
        """
        mode = 0o711 if os.geteuid() == _ROOT else _PRIVATE
        try:
            missing = [path for path in (self.home, *self.home.parents) if not path.exists()]
            for path in reversed(missing):
                _make_directory(path, mode)
        except OSError as error:
            raise EmbeddedServerError(
                f"The directory {error.filename} cannot be made ({error.strerror}): set "
                "PULSE_DATA_DIR to a directory that this user may write."
            ) from error


def own_directory(path: Path, uid: int, gid: int) -> None:
    """Make sure that the path is a directory of this user that no other user can enter.

    An existing one is taken over only where it is empty and this process's own, as a process that
    was killed between making it and giving it away leaves it.

    Raises:
        EmbeddedServerError: it belongs to someone else, is open to others, or is no directory.
    """
    _make_directory(path, _PRIVATE)
    found = path.lstat()
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    if is_ours and found.st_uid != uid and not any(path.iterdir()):
        os.chown(path, uid, gid, follow_symlinks=False)
    require_private(path, uid)


def require_private(path: Path, uid: int) -> None:
    """Refuse what is not a directory that only this user can enter, with EmbeddedServerError."""
    found = path.lstat()
    if found.st_mode != stat.S_IFDIR | _PRIVATE or found.st_uid != uid:
        raise EmbeddedServerError(
            f"{path} is not a directory that only the user with id {uid} can enter, so the "
            "server's socket is not safe in it: remove it, or set PULSE_DATA_DIR to a shorter path."
        )


def refuse_writable_by_others(data_dir: Path) -> None:
    """As root, refuse a data directory that others may write or replace. Touches nothing.

    Another user could have root write elsewhere, read its keys, or serve orders of their own.
    Refused are: a data directory, or the server's own in it, that others may write; a directory
    above, unless it is sticky; a link or a directory above that belongs to neither root nor the
    owner of the data directory. That owner is trusted, since the server runs as that user; but not
    where any user could have made it, as in /tmp.

    Raises:
        EmbeddedServerError: it names the directory and what to do.
    """
    if os.geteuid() != _ROOT:
        return
    data = Path(os.path.realpath(data_dir))
    own = (data, data / "postgres")
    steps = list(_steps(data_dir.absolute() / "postgres"))
    trusted = {_ROOT}
    anyone_could_make_it = any(_others_write(found) for path, found in steps if path not in own)
    if Place.under(data_dir).is_made or not anyone_could_make_it:
        trusted.update(found.st_uid for path, found in steps if path == data)
    for path, found in steps:
        is_link, remedy = stat.S_ISLNK(found.st_mode), ""
        if found.st_uid not in trusted:
            fault = f"belongs to uid {found.st_uid} ({user_name(found.st_uid) or 'without a name'})"
        elif _others_write(found) and (path in own or not found.st_mode & stat.S_ISVTX):
            fault = f"may be written by other users (mode {stat.S_IMODE(found.st_mode):04o})"
        else:
            continue
        if _others_write(found) and found.st_uid == _ROOT:
            remedy = f"run `chmod go-w {path}`, "
        elif path in own or is_link:
            remedy = f"give it to root (`chown -h root {path}`), "
        above = f"On the way to the data {data_dir}, the {'link' if is_link else 'directory'}"
        raise EmbeddedServerError(
            f"{'The data directory' if path in own else above} {path} {fault}, so others than root "
            f"could change what root's Pulse stores: {remedy}set PULSE_DATA_DIR to a directory "
            "that only root may write, or run Pulse as an ordinary user."
        )


def user_name(uid: int) -> str | None:
    """The name of the user; containers run users who have none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _steps(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every directory and link that exists on the way to the path, links followed one by one."""
    here, rest, links = Path("/"), list(path.parts), 0
    while rest and links <= _MAX_LINKS:
        part = rest.pop(0)
        step = here.parent if part == ".." else here / part
        try:
            found = step.lstat()
        except OSError:  # not there yet, or not a directory, which creating it reports
            return
        yield step, found
        if stat.S_ISLNK(found.st_mode):
            links += 1
            rest = [*step.readlink().parts, *rest]
        else:
            here = step


def _others_write(found: os.stat_result) -> bool:
    return not stat.S_ISLNK(found.st_mode) and bool(found.st_mode & _OTHERS_WRITE)


def _make_directory(path: Path, mode: int) -> None:
    try:
        path.mkdir(mode)
    except FileExistsError:
        return
    path.chmod(mode)  # whatever the umask
