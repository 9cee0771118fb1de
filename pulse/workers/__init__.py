"""Background work: the loop, splitting, and the claims it holds."""

from pulse.workers.claims import Claims
from pulse.workers.loop import NOW, Loop
from pulse.workers.splitting import Fate, SplitBatch, SplittingWorker

__all__ = ["NOW", "Claims", "Fate", "Loop", "SplitBatch", "SplittingWorker"]
