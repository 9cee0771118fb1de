"""Exit codes that scripts can use, and how every command comes to one."""

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

WELL: Final = 0
NOT_WELL: Final = 1
WRONG_USAGE: Final = 2
COULD_NOT_START: Final = 3
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141
TERMINATED: Final = 143


class CouldNotStart(PulseError):
    """What the command works on could not be opened: it did nothing."""


class WrongSettings(PulseError):
    """The settings are each right, and together such that the command refuses to start."""


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; Ctrl-C, SIGTERM and SIGHUP cancel it, so it releases all it holds."""

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


def on_postgres(
    work: Callable[[Tools], Coroutine[Any, Any, T]], settings: Settings | None = None
) -> T:
    """Run this with the tools on the Postgres of these settings, or of the environment's.

    Raises:
        CouldNotStart: it cannot be reached, or its schema will not do.
    """
    settings = settings or settings_from_environment()

    async def opened() -> T:
        async with AsyncExitStack() as stack:
            try:
                tools = await stack.enter_async_context(open_tools(settings))
            except PulseError as error:
                raise CouldNotStart(str(error)) from error
            return await work(tools)

    return run_to_end(opened())


_EXTRAS: Final = {"hypothesis": "testing", "matplotlib": "charts"}


@contextmanager
def extra_needed() -> Iterator[None]:
    """Around the imports of an extra.

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
            f"as with pip install '.[{extra}]' in a clone"
        ) from None
