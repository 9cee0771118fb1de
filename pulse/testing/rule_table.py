"""The documentation's tables of rules, made of the rules themselves."""

from collections.abc import Callable, Iterator, Sequence

from pulse.domain import SCHEDULE_RULES, rule_sentence
from pulse.testing.splitter_laws import SPLITTER_LAWS


def markdown_lines() -> Iterator[str]:
    """Two tables: the rules of a schedule, and the laws that hold over many seeds."""
    yield from _table("rule of a schedule", SCHEDULE_RULES)
    yield ""
    yield from _table("law over many seeds", SPLITTER_LAWS)


def _table(heading: str, rules: Sequence[Callable[..., object]]) -> Iterator[str]:
    yield f"| {heading} | holds when |"
    yield "|---|---|"
    for rule in rules:
        yield f"| `{rule.__name__}` | {rule_sentence(rule)} |"
