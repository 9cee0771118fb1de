"""What every process does at its start: read the settings, tune the collector, take signals."""

import asyncio
import gc
import os
import signal
import threading
from functools import cache
from typing import Final

import structlog

from pulse.logs import configure_logs, report_fault
from pulse.settings import Settings, SettingsError, unknown_variables

_log = structlog.get_logger(__name__)
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_GEN0_THRESHOLD: Final = 5_000


def settings_from_environment() -> Settings:
    """The settings of this process; wrong ones end it with exit code 2 and one message.

    Variables that look like Pulse's and are not are named in a warning, without their values.
    """
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        report_fault(str(error))
        raise SystemExit(2) from None
    configure_logs(settings.log_format, settings.log_level)
    for variable, similar in unknown_variables(os.environ).items():
        _log.warning(
            "settings.unknown_variable",
            variable=variable,
            effect="none",
            **({"did_you_mean": similar} if similar else {}),
        )
    return settings


@cache
def tune_gc(gen0_threshold: int = _GEN0_THRESHOLD) -> None:
    """Freeze what the process was built of, and raise the threshold of the youngest generation.

    Each request or event under way is some fifty young objects that live. With the default of 700
    they are soon promoted to where a collection walks all that was ever imported, and the process
    pauses for that long.
    """
    gc.collect()
    gc.freeze()
    _, *older = gc.get_threshold()
    gc.set_threshold(gen0_threshold, *older)


def stop_on_hangup() -> None:
    """Stop as on SIGTERM when the terminal closes, the embedded server included.

    A process that was started to ignore that (`nohup`) goes on ignoring it.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGHUP, os.kill, os.getpid(), signal.SIGTERM
        )
