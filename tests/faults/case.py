"""What a case is given: its seed, its scale, a place for files, and the row it fills."""

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
    """One run of one case. `times` is how often to inject; `rate` is for the soak."""

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
        """So many faults more were injected; every tenth of them is told."""
        tenth = max(1, self.times // 10)
        before, self.row.injected = self.row.injected, self.row.injected + count
        if self.row.injected // tenth > before // tenth:
            print(f"  {time.strftime('%H:%M:%S')} {self.row.injected:,} of {self.times:,} injected")

    def recovered(self, seconds: float) -> None:
        """Pulse was well again so long after a fault."""
        self.row.recoveries.append(seconds)

    def fact(self, text: str) -> None:
        """A figure worth stating that no column has."""
        self.row.facts.append(text)

    def require(self, kept: bool, otherwise: str) -> None:  # noqa: FBT001
        """A promise of the case's own: if not kept, the row is broken and says so."""
        if not kept:
            self.row.broken.append(otherwise)

    def require_in_time(self, kept: bool, otherwise: str) -> None:  # noqa: FBT001
        """The same for a promise about time alone, which a starved machine may break."""
        self.require(kept, otherwise)
        if not kept:
            self.row.late.append(otherwise)

    def add(self, verdict: Verdict) -> None:
        """Count what the checks found."""
        row = self.row
        row.orders += verdict.orders
        row.accepted += verdict.accepted
        row.unknown += verdict.unknown
        row.lost += verdict.lost
        row.doubled += verdict.doubled
        row.skipped += verdict.skipped
        row.broken += verdict.broken

    @asynccontextmanager
    async def deployment(
        self, name: str = "house", *, expectations: dict[str, Any] | None = None, **kinds: Any
    ) -> AsyncIterator[Deployment]:
        """A house (see `open_house`); after the block it is let come to rest, and reckoned with."""
        async with open_deployment(self.home / name, self.random, **kinds) as deployment:
            yield deployment
            self.add(await deployment.reckon(**(expectations or {})))


class Run(Protocol):
    """Injects the fault and fills the scene's row."""

    async def __call__(self, case_run: CaseRun) -> None:
        """Run it."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A fault: how often at least, how often in the short form (0: not in it), what is promised."""

    name: str
    promise: str
    at_least: int
    short: int
    run: Run


class CaseOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a case is to be run; `times` and `rate` in the place of its own."""

    seed: int
    short: bool = False
    times: int | None = None
    rate: float | None = None


async def run_case(case: Case, home: Path, asked: CaseOptions) -> Row:
    """Run one case to its row; a case that crashes is a broken one."""
    times = asked.times or (case.short if asked.short else case.at_least)
    row = Row(
        fault=case.name,
        promise=case.promise,
        version=version(),
        seed=asked.seed,
        short=asked.short,
        at_least=times,
    )
    begun = time.monotonic()
    try:
        await case.run(CaseRun(row, home, times, asked.rate))
    except CaseUnavailable as error:
        row.not_run = str(error)
    except Exception as error:  # noqa: BLE001 - the others still run
        row.broken.append(f"{type(error).__name__}: {error}"[:2000])
        traceback.print_exc()
    row.seconds = round(time.monotonic() - begun, 1)
    if row.not_run is None and row.injected < row.at_least:
        row.broken.append(f"injected {row.injected} of at least {row.at_least}")
    return row


class CaseUnavailable(Exception):
    """This machine cannot run the case; the text says what it lacks."""
