"""Advisory locks: all share one space of keys in a database, so no two have the same key."""

import re

from tests.support.processes import ROOT

KEY = re.compile(r"^(\w+_LOCK): Final = (0x[0-9A-Fa-f_]+)$", re.MULTILINE)


def test_no_two_locks_have_the_same_key() -> None:
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "pulse").rglob("*.py")]
    locks = [found for source in sources for found in KEY.findall(source)]
    names = {name for name, _ in locks}
    assert {"LOG_LOCK", "MIGRATION_LOCK", "GAUGES_LOCK", "REBUILD_LOCK"} <= names
    assert len({int(key, 16) for _, key in locks}) == len(locks)
