"""`pulse config`: every setting, its value, and where the value comes from; or only a check."""

import os
from textwrap import wrap
from typing import Annotated, Final

import typer

from pulse.cli.exits import FAILURE, WrongSettings
from pulse.cli.terminal import output
from pulse.process.startup import settings_from_environment
from pulse.settings import (
    Setting,
    Settings,
    as_text,
    every_setting,
    is_set,
    unknown_variables,
)
from pulse.wording import counted

_COLUMNS: Final = 80
_INDENT: Final = "    "


def config(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the settings, such as before a deploy.")
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The defaults, as the table of the documentation.")
    ] = False,
) -> None:
    """List every setting: its value, where it comes from, and its meaning.

    A value comes from the environment variable or is the default. A value that
    may contain a secret is printed as ***. Needs no database and starts nothing.
    Invalid values are reported as when Pulse starts.

    --check prints one line. It also fails for unknown PULSE_ variables: they have
    no effect and are probably misspelt.

    Exit codes: 0 printed, or all settings are valid; 1 --check found unknown
    variables; 2 wrong usage or settings.

    Example:
      PULSE_BATCH_SIZE=50 pulse config
      pulse config --check && systemctl restart pulse-up
    """
    if check and markdown:
        raise WrongSettings("--check and --markdown cannot be combined: give one of them")
    if markdown:
        for line in markdown_table():
            typer.echo(line)
        return
    current = settings_from_environment()
    if check:
        _check()
        return
    for setting in every_setting():
        for line in _lines_of(setting, current):
            output().print(line)


def _check() -> None:
    """Report unknown variables. Reading the settings has already checked their values."""
    unknown = unknown_variables(os.environ)
    if unknown:
        output().print(
            f"{counted(len(unknown), 'variable')} unknown to Pulse: {', '.join(unknown)}; correct "
            "or remove them"
        )
        raise typer.Exit(FAILURE)
    given = sum(is_set(setting.variable, os.environ) for setting in every_setting())
    output().print(f"The settings are valid, {given} of them from the environment.")


def markdown_table() -> list[str]:
    """The lines of the table in docs/reference/settings.md."""
    lines = ["| variable | default | allowed | meaning |", "|---|---|---|---|"]
    for setting in every_setting():
        default = f"`{setting.default}`" if setting.default else "unset"
        lines.append(
            f"| `{setting.variable}` | {default} | {setting.allowed} | {setting.meaning} |"
        )
    return lines


def _lines_of(setting: Setting, current: Settings) -> list[str]:
    value = as_text(getattr(current, setting.name))
    source = "default"
    if is_set(setting.variable, os.environ):
        source = f"from the environment, default {setting.default or 'unset'}"
        value = "***" if setting.hidden else value
    lines = [f"{setting.variable}={value}  ({source})"]
    for text in (setting.meaning, f"Allowed: {setting.allowed}."):
        lines += wrap(
            text.replace("`", ""), _COLUMNS, initial_indent=_INDENT, subsequent_indent=_INDENT
        )
    return lines
