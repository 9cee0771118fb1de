"""No test replaces a private attribute of Pulse by its name; ruff's SLF001 finds the others."""

import re

import pytest

from tests.support.processes import ROOT

_PRIVATE_NAME = re.compile(
    r"(?:setattr|delattr|getattr|patch|patch\.object)\(\s*(?:\"[\w.]*\b|[\w.]+,\s*\")_[a-z]\w*\"",
    re.IGNORECASE,
)


def replaced_private_names(source: str) -> list[str]:
    return _PRIVATE_NAME.findall(source)


def test_no_test_replaces_a_private_attribute() -> None:
    found = {
        file.relative_to(ROOT).as_posix(): names
        for file in sorted((ROOT / "tests").rglob("*.py"))
        if file.name != "test_private_attributes.py"
        and (names := replaced_private_names(file.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        'monkeypatch.setattr("pulse.evidence.pack._LIMIT", 2)',
        'monkeypatch.setattr(limits, "_LIMIT", 2)',
        'with patch.object(\n    startup, "_configured", 1):',
        'getattr(store, "_queue")',
    ],
)
def test_a_replaced_private_attribute_is_found(source: str) -> None:
    assert replaced_private_names(source) != []


@pytest.mark.parametrize("source", ['setattr(limits, "LIMIT", 2)', 'getattr(x, "__doc__")'])
def test_a_public_name_is_allowed(source: str) -> None:
    assert replaced_private_names(source) == []
