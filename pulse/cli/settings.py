"""`pulse settings`: lists every variable, its current value and its meaning."""

from textwrap import wrap
from typing import Annotated, Final

import typer

from pulse.cli.terminal import output
from pulse.process.startup import settings_from_environment
from pulse.settings import Setting, Settings, as_text, every_setting

_COLUMNS: Final = 80
_INDENT: Final = "    "


def settings(
    *,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The defaults, as the table of the documentation.")
    ] = False,
) -> None:
    """List every setting: its variable, its current value, and its meaning.

    A value that may contain a secret is printed as ***. Needs no database and
    starts nothing. Invalid values are reported as when Pulse starts.

    Exit codes: 0 printed, 2 wrong usage or settings.

    Example:
      PULSE_BATCH_SIZE=50 pulse settings
    """
    if markdown:
        for line in markdown_table():
            typer.echo(line)
    else:
        current = settings_from_environment()
        for setting in every_setting():
            for line in _lines_of(setting, current):
                output().print(line)


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
    if value == setting.default:
        source = "default"
    else:
        source = f"default {setting.default or 'unset'}"
        value = "***" if setting.hidden else value
    lines = [f"{setting.variable}={value}  ({source})"]
    for text in (setting.meaning, f"Allowed: {setting.allowed}."):
        lines += wrap(
            text.replace("`", ""), _COLUMNS, initial_indent=_INDENT, subsequent_indent=_INDENT
        )
    return lines
