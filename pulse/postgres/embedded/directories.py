"""The directories of an embedded server, and checks of their owners and modes.

PULSE_DATA_DIR/
  postgres/            home: the server's directory
    start.lock         locked exclusively while the server is started or stopped
    users.lock         locked shared by each process that uses the server
    cluster/           the data; the server's log is in cluster/log
    socket/            mode 0700; in /tmp if the path is too long, or has a comma, a double quote
                         or an unprintable character
    binaries-.../      a copy of the programs, if the account cannot run the installed ones
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
"""The superuser and the database."""
_ROOT: Final = 0
_PRIVATE: Final = 0o700
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_MAX_SOCKET_PATH_BYTES: Final = 103  # of the 104 that the smallest sockaddr_un holds
_MAX_LINKS: Final = 40


class EmbeddedServerError(PulseError):
    """The embedded Postgres server cannot be used; the message says what to do."""


class ServerPaths(NamedTuple):
    """The paths of one server, derived from the data directory alone."""

    home: Path
    sockets: Path

    @classmethod
    def under(cls, data_dir: Path) -> Self:
        """Derive the paths; no file is touched."""
        home = Path(os.path.realpath(data_dir), "postgres")
        sockets = home / "socket"
        path = str(sockets / f".s.PGSQL.{PORT}")
        fits = len(os.fsencode(path)) <= _MAX_SOCKET_PATH_BYTES and path.isprintable()
        if not fits or {",", '"'} & set(path):  # both have a meaning in libpq's lists of hosts
            digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
            sockets = Path("/tmp", f"pulse-{digest}")  # noqa: S108 - checked before every use
        return cls(home, sockets)

    @property
    def cluster(self) -> Path:
        """The data directory of Postgres."""
        return self.home / "cluster"

    @property
    def has_cluster(self) -> bool:
        """Whether a cluster exists here."""
        return os.path.exists(self.cluster / "PG_VERSION")  # noqa: PTH110 - never raises

    @property
    def conninfo(self) -> str:
        """The conninfo of the server."""
        return make_conninfo("", host=str(self.sockets), port=PORT, user=USER, dbname=USER)

    def create_home(self) -> None:
        """Create the missing directories down to the home; existing ones are not changed.

        Their mode is 0700, or 0711 as root, since the server then runs as another account.

        Raises:
            EmbeddedServerError: this user may not create them.
        """
        mode = 0o711 if os.geteuid() == _ROOT else _PRIVATE
        try:
            missing = [path for path in (self.home, *self.home.parents) if not path.exists()]
            for path in reversed(missing):
                _create_directory(path, mode)
        except OSError as error:
            raise EmbeddedServerError(
                f"The directory {error.filename} cannot be created ({error.strerror}): set "
                "PULSE_DATA_DIR to a directory that this user may write."
            ) from error


def create_private_directory(path: Path, uid: int, gid: int) -> None:
    """Create a directory that only the user `uid` can enter, or check an existing one.

    An existing directory is given to `uid` only if it is empty and owned by this process's user: a
    process may have been killed between mkdir and chown.

    Raises:
        EmbeddedServerError: another user owns the path or can enter it, or it is not a directory.
    """
    _create_directory(path, _PRIVATE)
    found = path.lstat()
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    if is_ours and found.st_uid != uid and not any(path.iterdir()):
        os.chown(path, uid, gid, follow_symlinks=False)
    require_private(path, uid)


def require_private(path: Path, uid: int) -> None:
    """Raise EmbeddedServerError unless the path is a directory that only this user can enter."""
    found = path.lstat()
    if found.st_mode != stat.S_IFDIR | _PRIVATE or found.st_uid != uid:
        raise EmbeddedServerError(
            f"{path} is not a directory that only the user with id {uid} can enter, so it is not "
            "safe for the server's socket: remove it, or set PULSE_DATA_DIR to a shorter path."
        )


def refuse_writable_by_others(data_dir: Path) -> None:
    """As root, refuse a data directory that other users may write or replace. Changes no file.

    Otherwise another user could make root write elsewhere, read root's keys, or forge orders.
    Refused are: a data directory, or the server's directory in it, that others may write; a parent
    directory that others may write, unless it is sticky; a link or a parent directory that belongs
    to neither root nor the owner of the data directory. That owner is trusted, since the server
    runs as this user, unless there is no data yet and any user could have created the directory, as
    in /tmp.

    Raises:
        EmbeddedServerError: the message names the directory and says what to do.
    """
    if os.geteuid() != _ROOT:
        return
    data = Path(os.path.realpath(data_dir))
    own = (data, data / "postgres")
    steps = list(_path_components(data_dir.absolute() / "postgres"))
    trusted = {_ROOT}
    anyone_could_create = any(
        _is_writable_by_others(found) for path, found in steps if path not in own
    )
    if ServerPaths.under(data_dir).has_cluster or not anyone_could_create:
        trusted.update(found.st_uid for path, found in steps if path == data)
    for path, found in steps:
        is_link, remedy = stat.S_ISLNK(found.st_mode), ""
        if found.st_uid not in trusted:
            fault = f"belongs to uid {found.st_uid} ({user_name(found.st_uid) or 'without a name'})"
        elif _is_writable_by_others(found) and (path in own or not found.st_mode & stat.S_ISVTX):
            fault = f"may be written by other users (mode {stat.S_IMODE(found.st_mode):04o})"
        else:
            continue
        if _is_writable_by_others(found) and found.st_uid == _ROOT:
            remedy = f"run `chmod go-w {path}`, "
        elif path in own or is_link:
            remedy = f"give it to root (`chown -h root {path}`), "
        above = f"In the path of the data {data_dir}, the {'link' if is_link else 'directory'}"
        raise EmbeddedServerError(
            f"{'The data directory' if path in own else above} {path} {fault}, so users other than "
            f"root could change the data of a Pulse that runs as root: {remedy}set PULSE_DATA_DIR "
            "to a directory that only root may write, or run Pulse as an ordinary user."
        )


def user_name(uid: int) -> str | None:
    """The name of the user; in a container it may have none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _path_components(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Each existing directory and link in the path, following links one by one."""
    here, rest, links = Path("/"), list(path.parts), 0
    while rest and links <= _MAX_LINKS:
        part = rest.pop(0)
        step = here.parent if part == ".." else here / part
        try:
            found = step.lstat()
        except OSError:  # it does not exist yet, or is not a directory: creating it reports that
            return
        yield step, found
        if stat.S_ISLNK(found.st_mode):
            links += 1
            rest = [*step.readlink().parts, *rest]
        else:
            here = step


def _is_writable_by_others(found: os.stat_result) -> bool:
    return not stat.S_ISLNK(found.st_mode) and bool(found.st_mode & _OTHERS_WRITE)


def _create_directory(path: Path, mode: int) -> None:
    try:
        path.mkdir(mode)
    except FileExistsError:
        return
    path.chmod(mode)  # regardless of the umask
