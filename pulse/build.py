"""Which commit of the source this code is."""

import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

UNKNOWN = "unknown"
_CHARACTERS = 12


def commit() -> str:
    """The commit: of the checkout that this package lies in, or of the installation from git.

    `unknown` for an installation from a wheel, or where git is not installed.
    """
    root = Path(__file__).parents[1]
    found = _of_checkout(root) if (root / ".git").exists() else _of_installation()
    return found[:_CHARACTERS] or UNKNOWN


def _of_checkout(root: Path) -> str:
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _of_installation() -> str:
    """The commit that pip has recorded (PEP 610)."""
    try:
        recorded = metadata.distribution("pulse").read_text("direct_url.json") or "{}"
        origin: dict[str, Any] = msgspec.json.decode(recorded)
        return str(origin.get("vcs_info", {}).get("commit_id", ""))
    except (metadata.PackageNotFoundError, msgspec.DecodeError):
        return ""
