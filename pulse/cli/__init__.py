"""The `pulse` command: thin over the use cases, one module a group of commands."""

from pulse.cli.app import main, run

__all__ = ["main", "run"]
