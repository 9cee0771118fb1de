"""Checks the results of `mutmut run`: enough mutants killed, every survivor explained."""

import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parents[2] / "docs" / "explanation" / "mutants.md"
AT_LEAST: Final = 0.95

_FOUND: Final = frozenset({"killed", "timeout", "segfault"})
"""A mutant that makes the tests hang or crash counts as found."""
_RESULT: Final = re.compile(r"^\s+(\S+): (.+)$", re.MULTILINE)
_EXPLAINED: Final = re.compile(r"^\| `(\S+__mutmut_\d+)` \|", re.MULTILINE)


def faults_of(statuses: Mapping[str, str], explained: Iterable[str]) -> list[str]:
    """The faults of a result, as messages; empty if there is none.

    `statuses` has mutmut's status of each mutant, `explained` the survivors that the page explains.
    """
    if not statuses:
        return ["no results: did `mutmut run` complete?"]
    survivors = {name for name, status in statuses.items() if status not in _FOUND}
    known = set(explained)
    faults = [f"{name} {statuses[name]}, unexplained" for name in sorted(survivors - known)]
    faults += [f"{name} is explained but did not survive" for name in sorted(known - survivors)]
    killed = 1 - len(survivors) / len(statuses)
    if killed < AT_LEAST:
        faults.append(f"only {killed:.1%} killed, at least {AT_LEAST:.0%} required")
    return faults


def main() -> int:
    """Print the count and every fault; returns 1 if there is a fault."""
    command = [str(Path(sys.executable).with_name("mutmut")), "results", "--all", "true"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    statuses = dict(_RESULT.findall(printed))
    survivors = sum(status not in _FOUND for status in statuses.values())
    killed = len(statuses) - survivors
    print(f"{killed:,} of {len(statuses):,} mutants killed, {killed / max(1, len(statuses)):.1%}")
    faults = faults_of(statuses, _EXPLAINED.findall(PAGE.read_text(encoding="utf-8")))
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
