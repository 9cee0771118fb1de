"""Revisions that a test adds, numbered after those of the code."""

from pathlib import Path
from typing import Any

import pytest

from pulse.postgres.revision import Revision
from pulse.process.revisions import HEAD, REVISIONS


class LaterRevisions:
    """A package with the migrations of a later release, on the import path while the test runs."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._package = f"later_{home.name.replace('-', '_')}"
        self._migrations = home / self._package / "migrations"
        self._migrations.mkdir(parents=True)
        (home / self._package / "__init__.py").touch()
        monkeypatch.syspath_prepend(home)
        self.all: tuple[Revision, ...] = REVISIONS

    def add(self, name: str, statements: str, **fields: Any) -> Revision:
        """Add the next revision. It admits the current code unless `oldest_code` is given."""
        number = len(self.all) + 1
        file = self._migrations / f"{number:04}_{name}.sql"
        file.write_text(statements, encoding="utf-8")
        fields = {"oldest_code": HEAD, **fields}
        revision = Revision(number=number, name=name, package=self._package, **fields)
        self.all = (*self.all, revision)
        return revision
