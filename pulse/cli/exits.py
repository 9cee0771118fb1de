"""The exit codes, and how commands run: on signals, with Postgres, with optional packages."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Final, TypeVar

import typer

from pulse.errors import PulseError
from pulse.process.startup import settings_from_environment, stop_on_hangup
from pulse.process.tools import Tools, open_tools
from pulse.settings import Settings

T = TypeVar("T")

SUCCESS: Final = 0
FAILURE: Final = 1
WRONG_USAGE: Final = 2
COULD_NOT_START: Final = 3
SIGNER_NOT_CHECKED: Final = 4
NOT_PROVEN_WHOLE: Final = 5
NOT_COMPARED: Final = 6
REVISIONS_PENDING: Final = 7
ONLY_AFTER_PENDING: Final = 8
SCHEMA_NEWER: Final = 9
NOT_ANCHORED: Final = 10
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141
TERMINATED: Final = 143


class CouldNotStart(PulseError):
    """The command could not open what it needs, or could not complete the migration."""


class WrongSettings(PulseError):
    """The command refuses its options or settings, or needs a package that is not installed."""


def run_until_signal(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work. Ctrl-C, SIGTERM and SIGHUP cancel it, so that it cleans up."""

    async def cancelled_by_signal() -> T:
        current = asyncio.current_task()
        if current is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, current.cancel)
            stop_on_hangup()
        return await work

    try:
        return asyncio.run(cancelled_by_signal())
    except asyncio.CancelledError:
        raise typer.Exit(TERMINATED) from None


def run_with_tools(
    work: Callable[[Tools], Coroutine[Any, Any, T]],
    settings: Settings | None = None,
    *,
    as_owner: bool = False,
) -> T:
    """Open the tools on the Postgres of the settings, by default the environment's, and run `work`.

    `as_owner` is as in `open_tools`.

    Raises:
        CouldNotStart: Postgres cannot be reached, or its schema is not usable.
    """
    settings = settings or settings_from_environment()

    async def opened() -> T:
        async with AsyncExitStack() as stack:
            try:
                tools = await stack.enter_async_context(open_tools(settings, as_owner=as_owner))
            except PulseError as error:
                raise CouldNotStart(str(error)) from error
            return await work(tools)

    return run_until_signal(opened())


_EXTRAS: Final = {"hypothesis": "testing", "matplotlib": "charts"}


@contextmanager
def require_extra() -> Iterator[None]:
    """A context for the imports of an optional dependency (an extra).

    Raises:
        WrongSettings: it is not installed; the message says how to install it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        raise WrongSettings(
            f"this command needs {error.name}: install Pulse with its extra `{extra}`, "
            f"in a clone with pip install '.[{extra}]'"
        ) from None
