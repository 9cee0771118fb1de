"""`make reliability`: writes the results of the suite into docs/explanation/reliability.md."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tests.faults import report
from tests.faults.catalogue import CASES, CLUSTER, ON_REQUEST
from tests.faults.report import Report, Row

ROWS: Final = Path("docs/data/faults.json")
CLUSTER_ROWS: Final = Path("docs/data/cluster.json")
PAGE: Final = Path("docs/explanation/reliability.md")
_BEGIN, _END = "<!-- what make faults found -->", "<!-- until here -->"
_CLUSTER_BEGIN: Final = "<!-- what make faults FAULT=cluster found -->"
_CLUSTER_END: Final = "<!-- until here, of a cluster -->"


def with_rows(page: str, found: Report) -> str:
    """The page with the results of one machine replaced by these."""
    return _replaced(page, _BEGIN, _END, _markdown(found, report.table))


def with_cluster_rows(page: str, found: Report) -> str:
    """The page with the results of a cluster replaced by these."""
    text = _markdown(found, report.cluster_table)
    return _replaced(page, _CLUSTER_BEGIN, _CLUSTER_END, text)


def _replaced(page: str, begin: str, end: str, text: str) -> str:
    before, _, rest = page.partition(begin)
    after = rest.partition(end)[2]
    return "\n\n".join([before + begin, text, end + after])


def _markdown(found: Report, table: Callable[[Sequence[Row]], str]) -> str:
    names = [case.name for case in (*CASES, *CLUSTER, ON_REQUEST)]
    rows = sorted(found.rows.values(), key=lambda row: names.index(row.fault))
    parts = [f"On {found.machine}.", table(rows)]
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
    written = with_rows(PAGE.read_text(), report.read(ROWS))
    PAGE.write_text(with_cluster_rows(written, report.read(CLUSTER_ROWS)))
