"""The published conformance files."""

import json
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parents[2] / "docs" / "reference" / "conformance"


def file_of(splitter_version: int) -> Path:
    """The file of this splitter version."""
    return DIRECTORY / f"splitting-v{splitter_version}.json"


def contents_of(splitter_version: int) -> dict[str, Any]:
    """What that file has: the cases of each part, by the name of the part."""
    contents: dict[str, Any] = json.loads(file_of(splitter_version).read_text(encoding="utf-8"))
    return contents
