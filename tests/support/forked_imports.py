"""Imports the modules that forked processes need, once, in the process that forks them.

The garbage collector ignores the imported objects from then on: a collection in each forked process
would traverse them, and copy the memory pages that they are in.
"""

import gc
from importlib import import_module
from importlib.util import find_spec

for module in ("pulse.cli.app", "pulse.cli.serving", "pulse.process.apps", "uvicorn.main"):
    import_module(module)
# If pydantic is installed, Litestar imports its pydantic plugin when an application is made. The
# tests have pydantic because pgqueuer, a peer in the benchmarks, needs it.
if find_spec("pydantic"):
    import_module("litestar.plugins.pydantic")

gc.collect()
gc.freeze()
