"""`pulse halt`, `pulse resume` and `pulse halts`: stop releases, resume them, list halts."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Annotated, TypeVar
from uuid import UUID

import msgspec
import typer
from rich.text import Text

from pulse.application.halts import HaltRequest, HaltSet, HaltView, require_scope_fields
from pulse.application.notices import target_text
from pulse.cli.author import new_trace, this_user
from pulse.cli.exits import run_with_tools
from pulse.cli.terminal import AsJson, display_time, echo, output
from pulse.domain import HaltNotFound, HaltTarget
from pulse.domain.constraints import field_fault_of
from pulse.errors import PulseError
from pulse.eventstore import AppendOutcomeUnknown, AppendRefused
from pulse.printable import printable
from pulse.process.tools import Tools

Result = TypeVar("Result")

_OPTIONS = {"instrument": "--instrument", "placed_by": "--caller", "reason": "--reason"}


def halt(
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, in at most 255 characters.")],
    everything: Annotated[bool, typer.Option("--all", help="Halt every release.")] = False,
    instrument: Annotated[
        str | None, typer.Option(metavar="EXCHANGE:SYMBOL", help="Halt one instrument.")
    ] = None,
    caller: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Halt the orders with this placed_by."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Halt releases: of everything, one instrument, or one caller's orders.

    Once the command has succeeded, no process releases a slice in scope until the
    halt is lifted (`pulse resume`). Orders are still accepted, split and
    cancelled, and slices expire as usual. If the same halt is in force already,
    nothing is changed, so the command can be repeated. The event has the reason,
    and its author is `cli:` and your user name.

    Needs Postgres: PULSE_DATABASE_URL, or the embedded one in PULSE_DATA_DIR,
    which is started if it is not running.

    Exit codes: 0 halted, now or before. 1 not halted, or the outcome is unknown:
    run it again. 2 wrong usage or settings. 3 Postgres cannot be reached or its
    schema is not current.

    Example:
      pulse halt --all --reason "exchange outage"
      pulse halt --instrument NSE:TCS --reason "wrong limit price"
      pulse halt --caller algo-desk --reason "orders placed twice"
    """
    request = _request(reason, everything=everything, instrument=instrument, caller=caller)
    halted = run_with_tools(lambda tools: _halt(tools, request))
    if as_json:
        echo(msgspec.json.encode(halted.halt))
        return
    before = "" if halted.created else ", before this command; nothing was changed"
    lines = (
        *_lines(halted.halt, before),
        "slices that become due are not released, and expire when they are too late",
        f"lift it: pulse resume {halted.halt.halt_id}",
    )
    for line in lines:
        output().print(line)


def resume(
    halt_id: Annotated[str, typer.Argument(help="The halt's id, as `pulse halts` shows it.")],
    *,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why, in at most 255 characters.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Lift a halt, so that releases in its scope resume.

    Slices that became due during the halt are released if they are not too late;
    the others expire. If the halt is already lifted, nothing is changed, so the
    command can be repeated.

    Needs Postgres: PULSE_DATABASE_URL, or the embedded one in PULSE_DATA_DIR,
    which is started if it is not running.

    Exit codes: 0 lifted, now or before. 1 not lifted: no halt has this id; or the
    outcome is unknown: run it again. 2 wrong usage or settings. 3 Postgres cannot
    be reached or its schema is not current.

    Example:
      pulse halts
      pulse resume 69a696fa-539e-50da-af7b-eadeac3915f1 --reason "price corrected"
    """
    if reason is not None:
        _request(reason, everything=True)
    lifted = run_with_tools(lambda tools: _resume(tools, halt_id, reason))
    if as_json:
        echo(msgspec.json.encode(lifted))
        return
    for line in _lines(lifted):
        output().print(line)


def halts(
    *,
    lifted: Annotated[bool, typer.Option("--lifted", help="List lifted halts too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the halts in force.

    Needs Postgres: PULSE_DATABASE_URL, or the embedded one in PULSE_DATA_DIR,
    which is started if it is not running. Changes nothing.

    Exit codes: 0 success. 1 the halts cannot be read. 2 wrong usage or settings.
    3 Postgres cannot be reached or its schema is not current.

    Example:
      pulse halts
      pulse halts --lifted
    """
    found = run_with_tools(lambda tools: tools.halts.all())
    listed = [one for one in found if lifted or one.lifted_at is None]
    if as_json:
        echo(msgspec.json.encode({"halts": listed}))
        return
    if not listed:
        output().print("no halt is in force" if not lifted else "no halt was ever set")
    for number, one in enumerate(listed):
        if number:
            output().print("")
        for line in _lines(one):
            output().print(line)


def _request(
    reason: str, *, everything: bool, instrument: str | None = None, caller: str | None = None
) -> HaltRequest:
    """The request, checked as the API does."""
    scopes = [
        scope
        for scope, given in (
            ("ALL", everything),
            ("INSTRUMENT", instrument is not None),
            ("CALLER", caller is not None),
        )
        if given
    ]
    if len(scopes) != 1:
        raise typer.BadParameter("expected exactly one of --all, --instrument and --caller")
    fields = {
        "scope": scopes[0],
        "reason": reason,
        "instrument": instrument,
        "placed_by": caller,
    }
    try:
        request = msgspec.json.decode(msgspec.json.encode(fields), type=HaltRequest)
        require_scope_fields(request)
    except msgspec.ValidationError as error:
        fault = field_fault_of(error, HaltRequest)
        option = _OPTIONS[str(fault.field)]
        message = f"{fault.problem}: expected {fault.expected}"
        raise typer.BadParameter(message, param_hint=option) from None
    except UnicodeEncodeError:
        raise typer.BadParameter("expected UTF-8") from None
    return request


async def _halt(tools: Tools, request: HaltRequest) -> HaltSet:
    async def append() -> HaltSet:
        return await tools.halts.halt(request, this_user(), new_trace("halt"))

    return await _appended(tools, append, "halted")


async def _resume(tools: Tools, text: str, reason: str | None) -> HaltView:
    try:
        halt_id = UUID(text)
    except ValueError:
        raise _not_found(text) from None

    async def append() -> HaltView:
        try:
            lifted = await tools.halts.resume(halt_id, reason, this_user(), new_trace("resume"))
        except HaltNotFound:
            raise _not_found(text) from None
        return lifted.halt

    return await _appended(tools, append, "lifted")


def _not_found(text: str) -> PulseError:
    return PulseError(f"no halt has the id {text}: `pulse halts --lifted` lists all halts")


async def _appended(tools: Tools, append: Callable[[], Awaitable[Result]], done: str) -> Result:
    try:
        async with tools.appending():
            return await append()
    except AppendRefused as error:
        raise PulseError(f"nothing was {done}: {error}; run this again") from None
    except AppendOutcomeUnknown as error:
        raise PulseError(f"the outcome is unknown: {error}; run this again") from None


def _lines(halt: HaltView, suffix: str = "") -> Iterator[Text]:
    target = HaltTarget(scope=halt.scope, instrument=halt.instrument, placed_by=halt.placed_by)
    state = "halted" if halt.lifted_at is None else "lifted"
    style = "bold yellow" if halt.lifted_at is None else "bold"
    yield Text(state, style).append(f" {printable(target_text(target))}{suffix}", "not bold")
    yield Text(f"  id      {halt.halt_id}")
    since = f"{display_time(halt.halted_at)} by {printable(halt.halted_by)}"
    yield Text(f"  halted  {since}: {printable(halt.reason)}")
    if halt.lifted_at is not None:
        why = "" if halt.lifted_reason is None else f": {printable(halt.lifted_reason)}"
        lifted_by = printable(halt.lifted_by or "")
        yield Text(f"  lifted  {display_time(halt.lifted_at)} by {lifted_by}{why}")
