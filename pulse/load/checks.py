"""What must be true of every answered order: what was sent, and the rules of its schedule."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final
from uuid import UUID

from pulse.domain import BrokenRule, RequestedOrder, broken_rules, split_terms_of
from pulse.load.answers import OrderAnswer

ONLY_VALID_ORDERS_ARE_ACCEPTED: Final = "only_valid_orders_are_accepted"
ONE_KEY_IS_ONE_ORDER: Final = "one_key_is_one_order"
ACCEPTED_ORDERS_ARE_ANSWERED: Final = "accepted_orders_are_answered"
FIELDS_EQUAL_WHAT_WAS_SENT: Final = "fields_equal_what_was_sent"
TIMES_ARE_UTC: Final = "times_are_utc"
STATUS_AND_OUTCOME_AGREE: Final = "status_and_outcome_agree"


def breaches(order_id: UUID, sent: RequestedOrder, answer: OrderAnswer) -> tuple[BrokenRule, ...]:
    """Every breach of every rule by this answer to what was sent; empty when all is well."""
    found = [*_wrong_fields(order_id, sent, answer), *_wrong_times(answer), *_wrong_outcome(answer)]
    if not found and answer.order_queue_status == "COMPLETED":
        # the answer does not tell the seed, and no rule needs it
        terms = split_terms_of(sent.spec, seed=0, starts_at=answer.created_at)
        found += broken_rules(terms, answer.slices)
    return tuple(found)


def _wrong_fields(
    order_id: UUID, sent: RequestedOrder, answer: OrderAnswer
) -> Iterator[BrokenRule]:
    spec, config = sent.spec, answer.split_config
    fields = (
        ("order_id", order_id, answer.order_id),
        ("order_unique_key", sent.order_unique_key, answer.order_unique_key),
        ("instrument", spec.instrument, answer.instrument),
        ("side", spec.side, answer.side),
        ("total_quantity", spec.total_quantity, answer.total_quantity),
        ("split_config.num_splits", spec.num_splits, config.num_splits),
        ("split_config.duration_minutes", spec.duration_minutes, config.duration_minutes),
        ("split_config.randomize", spec.randomize, config.randomize),
    )
    for name, expected, answered in fields:
        if expected != answered:
            breach = f"{name} is {answered}, sent was {expected}"
            yield BrokenRule(rule=FIELDS_EQUAL_WHAT_WAS_SENT, breach=breach)


def _wrong_times(answer: OrderAnswer) -> Iterator[BrokenRule]:
    times = [("created_at", answer.created_at)]
    if answer.split_completed_at is not None:
        times.append(("split_completed_at", answer.split_completed_at))
    times += [(f"slice {s.sequence_number}", s.scheduled_at) for s in answer.slices]
    for name, at in times:
        if at.utcoffset() != timedelta(0):
            yield BrokenRule(rule=TIMES_ARE_UTC, breach=f"{name} is at {at.isoformat()}")


def _wrong_outcome(answer: OrderAnswer) -> Iterator[BrokenRule]:
    """Slices and their time exist for COMPLETED orders alone, a reason for FAILED ones alone."""
    status = answer.order_queue_status
    facts = (
        ("slices", bool(answer.slices), status == "COMPLETED"),
        ("a split_completed_at", answer.split_completed_at is not None, status == "COMPLETED"),
        ("a failure_reason", answer.failure_reason is not None, status == "FAILED"),
    )
    for name, present, expected in facts:
        if present is not expected:
            breach = f"a {status} order has {name if present else f'not {name}'}"
            yield BrokenRule(rule=STATUS_AND_OUTCOME_AGREE, breach=breach)
