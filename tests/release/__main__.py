"""The release check: `python -m tests.release [wheel|readme|sbom|licenses ...]`."""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.release import components, distributions, installed, readme
from tests.release.environments import TOOLS, CheckFailed, pythons, version_of
from tests.support.processes import ROOT

_DIST: Final = ROOT / "dist"
_PARTS: Final = ("wheel", "readme", "sbom", "licenses")


def main() -> int:
    """Run the parts that are named, or wheel and README."""
    parser = argparse.ArgumentParser(prog="python -m tests.release")
    parser.add_argument("part", nargs="*", choices=_PARTS, default=["wheel", "readme"])
    parser.add_argument("--python", action="append", help="instead of 3.11, 3.12 and 3.13")
    arguments = parser.parse_args()
    if not TOOLS.exists():
        parser.error("the tools are not installed: `make release-check` installs them")
    chosen = _chosen(arguments.python or [])
    try:
        for part in arguments.part:
            with tempfile.TemporaryDirectory(prefix="pulse-release-") as directory:
                _run(part, chosen, Path(directory))
    except CheckFailed as failure:
        print(f"failed: {failure}")
        return 1
    return 0


def _chosen(paths: list[str]) -> dict[str, Path]:
    found = {version_of(Path(path)): Path(path) for path in paths} if paths else pythons()
    for version in ({"3.11", "3.12", "3.13"} - found.keys()) if not paths else ():
        print(f"Python {version} is not on this machine: not checked")
    return found


def _run(part: str, found: dict[str, Path], directory: Path) -> None:
    if part == "readme":
        readme.check(directory)
        print("README: every command prints what is documented")
        return
    wheel = distributions.build(directory)
    if part == "wheel":
        distributions.check(wheel)
        print(f"{wheel.name}: files and metadata are those of the checkout")
        for number, (version, python) in enumerate(found.items()):
            _check_installed(version, python, wheel, directory, with_order=number == 0)
        return
    first = next(iter(found.values()))
    environment = installed.install(first, wheel, directory / "production")
    _DIST.mkdir(exist_ok=True)
    name = wheel.name.split("-py3")[0]
    if part == "sbom":
        file = _DIST / f"{name}.cdx.json"
        count = components.write_bill_of_materials(environment, file)
    else:
        file = _DIST / f"{name}.licenses.txt"
        count = components.write_licenses(environment, file)
    print(f"{file.relative_to(ROOT)}: {count} packages")


def _check_installed(
    version: str, python: Path, wheel: Path, directory: Path, *, with_order: bool
) -> None:
    environment = installed.install(python, wheel, directory / version)
    installed.check(environment)
    print(f"Python {version}: the wheel with the production lock works")
    if with_order:
        components.write_licenses(environment, directory / "licenses.txt")
        components.write_bill_of_materials(environment, directory / "bill.json")
        print("licences are allowed, the bill of materials is valid")
        installed.check_an_order(environment)
        print(f"Python {version}: an order is split with the extra embedded")


if __name__ == "__main__":
    sys.exit(main())
