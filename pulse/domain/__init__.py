"""The pure core: orders, their events, and the splitting with its rules.

Importing this loads nothing beyond the standard library and msgspec, and reads no configuration.
"""

from pulse.domain.commands import Claim, Command, PlaceOrder, SplitOrder, TimeOutOrder
from pulse.domain.errors import (
    HistoryBroken,
    OrderNotPlaced,
    OrderRefused,
    OrderUniqueKeyTaken,
    SplitterUnknown,
)
from pulse.domain.events import (
    EVENT_TYPES,
    DomainEvent,
    Event,
    OrderCreated,
    SlicesScheduled,
    SplittingFailed,
    TimedOut,
)
from pulse.domain.identity import INTERNAL_SCOPE, PULSE_NAMESPACE, order_id_for
from pulse.domain.order_request import (
    MAX_DURATION_MINUTES,
    MAX_QUANTITY,
    MAX_SPLITS,
    MIN_SPLITS,
    OrderSpec,
    Side,
    SplitConfig,
    SplitConfigRequest,
    parse_order_request,
    require_valid_order,
)
from pulse.domain.orders import (
    SPLITTING_ERROR,
    TIMED_OUT,
    TOO_LATE,
    Order,
    OrderState,
    decide,
    evolve,
    fold,
)
from pulse.domain.schedule_rules import (
    SCHEDULE_RULES,
    BrokenRule,
    Rule,
    broken_rules,
    rule_sentence,
)
from pulse.domain.splitting import (
    CURRENT_SPLITTER_VERSION,
    SPLITTERS,
    Splitter,
    SplitTerms,
    split,
    split_terms_of,
    split_v1,
)
from pulse.domain.values import RecordedBy, Slice, Trace

__all__ = [
    "CURRENT_SPLITTER_VERSION",
    "EVENT_TYPES",
    "INTERNAL_SCOPE",
    "MAX_DURATION_MINUTES",
    "MAX_QUANTITY",
    "MAX_SPLITS",
    "MIN_SPLITS",
    "PULSE_NAMESPACE",
    "SCHEDULE_RULES",
    "SPLITTERS",
    "SPLITTING_ERROR",
    "TIMED_OUT",
    "TOO_LATE",
    "BrokenRule",
    "Claim",
    "Command",
    "DomainEvent",
    "Event",
    "HistoryBroken",
    "Order",
    "OrderCreated",
    "OrderNotPlaced",
    "OrderRefused",
    "OrderSpec",
    "OrderState",
    "OrderUniqueKeyTaken",
    "PlaceOrder",
    "RecordedBy",
    "Rule",
    "Side",
    "Slice",
    "SlicesScheduled",
    "SplitConfig",
    "SplitConfigRequest",
    "SplitOrder",
    "SplitTerms",
    "Splitter",
    "SplitterUnknown",
    "SplittingFailed",
    "TimeOutOrder",
    "TimedOut",
    "Trace",
    "broken_rules",
    "decide",
    "evolve",
    "fold",
    "order_id_for",
    "parse_order_request",
    "require_valid_order",
    "rule_sentence",
    "split",
    "split_terms_of",
    "split_v1",
]
