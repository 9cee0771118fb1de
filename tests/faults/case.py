"""A fault case, and the context of one run of it."""

import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Protocol

import msgspec

from tests.faults.checks import Verdict
from tests.faults.deployment import Deployment, open_deployment
from tests.faults.report import Row, version


class CaseRun:
    """One run of one case. `times`: the number of injections; for the soak, minutes, at `rate`."""

    def __init__(self, row: Row, home: Path, times: int, rate: float | None = None) -> None:
        self.row = row
        self.home = home
        self.times = times
        self.rate = rate
        self.random = Random(row.seed)

    @property
    def short(self) -> bool:
        """Whether this is the short form: fewer injections, the same checks."""
        return self.row.short

    def injected(self, count: int = 1) -> None:
        """Count injected faults; print the progress ten times per run."""
        tenth = max(1, self.times // 10)
        before, self.row.injected = self.row.injected, self.row.injected + count
        if self.row.injected // tenth > before // tenth:
            now, name = time.strftime("%H:%M:%S"), self.row.fault
            print(f"  {now} {name}: {self.row.injected:,} of {self.times:,} injected")

    def recovered(self, seconds: float) -> None:
        """Record the time from a fault to recovery."""
        self.row.recoveries.append(seconds)

    def fact(self, text: str) -> None:
        """Add a line of details to the results."""
        self.row.facts.append(text)

    def require(self, kept: bool, failure: str) -> None:  # noqa: FBT001
        """Record `failure` as a broken promise unless `kept`."""
        if not kept:
            self.row.broken.append(failure)

    def require_in_time(self, kept: bool, failure: str) -> None:  # noqa: FBT001
        """Like `require`, for a time limit, which an overloaded machine may miss."""
        self.require(kept, failure)
        if not kept:
            self.row.late.append(failure)

    def add(self, verdict: Verdict) -> None:
        """Add the result of the checks."""
        row = self.row
        row.orders += verdict.orders
        row.accepted += verdict.accepted
        row.unknown += verdict.unknown
        row.lost += verdict.lost
        row.doubled += verdict.doubled
        row.skipped += verdict.skipped
        row.facts += [verdict.slices] if verdict.slices else []
        row.broken += verdict.broken

    @asynccontextmanager
    async def deployment(
        self, name: str = "deployment", *, expectations: dict[str, Any] | None = None, **kinds: Any
    ) -> AsyncIterator[Deployment]:
        """A deployment (see `open_deployment`); on exit all work is done and every check runs."""
        async with open_deployment(self.home / name, self.random, **kinds) as deployment:
            yield deployment
            self.add(await deployment.verify(**(expectations or {})))


class RunCase(Protocol):
    """Injects the faults of a case and records the results."""

    async def __call__(self, case_run: CaseRun) -> None:
        """Run the case."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A fault case. `promise` is what Pulse guarantees under the fault.

    `at_least` is the number of injections, `short` that of the short form; 0 excludes the case
    from the short form. Cases with `waits` mostly wait, for windows of a minute, and have no time
    limits; the short form runs them at the same time.
    """

    name: str
    promise: str
    at_least: int
    short: int
    run: RunCase
    waits: bool = False


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to run a case. `times` and `rate` override those of the case."""

    seed: int
    short: bool = False
    times: int | None = None
    rate: float | None = None


async def run_case(case: Case, home: Path, options: RunOptions) -> Row:
    """Run one case and return its row. An exception counts as a broken promise."""
    times = options.times or (case.short if options.short else case.at_least)
    row = Row(
        fault=case.name,
        promise=case.promise,
        version=version(),
        seed=options.seed,
        short=options.short,
        at_least=times,
    )
    begun = time.monotonic()
    try:
        await case.run(CaseRun(row, home, times, options.rate))
    except Unsupported as error:
        row.not_run = str(error)
    except Exception as error:  # noqa: BLE001 - the others still run
        row.broken.append(f"{type(error).__name__}: {error}"[:2000])
        traceback.print_exc()
    row.seconds = round(time.monotonic() - begun, 1)
    if row.not_run is None and row.injected < row.at_least:
        row.broken.append(f"injected {row.injected} of at least {row.at_least}")
    return row


class Unsupported(Exception):
    """This machine cannot run the case; the message says what is missing."""
