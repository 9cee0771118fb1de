"""Whether a stored creation is one that Pulse can have written, before anything is made of it."""

import re
from datetime import timedelta
from typing import Final

from pulse.domain import (
    HistoryBroken,
    OrderCreated,
    OrderRefused,
    order_id_for,
    require_valid_order,
)

_SEED: Final = re.compile(r"[0-9a-f]{16}")


def require_accepted(created: OrderCreated) -> None:
    """Refuse what no order can have been: altered to a billion slices, say.

    Raises:
        HistoryBroken: it says what cannot be.
    """
    if created.originator_id != order_id_for(created.key_scope, created.order_unique_key):
        raise HistoryBroken("its id does not follow from its key")
    if created.timestamp.utcoffset() != timedelta(0):
        raise HistoryBroken("its time is not in UTC")
    if not _SEED.fullmatch(created.split_seed):
        raise HistoryBroken("its seed is not 16 hex digits")
    if created.splitter_version < 1:
        raise HistoryBroken(f"there never was a splitter version {created.splitter_version}")
    try:
        require_valid_order(created.spec)
    except OrderRefused as refusal:
        raise HistoryBroken(f"no such order was ever accepted: {refusal}") from None
