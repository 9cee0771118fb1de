"""The directories made for the server; never one that was there before, whoever owns it."""

import os
import stat
from pathlib import Path

from pulse.postgres.embedded.errors import EmbeddedServerError
from pulse.postgres.embedded.place import Place

_PRIVATE = 0o700


def make_home(place: Place) -> None:
    """Make the missing directories down to the home; what is there stays as it is.

    They are private, but root's may be passed through, because the server then runs as another
    user; they cannot be listed, and what lies in them has modes of its own.

    Raises:
        EmbeddedServerError: this user may not make them.
    """
    mode = 0o711 if os.geteuid() == 0 else _PRIVATE
    try:
        missing = [path for path in (place.home, *place.home.parents) if not path.exists()]
        for path in reversed(missing):
            _make_directory(path, mode)
    except OSError as error:
        raise EmbeddedServerError(
            f"The directory {error.filename} cannot be made ({error.strerror}): set "
            "PULSE_DATA_DIR to a directory that this user may write."
        ) from error


def own_directory(path: Path, uid: int, gid: int) -> None:
    """Make sure that the path is a directory of this user which nobody else can enter.

    An existing one is taken over only where it is empty and our own, as a process that was
    killed between making it and giving it away leaves it.

    Raises:
        EmbeddedServerError: it belongs to someone else, is open to others, or is no directory.
    """
    try:
        _make_directory(path, _PRIVATE)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _unsafe(path, uid) from error
    try:
        if os.fstat(fd).st_uid == os.geteuid() != uid and _is_empty(fd):
            os.fchown(fd, uid, gid)
        _refuse_unsafe(os.fstat(fd), path, uid)
    finally:
        os.close(fd)


def socket_is_trusted(place: Place) -> bool:
    """Whether the sockets' directory is there; in the temp directory anyone may have made it.

    Raises:
        EmbeddedServerError: it is there and is not the server's own.
    """
    try:
        owner = place.cluster.stat().st_uid
        _refuse_unsafe(place.sockets.lstat(), place.sockets, owner)
    except FileNotFoundError:
        return False
    return True


def _make_directory(path: Path, mode: int) -> None:
    try:
        path.mkdir(mode)
    except FileExistsError:
        return
    path.chmod(mode)  # exactly this mode, whatever the umask


def _refuse_unsafe(found: os.stat_result, path: Path, uid: int) -> None:
    private = stat.S_ISDIR(found.st_mode) and found.st_mode & 0o777 == _PRIVATE
    if not private or found.st_uid != uid:
        raise _unsafe(path, uid)


def _unsafe(path: Path, uid: int) -> EmbeddedServerError:
    return EmbeddedServerError(
        f"{path} is not a directory that only the user with id {uid} can enter, so the server's "
        "socket is not safe in it: remove it, or set PULSE_DATA_DIR to a shorter path."
    )


def _is_empty(fd: int) -> bool:
    with os.scandir(fd) as entries:
        return next(entries, None) is None
