"""EXPLAIN ANALYZE of a prepared statement, with a generic or a custom plan."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec
import psycopg
from psycopg import sql

PlanMode = Literal["force_generic_plan", "force_custom_plan"]
_PARAMETER = re.compile(r"%\((\w+)\)b")


class PlanNode(msgspec.Struct, frozen=True):
    """An executed plan node; `rows` is the average per loop."""

    kind: str
    relation: str
    index: str
    rows: float
    rows_filtered: float
    loops: int
    disk: bool

    @property
    def rows_read(self) -> int:
        """The rows of all loops, including those that a filter removed."""
        return round((self.rows + self.rows_filtered) * self.loops)


def explain_analyze(
    connection: psycopg.Connection[Any],
    mode: PlanMode,
    statement: str | sql.Composed,
    parameters: Mapping[str, Any],
) -> list[PlanNode]:
    """Execute the statement, prepared as by the driver; returns its plan nodes."""
    if not isinstance(statement, str):
        statement = statement.as_string()
    names = list(dict.fromkeys(_PARAMETER.findall(statement)))
    numbered = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", statement)
    values = sql.SQL(", ").join(sql.Literal(parameters[name]) for name in names)
    given = sql.SQL("({})").format(values) if names else sql.SQL("")
    for preparation in (f"SET plan_cache_mode = {mode}", "DEALLOCATE ALL"):
        connection.execute(preparation, prepare=False)
    connection.execute(f"PREPARE examined AS {numbered}", prepare=False)
    explain = sql.SQL("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE examined {}").format(given)
    row = connection.execute(explain, prepare=False).fetchone()
    assert row is not None
    return list(_nodes(row[0][0]["Plan"]))


def _nodes(plan: dict[str, Any]) -> Iterator[PlanNode]:
    yield PlanNode(
        kind=plan["Node Type"],
        relation=plan.get("Relation Name", ""),
        index=plan.get("Index Name", ""),
        rows=plan["Actual Rows"],
        rows_filtered=plan.get("Rows Removed by Filter", 0)
        + plan.get("Rows Removed by Index Recheck", 0),
        loops=plan["Actual Loops"],
        disk=plan.get("Sort Space Type") == "Disk",
    )
    for part in plan.get("Plans", ()):
        yield from _nodes(part)
