"""The `pulse` command: a thin layer over the use cases, one module per command or group."""

import gc


def main() -> None:
    """Run the command line of this process.

    Imports run without garbage collection, and their objects are frozen: they live as long as the
    process. Otherwise collections, the one at exit included, are a third of the CPU time of
    `pulse --help`.
    """
    gc.disable()
    from pulse.cli.app import main as run_command_line  # noqa: PLC0415 - see above

    gc.freeze()
    gc.enable()
    run_command_line()
