"""`make performance`: writes benchmark results into docs/explanation/performance.md."""

from pathlib import Path
from typing import Final

from benchmarks.catalogue import PARTS
from benchmarks.report import COLUMNS, Machine, MeasuredPart, Report, number, read, rows_of

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
    machines = list(dict.fromkeys(_description(part.machine) for part in parts))
    return "\n\n".join(
        [
            *(f"Machine {number}: {machine}" for number, machine in enumerate(machines, 1)),
            *(_part_markdown(p, 1 + machines.index(_description(p.machine))) for p in parts),
        ]
    )


def _description(machine: Machine) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    settings = ", ".join(f"{name} {value}" for name, value in machine.postgres_settings.items())
    return (
        f"{machine.cores} cores ({machine.processor}), {machine.memory_gib:g} GiB, "
        f"{machine.system}, Python {machine.python}; {versions}. "
        f"Postgres settings, for all candidates: {settings}."
    )


def _part_markdown(part: MeasuredPart, machine: int) -> str:
    result = part.result
    lines = [f"### {result.title}", ""]
    if result.comparisons:
        lines += [_row(COLUMNS), _row(["---", "---", *["---:"] * 5, "---"])]
        lines += [_row(row) for comparison in result.comparisons for row in rows_of(comparison)]
        lines.append("")
    lines += [f"- {fact.name}: {number(fact.figure)} {fact.unit}".rstrip() for fact in result.facts]
    if result.facts:
        lines.append("")
    taken = result.taken_at.replace("+00:00", "Z")
    lines.append(
        f"{result.rounds} rounds, turns of {result.turn_seconds:g} s, measured {taken} "
        f"on machine {machine}."
    )
    return "\n".join(lines)


def _row(cells: "tuple[str, ...] | list[str]") -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(with_results(PAGE.read_text(), read(RESULTS)))
