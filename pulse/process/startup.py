"""The start of every process: read the settings, tune the garbage collector, handle signals."""

import asyncio
import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import FrameType
from typing import Final

import structlog

from pulse.logs import LogShare, configure_logs, report_fatal_error
from pulse.settings import Settings, SettingsError, unknown_variables

_log = structlog.get_logger(__name__)
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_GEN0_THRESHOLD: Final = 5_000


def settings_from_environment(share: LogShare | None = None) -> Settings:
    """Read the settings; exit with code 2 and one message if they are invalid.

    Unknown PULSE_ variables are logged as warnings, without their values. With `share` they
    are not logged: the supervisor of this process has logged them.
    """
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        report_fatal_error(str(error))
        raise SystemExit(2) from None
    configure_logs(settings.log_format, settings.log_level, share)
    if share is not None:
        return settings
    for variable, similar in unknown_variables(os.environ).items():
        _log.warning(
            "settings.unknown_variable",
            variable=variable,
            consequence="it is ignored",
            **({"did_you_mean": similar} if similar else {}),
        )
    return settings


@cache
def tune_gc(gen0_threshold: int = _GEN0_THRESHOLD) -> None:
    """Freeze the startup objects, and raise the gen-0 threshold.

    A request in flight keeps about fifty young objects alive. With Python's default threshold,
    700 (2,000 since Python 3.13), they are soon promoted to older generations, whose collection
    traverses all imported modules and pauses the process.
    """
    gc.collect()
    gc.freeze()
    _, *older = gc.get_threshold()
    gc.set_threshold(gen0_threshold, *older)


@contextmanager
def on_stop_signal(callback: Callable[[], None]) -> Iterator[None]:
    """Call `callback` in the event loop on SIGINT or SIGTERM, as well as the server's own handler.

    A server waits for its responses before it stops the application. So a callback must end each
    stream that does not end by itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(callback)
        handler = handlers[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number, handler in handlers.items():
        if callable(handler):
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, handler)


def stop_on_hangup() -> None:
    """Handle SIGHUP, sent when the terminal closes, like SIGTERM, so the embedded server stops too.

    A process that was started to ignore SIGHUP (`nohup`) keeps ignoring it.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGHUP, os.kill, os.getpid(), signal.SIGTERM
        )
