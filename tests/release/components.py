"""The bill of materials of an installation, and the licences of all its packages."""

import json
from pathlib import Path
from typing import Final

from tests.release.environments import TOOLS, CheckFailed, Environment, run
from tests.support.processes import ROOT

ALLOWED_LICENSES: Final = {
    "0BSD",
    "Apache License 2.0",
    "Apache Software License",
    "Apache-2.0",
    "BSD License",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "GNU Lesser General Public License v3 (LGPLv3)",  # psycopg: used as a library, unchanged
    "ISC",
    "ISC License (ISCL)",
    "LGPL-3.0-only",
    "MIT",
    "MIT License",
    "MIT-0",
    "MPL-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)",
    "PSF-2.0",
    "Python Software Foundation License",
    "Unlicense",
}


def write_bill_of_materials(environment: Environment, file: Path) -> int:
    """Write a bill of materials (CycloneDX 1.6, JSON) and return its number of components.

    The same packages give the same file. The tool validates it against CycloneDX's schema.
    """
    run(
        *(TOOLS / "cyclonedx-py", "environment"),
        *("--pyproject", ROOT / "pyproject.toml", "--mc-type", "application"),
        *("--output-reproducible", "--of", "JSON", "-o", file, environment.python),
    )
    return len(json.loads(file.read_text(encoding="utf-8"))["components"])


def write_licenses(environment: Environment, file: Path) -> int:
    """Write the licence of every package with its text, and return their number.

    Raises:
        CheckFailed: a package has a licence that is not allowed, or none.
    """
    printed = run(
        *(TOOLS / "pip-licenses", "--python", environment.python, "--from", "mixed"),
        *("--with-urls", "--with-license-file", "--with-notice-file", "--no-license-path"),
        *("--format", "json", "--ignore-packages", "pulse"),
    )
    packages: list[dict[str, str]] = json.loads(printed)
    check_licenses({one["Name"]: one["License"] for one in packages})
    file.write_text("\n".join(_lines_of(one) for one in packages), encoding="utf-8")
    return len(packages)


def check_licenses(licenses: dict[str, str]) -> None:
    """Check that each package (the key) has an allowed licence: one of `OR`, all of `AND`.

    Raises:
        CheckFailed: the message names each refused licence with its package.
    """
    refused = [f"{name}: {text[:80]}" for name, text in licenses.items() if not is_allowed(text)]
    if refused:
        raise CheckFailed(
            f"licences that tests/release/components.py does not allow: {'; '.join(refused)}"
        )


def is_allowed(text: str) -> bool:
    """Whether this licence is allowed: an SPDX expression, or names separated by semicolons.

    Some packages give the whole text as the name: its first line is the name.
    """
    choices = text.strip().partition("\n")[0].split(" OR ")
    return any(
        all(_is_known(name) for part in choice.split(" AND ") for name in part.split(";"))
        for choice in choices
    )


def _is_known(name: str) -> bool:
    plain = name.strip()
    return plain in ALLOWED_LICENSES or plain.strip("()") in ALLOWED_LICENSES


def _lines_of(package: dict[str, str]) -> str:
    head = f"{package['Name']} {package['Version']}: {package['License']}\n{package['URL']}\n"
    texts = (package.get(name, "UNKNOWN") for name in ("LicenseText", "NoticeText"))
    return head + "".join(f"\n{text.strip()}\n" for text in texts if text != "UNKNOWN")
