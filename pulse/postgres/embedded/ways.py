"""As whom the server's programs run; Postgres refuses root."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# Nothing else of the caller's environment: its PG* variables would change what the server
# does, and its secrets are none of the server's business.
_ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}
_LABELS = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended, with everything it said."""

    succeeded: bool
    output: str


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run a program, and who owns the files it makes."""

    description: str
    uid: int
    gid: int
    prefix: tuple[str, ...] = field(default=())

    def run(
        self,
        command: Sequence[str | Path],
        *,
        timeout_seconds: float = 10,
        stdin: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run a program to its end in a session of its own, so that Ctrl-C does not reach it.

        What it says goes to a file and not into a pipe: a server that it leaves behind keeps
        the output open, and reading a pipe would then never end.
        """
        switch = self.uid != os.geteuid()
        with (
            tempfile.TemporaryFile("w+", errors="replace") as said,
            tempfile.TemporaryFile() as given,
        ):
            given.write(stdin.encode())
            given.seek(0)
            try:
                ended = subprocess.run(
                    [*self.prefix, *command],
                    stdin=given,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    timeout=timeout_seconds,
                    check=False,
                    cwd="/",  # ours may be closed to that user
                    env={**_ENVIRONMENT, **(environment or {})},
                    start_new_session=True,
                    user=self.uid if switch else None,
                    group=self.gid if switch else None,
                    extra_groups=[] if switch else None,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                return Outcome(succeeded=False, output=str(error))
            said.seek(0)
            return Outcome(succeeded=ended.returncode == 0, output=said.read())

    def reaches(self, test: str, path: Path) -> bool:
        """Ask `test` itself, run this way: mode bits know nothing of ACLs, mounts, namespaces."""
        return self.run(["/bin/sh", "-c", f'test {test} "$1"', "sh", path]).succeeded


def directly() -> Way:
    """Run as the user who asks."""
    return Way("as this user", os.geteuid(), os.getegid())


def as_account(name: str) -> Way | None:
    """Run as an account of the system, if it is there; none is ever made."""
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        return None
    return Way(f"as the account {name}", account.pw_uid, account.pw_gid)


def as_owner(uid: int, gid: int) -> Way:
    """Run as the user who owns what is there already."""
    return Way(f"as its owner, uid {uid}", uid, gid)


def in_namespace() -> Way | None:
    """Run in a user namespace where this user has an ordinary name; files stay this user's.

    Whether the kernel allows it shows when it is tried. Outside it the name means nothing, but
    initdb wants one that the system knows.
    """
    unshare = shutil.which("unshare")
    label = next(filter(None, map(as_account, _LABELS)), None)
    if unshare is None or label is None:
        return None
    mapping = (f"--map-user={label.uid}", f"--map-group={label.gid}")
    prefix = (unshare, "--user", *mapping, "--")
    return Way("in a user namespace", os.geteuid(), os.getegid(), prefix)


def has_name(uid: int) -> bool:
    """Whether the system knows the user; containers run users of whom it does not."""
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
