"""`make reliability`: writes the results of the suite into docs/explanation/reliability.md."""

from pathlib import Path
from typing import Final

from tests.faults import report
from tests.faults.catalogue import CASES, ON_REQUEST
from tests.faults.report import Report

ROWS: Final = Path("docs/data/faults.json")
PAGE: Final = Path("docs/explanation/reliability.md")
_BEGIN, _END = "<!-- what make faults found -->", "<!-- until here -->"


def with_rows(page: str, found: Report) -> str:
    """The page with its results replaced by these."""
    before, _, rest = page.partition(_BEGIN)
    after = rest.partition(_END)[2]
    return "\n\n".join([before + _BEGIN, _markdown(found), _END + after])


def _markdown(found: Report) -> str:
    names = [case.name for case in (*CASES, ON_REQUEST)]
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
