"""The `pulse` command: a thin layer over the use cases, one module per command or group."""

from pulse.cli.app import main, run

__all__ = ["main", "run"]
