"""`make reliability`: the tables of docs/explanation/reliability.md, from results of the suite."""

from pathlib import Path
from typing import Final

from tests.faults import report
from tests.faults.catalogue import BY_ITSELF, CASES
from tests.faults.report import Report

ROWS: Final = Path("docs/data/faults.json")
PAGE: Final = Path("docs/explanation/reliability.md")
_BEGIN, _END = "<!-- what make faults found -->", "<!-- until here -->"


def with_rows(page: str, found: Report) -> str:
    """The page with these rows in the place of those it has."""
    before, _, rest = page.partition(_BEGIN)
    after = rest.partition(_END)[2]
    return "\n\n".join([before + _BEGIN, _told(found), _END + after])


def _told(found: Report) -> str:
    names = [case.name for case in (*CASES, BY_ITSELF)]
    rows = sorted(found.rows.values(), key=lambda row: names.index(row.fault))
    parts = [f"On {found.machine}.", report.table(rows)]
    for row in rows:
        lines = [f"### {row.fault}", f"{row.promise}."]
        form = "the short form, " if row.short else ""
        facts = [*row.facts, f"{form}seed {row.seed}, {row.seconds:g} s, at {row.version}"]
        lines.append("\n".join(f"- {fact}" for fact in facts))
        if row.not_run is not None:
            lines.append(f"**Not run here:** {row.not_run}")
        lines += [f"**Broken:** {broken}" for broken in row.broken]
        parts.append("\n\n".join(lines))
    return "\n\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(with_rows(PAGE.read_text(), report.read(ROWS)))
