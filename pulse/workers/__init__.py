"""Background work: splitting, timeouts, and the claims it holds."""

from pulse.workers.claims import Claims
from pulse.workers.orphans import OrphanedClaims, Released
from pulse.workers.overview import reader_of_workers
from pulse.workers.presence import CLAIMS_CHANNEL, Presence
from pulse.workers.silence import SilentClients
from pulse.workers.splitting import Fate, SplitBatch, SplittingWorker
from pulse.workers.timeouts import TimedOutBatch, TimeoutMonitor

__all__ = [
    "CLAIMS_CHANNEL",
    "Claims",
    "Fate",
    "OrphanedClaims",
    "Presence",
    "Released",
    "SilentClients",
    "SplitBatch",
    "SplittingWorker",
    "TimedOutBatch",
    "TimeoutMonitor",
    "reader_of_workers",
]
