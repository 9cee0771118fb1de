"""The `pulse` command: a thin layer over the use cases, one module per command or group."""

import gc
import signal
import sys


def main() -> None:
    """Run the command line of this process.

    Imports run without garbage collection, and their objects are frozen: they live as long as the
    process. Otherwise collections, the one at exit included, are a third of the CPU time of
    `pulse --help`.

    `pulse up` blocks SIGHUP until it either starts a group of processes, which SIGHUP restarts, or
    a single process.
    """
    if sys.argv[1:2] == ["up"]:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    gc.disable()
    from pulse.cli import app  # noqa: PLC0415 - see above

    app.program_for(sys.argv[1:])
    gc.freeze()
    gc.enable()
    app.main()
