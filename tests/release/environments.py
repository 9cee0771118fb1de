"""Empty Python environments with an empty home, and the programs that run in them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from tests.support.processes import ROOT, until

PRODUCTION_LOCK: Final = ROOT / "requirements-production.txt"
EMBEDDED_LOCK: Final = ROOT / "requirements.txt"
TOOLS: Final = Path(sys.prefix) / "packaging" / "bin"
"""The release tools: `make release-check` installs them, apart from all other packages."""

_MAX_SECONDS: Final = 300
_VERSION: Final = "import sys; print('.'.join(map(str, sys.version_info[:2])))"


class CheckFailed(Exception):
    """A part of the release is wrong; the message says which, and how."""


def wait_for(condition: Callable[[], Any], seen: Callable[[], str], seconds: float) -> Any:
    """Poll the condition until it is true; returns its value. `seen` describes the failure.

    Raises:
        CheckFailed: the condition raised it, or was not true in time.
    """
    try:
        return until(condition, "the condition", seconds)
    except AssertionError:
        raise CheckFailed(seen()) from None


def run(
    *command: str | Path,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
    seconds: float = _MAX_SECONDS,
) -> str:
    """The standard output of a program that succeeds.

    Raises:
        CheckFailed: it exits with another code than 0.
    """
    ended = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    if ended.returncode:
        shown = " ".join(str(part) for part in command)
        raise CheckFailed(
            f"{shown} exited with {ended.returncode}:\n{ended.stdout}\n{ended.stderr}"
        )
    return ended.stdout


def pythons() -> dict[str, Path]:
    """The interpreters of this machine that Pulse supports, by version."""
    pyenv = Path.home() / ".pyenv" / "versions"
    found: dict[str, Path] = {}
    for version in ("3.11", "3.12", "3.13"):
        candidates = [shutil.which(f"python{version}"), *pyenv.glob(f"{version}.*/bin/python3")]
        for candidate in candidates:
            if candidate is not None and version_of(Path(candidate)) == version:
                found[version] = Path(candidate)
                break
    return found


def version_of(python: Path) -> str:
    """The version of an interpreter, such as 3.11. Empty if it does not run."""
    try:
        return run(python, "-c", _VERSION).strip()
    except (CheckFailed, OSError):
        return ""


class Environment:
    """A virtual environment with nothing in it, not even pip, and an empty home directory."""

    def __init__(self, python: Path, directory: Path) -> None:
        self.bin = directory / "env" / "bin"
        self.python = self.bin / "python"
        self.home = directory / "home"
        self.home.mkdir(parents=True)
        run(python, "-m", "venv", "--without-pip", directory / "env")

    def install(self, *arguments: str | Path) -> None:
        """Install packages with the release tools' pip, without their dependencies."""
        self._pip("install", "--quiet", "--no-compile", "--no-deps", *arguments)

    def install_locked(self, lock: Path) -> None:
        """Install the packages of a lock file, each with its hash."""
        self.install("--require-hashes", "-r", lock)

    def check(self) -> None:
        """Check that every package has its dependencies, in the right versions."""
        self._pip("check")

    def _pip(self, *arguments: str | Path) -> None:
        run(TOOLS / "python", "-m", "pip", "--python", self.python, *arguments)

    def variables(self, **settings: str) -> dict[str, str]:
        """The variables of its programs: PATH, HOME and these."""
        return {"PATH": f"{self.bin}:{os.defpath}", "HOME": str(self.home), **settings}

    def run(self, program: str, *arguments: str | Path, **settings: str) -> str:
        """Run a program of the environment in the empty home."""
        return run(self.bin / program, *arguments, cwd=self.home, env=self.variables(**settings))
