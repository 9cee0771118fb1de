"""The machinery of `pulse load FILE`: post a file of orders to a running Pulse and check each.

An HTTP client like any other: of Pulse itself it knows only the contract and the domain's rules.
"""

from pulse.load.errors import LoadError
from pulse.load.pace import Pace
from pulse.load.report import render
from pulse.load.result import BrokenTally, LoadResult, Refusal
from pulse.load.run import load_orders

__all__ = ["BrokenTally", "LoadError", "LoadResult", "Pace", "Refusal", "load_orders", "render"]
