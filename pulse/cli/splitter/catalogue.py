"""`pulse splitter rules` and `pulse splitter vectors`: what others hold their own code against."""

from typing import Annotated

import typer

from pulse.cli.splitter.kit import kit_needed
from pulse.cli.terminal import echo, output
from pulse.domain import CURRENT_SPLITTER_VERSION, SCHEDULE_RULES, SPLITTERS, rule_sentence


def rules(
    *,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="As a table for documentation.")
    ] = False,
) -> None:
    """List the rules of every schedule.

    They are the functions of `pulse.domain.SCHEDULE_RULES`, which the workers
    check before they append a schedule, and `pulse splitter verify` afterwards.
    Then the laws that hold over many seeds. Needs no database, and the extra
    pulse[testing].

    Exit codes: 0 listed, 2 wrong usage, or the extra is missing.

    Example:
      pulse splitter rules
    """
    with kit_needed():
        from pulse.testing.rule_table import markdown_lines  # noqa: PLC0415 - needs an extra
        from pulse.testing.splitter_laws import SPLITTER_LAWS  # noqa: PLC0415 - same
    console = output()
    if markdown:
        for line in markdown_lines():
            console.print(line)
        return
    every = (*SCHEDULE_RULES, *SPLITTER_LAWS)
    width = max(len(rule.__name__) for rule in every)
    for title, group in (("Of a schedule", SCHEDULE_RULES), ("Over many seeds", SPLITTER_LAWS)):
        console.print(f"{title}", style="bold")
        for rule in group:
            console.print(f"  {rule.__name__:<{width}}  {rule_sentence(rule)}")


def vectors(
    splitter_version: Annotated[
        int, typer.Option(help="Which splitter's.", min=1)
    ] = CURRENT_SPLITTER_VERSION,
) -> None:
    """Write the conformance vectors: what any implementation must answer.

    JSON on standard output: schedules with their terms and seeds, orders that are
    accepted or refused, schedules that break rules. Its format and the algorithm
    are described in docs/conformance/README.md. The same at every run. Needs no
    database, and the extra pulse[testing].

    Exit codes: 0 written, 2 wrong usage, or this code has no such splitter, or
    the extra is missing.

    Example:
      pulse splitter vectors > splitting-v1.json
    """
    if splitter_version not in SPLITTERS:
        known = ", ".join(map(str, SPLITTERS))
        raise typer.BadParameter(f"expected one of {known}", param_hint="--splitter-version")
    with kit_needed():
        from pulse.testing.vectors import vectors as lines  # noqa: PLC0415 - needs an extra
    for line in lines(splitter_version):
        echo(line)
