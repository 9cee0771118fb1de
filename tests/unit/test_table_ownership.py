"""A table has one owner: no other package's `.sql` files and strings name it, migrations apart."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

PULSE: Final = Path(__file__).parents[2] / "pulse"
OWNERS: Final = {
    "stored_events": "eventstore",
    "log_identity": "eventstore",
    "log_forks": "eventstore",
    "order_queue": "projections",
    "order_queue_status": "projections",
    "pending_orders": "projections",
    "due_orders": "projections",
    "scheduled_slices": "projections",
    "order_slices": "projections",
    "order_claims": "projections",
    "order_workers": "projections",
    "parked_orders": "projections",
    "queue_history": "projections",
    "queue_audit": "projections",
    "queue_audit_findings": "projections",
    "notification_tracking": "projections",
    "seal_entries": "evidence",
    "seal_nodes": "evidence",
    "seal_keys": "evidence",
    "seal_state": "evidence",
    "evidence_exports": "evidence",
    "pulse_schema": "postgres",
    "pulse_roles": "postgres",
    "clock_offsets": "application",
}
NAME: Final = re.compile(rf"\b({'|'.join(OWNERS)})\b")
STATEMENT: Final = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|TABLE|COPY|LOCK|TRUNCATE)\b")
COMMENT: Final = re.compile(r"--[^\n]*")


def strings_in(source: str) -> Iterator[str]:
    """Every string of the code, docstrings included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def statements_of(file: Path) -> Iterator[str]:
    """The SQL of the file."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".sql":
        yield COMMENT.sub("", text)
    else:
        yield from (string for string in strings_in(text) if STATEMENT.search(string))


def tables_used_by_others(root: Path) -> list[str]:
    """Each table that a file outside its owner's package names in SQL."""
    files = (file for file in root.rglob("*") if file.suffix in {".py", ".sql"})
    return sorted(
        f"{file.relative_to(root)} names {table}, which pulse/{OWNERS[table]} owns"
        for file in files
        if "migrations" not in file.relative_to(root).parts
        for table in {name for text in statements_of(file) for name in NAME.findall(text)}
        if file.relative_to(root).parts[0] != OWNERS[table]
    )


def test_no_file_names_a_table_of_another_owner() -> None:
    assert tables_used_by_others(PULSE) == []


def test_workers_have_no_sql() -> None:
    workers = PULSE / "workers"
    assert not list(workers.rglob("*.sql"))
    assert not [s for file in workers.rglob("*.py") for s in statements_of(file)]
