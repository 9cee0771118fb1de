"""`make performance`: writes benchmark results into docs/explanation/performance.md."""

from pathlib import Path
from typing import Final

from benchmarks.catalogue import PARTS
from benchmarks.comparison import PartResult
from benchmarks.report import COLUMNS, Machine, Report, number, read, rows_of

RESULTS: Final = Path("docs/data/bench.json")
PAGE: Final = Path("docs/explanation/performance.md")
_BEGIN, _END = "<!-- what make bench found -->", "<!-- until here -->"


def with_results(page: str, report: Report) -> str:
    """The page with its results replaced by those of the report."""
    before, _, rest = page.partition(_BEGIN)
    after = rest.partition(_END)[2]
    return "\n\n".join([before + _BEGIN, _markdown(report), _END + after])


def _markdown(report: Report) -> str:
    parts = [report.parts[name] for name in PARTS if name in report.parts]
    return "\n\n".join([_machine_markdown(report.machine), *map(_part_markdown, parts)])


def _machine_markdown(machine: Machine) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    settings = ", ".join(f"{name} {value}" for name, value in machine.postgres_settings.items())
    return (
        f"On {machine.cores} cores ({machine.processor}), {machine.memory_gib:g} GiB, "
        f"{machine.system}, Python {machine.python}; {versions}. "
        f"Postgres settings, for all candidates: {settings}."
    )


def _part_markdown(part: PartResult) -> str:
    lines = [f"### {part.title}", ""]
    if part.comparisons:
        lines += [_row(COLUMNS), _row(["---", "---", *["---:"] * 5, "---"])]
        lines += [_row(row) for comparison in part.comparisons for row in rows_of(comparison)]
        lines.append("")
    lines += [f"- {fact.name}: {number(fact.figure)} {fact.unit}".rstrip() for fact in part.facts]
    if part.facts:
        lines.append("")
    taken = part.taken_at.replace("+00:00", "Z")
    lines.append(f"{part.rounds} rounds, turns of {part.turn_seconds:g} s, measured {taken}.")
    return "\n".join(lines)


def _row(cells: "tuple[str, ...] | list[str]") -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(with_results(PAGE.read_text(), read(RESULTS)))
