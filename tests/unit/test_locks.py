"""The production and build locks agree with requirements.txt and pyproject.toml (`make lock`)."""

import re
import tomllib
from typing import Final

import pytest

from tests.support.processes import ROOT

PIN: Final = re.compile(r"^([a-z0-9.-]+)(?:\[[^]]*\])?==(\S+)", re.MULTILINE)
NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
PRODUCTION: Final = "requirements-production.txt"
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pins(lock: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / lock).read_text(encoding="utf-8")))


def names(requirements: list[str]) -> set[str]:
    return {found[0].lower() for one in requirements if (found := NAME.match(one))}


@pytest.mark.parametrize("lock", [PRODUCTION, "requirements-build.txt"])
def test_a_lock_has_the_versions_of_make_run(lock: str) -> None:
    assert pins(lock).items() <= pins("requirements.txt").items()


def test_the_production_lock_has_all_requirements_but_no_extra() -> None:
    project = PROJECT["project"]
    locked = pins(PRODUCTION).keys()
    assert names(project["dependencies"]) <= locked
    for extra in project["optional-dependencies"].values():
        assert not names(extra) & locked


def test_the_build_lock_has_the_build_tools() -> None:
    assert names(PROJECT["build-system"]["requires"]) <= pins("requirements-build.txt").keys()
