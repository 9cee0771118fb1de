"""`pulse splitter`: the splitting kit at a terminal, one module a command."""

import typer

from pulse.cli.splitter.catalogue import rules, vectors
from pulse.cli.splitter.compare import compare
from pulse.cli.splitter.show import show
from pulse.cli.splitter.verify import verify
from pulse.cli.terminal import add_command, help_if_alone

splitter = typer.Typer(
    name="splitter",
    help="How orders are split: draw a schedule, prove stored ones, try a splitter of your own.",
    epilog="Exit codes: 0 well, 1 a rule is broken or a schedule differs, 2 wrong usage or "
    "settings, 3 could not start.",
    rich_markup_mode=None,
)
for _command in (show, verify, compare, rules, vectors):
    add_command(splitter, _command)


@splitter.callback(invoke_without_command=True)
def _alone(context: typer.Context) -> None:
    help_if_alone(context)
