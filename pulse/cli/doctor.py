"""`pulse doctor`: checks settings, files and Postgres, one line a check."""

import os
from typing import Final

import msgspec
import typer
from rich.text import Text

from pulse.cli.exits import FAILURE, run_until_signal
from pulse.cli.terminal import AsJson, echo, output
from pulse.process.doctor import Check, State, examine
from pulse.process.startup import settings_from_environment

_STYLES: Final[dict[State, str]] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(
    *,
    as_json: AsJson = False,
) -> None:
    """Check whether Pulse can run here, and say what to change.

    One line for each check: ok, warn or fail. Checks the settings, the modes of
    files, disk space, the connection and any pooler in between, the session, the
    schema, the rights to append, the role, the clock, and the settings of
    Postgres that matter: fsync, full_page_writes, synchronous_commit,
    max_connections, min_wal_size.

    Changes nothing. An embedded server that is not running is started, and
    stopped after the checks. `pulse status` shows the state of orders and
    workers.

    Exit codes: 0 no check failed (there may be warnings), 1 a check failed,
    2 wrong usage or settings.

    Example:
      PULSE_DATABASE_URL=postgresql://pulse@db/pulse pulse doctor
    """
    settings = settings_from_environment()
    checks: list[Check] = []

    async def run() -> None:
        async for check in examine(settings, os.environ):
            checks.append(check)
            if not as_json:
                output().print(_line(check))

    run_until_signal(run())
    failed = any(check.state == "fail" for check in checks)
    if as_json:
        echo(msgspec.json.encode({"healthy": not failed, "checks": checks}))
    if failed:
        raise typer.Exit(FAILURE)


def _line(check: Check) -> Text:
    return Text(f"{check.state:<4}", _STYLES[check.state]).append(
        f"  {check.name:<18}  {check.message}", ""
    )
