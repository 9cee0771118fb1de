"""The file of the key that signs checkpoints. Only its owner may read it."""

import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from pulse.errors import PulseError
from pulse.evidence.note import NoteInvalid, SigningKey

_MAX_BYTES: Final = 4096


class KeyFileUnusable(PulseError):
    """A key file cannot be read, created or trusted; the message says why."""


def read_key_file(file: Path) -> SigningKey:
    """The key in this file.

    Raises:
        KeyFileUnusable: the file is missing or not a key, or other users may read or change it.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise KeyFileUnusable(
            f"the seal's key {file} cannot be read ({error.strerror}): set PULSE_SEAL_KEY to a "
            "file that `pulse key new` created"
        ) from error
    try:
        found = os.fstat(descriptor)
        text = os.read(descriptor, _MAX_BYTES) if stat.S_ISREG(found.st_mode) else b""
    finally:
        os.close(descriptor)
    if found.st_uid not in {os.geteuid(), 0} or found.st_mode & _forbidden(found):
        raise KeyFileUnusable(
            f"the seal's key {file} is accessible to other users: make this user its owner and "
            "`chmod 600` it; if another user has read it, also replace the key with "
            "`pulse key new` and `pulse key rotate`"
        )
    try:
        return SigningKey.parse(text.decode("utf-8", "replace"))
    except NoteInvalid as error:
        raise KeyFileUnusable(
            f"the seal's key file {file} has no valid key ({error}): `pulse key new` creates one"
        ) from error


def _forbidden(found: os.stat_result) -> int:
    """The mode bits that a key file may not have.

    The group may read a file of root, as Postgres allows for its TLS key: a mounted secret is often
    readable only through the group of the process.
    """
    is_file_of_root = found.st_uid == 0 != os.geteuid()
    return 0o037 if is_file_of_root else 0o077


def create_key_file(file: Path, key: SigningKey) -> bool:
    """Write the key to a new file that only this user may read. False if the file exists.

    The file appears with all of its content or not at all. If two processes call this, only one of
    them creates the file.

    Raises:
        KeyFileUnusable: it cannot be created.
    """
    try:
        with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=f".{file.name}.") as draft:
            draft.write(f"{key.text}\n")
            draft.flush()
            os.fsync(draft.fileno())
            try:
                file.hardlink_to(draft.name)
            except FileExistsError:
                return False
        _sync_directory(file.parent)
    except OSError as error:
        raise KeyFileUnusable(
            f"the key file {file} cannot be created ({error.strerror})"
        ) from error
    return True


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
