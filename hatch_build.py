"""Writes the commit into wheels and source distributions, which contain no git repository."""

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface[Any]):
    """Adds the file of `pulse.code_version` with the commit to what is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the commit, unless built from a source distribution, which has the file.

        An editable install gets none: its code changes, so each process asks git.
        """
        sys.path.insert(0, self.root)
        from pulse.code_version import COMMIT_FILE, checkout_commit  # noqa: PLC0415 - found by root

        if version == "editable" or Path(self.root, "pulse", COMMIT_FILE).exists():
            return
        with tempfile.NamedTemporaryFile("w", encoding="ascii", delete=False) as file:
            file.write(f"{checkout_commit(Path(self.root))}\n")
        self._file = Path(file.name)
        self._file.chmod(0o644)
        build_data["force_include"][file.name] = f"pulse/{COMMIT_FILE}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002 - the hook's signature
        """Delete the file that was included."""
        if hasattr(self, "_file"):
            self._file.unlink()
