"""As root: whether other users could write into the data directory, or replace it.

A user who can write a directory on the way to the data can have root write elsewhere, read its
keys, or serve orders of their own making. The owner of the data directory itself is trusted with
it, since the server runs as that user; but not where any user could have made it, as in /tmp.
"""

import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pulse.postgres.embedded.errors import EmbeddedServerError

_ROOT = 0
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS = 40


class _Step(NamedTuple):
    """A directory or link on the way from the root of the file system to the data."""

    path: Path
    found: os.stat_result
    is_data: bool

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.found.st_mode)

    @property
    def others_may_write(self) -> bool:
        return not self.is_link and bool(self.found.st_mode & _OTHERS_MAY_WRITE)

    @property
    def is_sticky(self) -> bool:
        return bool(self.found.st_mode & stat.S_ISVTX)


def refuse_writable_by_others(data_dir: Path) -> None:
    """As root, refuse a data directory that others may write or replace. Touches nothing.

    Refused are: a data directory, or what Pulse has in it for the server, that a group or everybody
    may write; a directory above, unless it is sticky; a link or a directory above that belongs to
    neither root nor the owner of the data directory.

    Raises:
        EmbeddedServerError: it names the directory and what to do.
    """
    if os.geteuid() != _ROOT:
        return
    steps = list(_steps(data_dir.absolute() / "postgres", data_dir.absolute()))
    trusted = {_ROOT, _owner_of_data(steps, data_dir)}
    for step in steps:
        if step.found.st_uid not in trusted:
            raise _refused(step, data_dir, f"belongs to {_name(step.found.st_uid)}")
        if step.others_may_write and (step.is_data or not step.is_sticky):
            mode = stat.S_IMODE(step.found.st_mode)
            raise _refused(step, data_dir, f"may be written by other users (mode {mode:04o})")


def _owner_of_data(steps: list[_Step], data_dir: Path) -> int:
    """Who may own the directories besides root."""
    data = next((step for step in steps if step.is_data and not step.is_link), None)
    if data is None:
        return _ROOT
    anybody_could_make_it = any(s.others_may_write for s in steps if not s.is_data)
    if anybody_could_make_it and not (data_dir / "postgres" / "cluster" / "PG_VERSION").exists():
        return _ROOT
    return data.found.st_uid


def _steps(path: Path, data_dir: Path) -> Iterator[_Step]:
    """Every directory and link that is there on the way, links followed one by one."""
    above = len(data_dir.parts) - 1
    parts = [(part, number >= above) for number, part in enumerate(path.parts[1:], 1)]
    here, links = Path(path.anchor), 0
    yield _Step(here, here.lstat(), is_data=False)
    while parts and links <= _MOST_LINKS:
        (part, is_data), *parts = parts
        if part == "..":
            here = here.parent
            continue
        try:
            found = (here / part).lstat()
        except OSError:  # not there yet, or not a directory, which creating it reports
            return
        step = _Step(here / part, found, is_data)
        yield step
        if step.is_link:
            links += 1
            target = step.path.readlink()
            here = Path(target.anchor) if target.is_absolute() else here
            names = target.parts[1:] if target.is_absolute() else target.parts
            last = len(names) - 1
            parts = [(name, is_data and n == last) for n, name in enumerate(names)] + parts
        else:
            here = step.path


def _refused(step: _Step, data_dir: Path, fault: str) -> EmbeddedServerError:
    what = "The data directory" if step.is_data else f"On the way to the data {data_dir},"
    kind = "the link " if step.is_link else "" if step.is_data else "the directory "
    if step.others_may_write and step.found.st_uid == _ROOT:
        remedy = f"run `chmod go-w {step.path}`, "
    elif step.is_data or step.is_link:
        remedy = f"give it to root (`chown -h root {step.path}`), "
    else:
        remedy = ""
    return EmbeddedServerError(
        f"{what} {kind}{step.path} {fault}, so others than root could change what root's Pulse "
        f"stores: {remedy}set PULSE_DATA_DIR to a directory that only root may write, or run "
        "Pulse as an ordinary user."
    )


def _name(uid: int) -> str:
    with suppress(KeyError):
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    return f"uid {uid}"
