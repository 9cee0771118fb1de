from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import msgspec
import pytest

from pulse.domain import OrderSpec, RequestedOrder, Slice
from pulse.load.answers import OrderAnswer, SplitConfigAnswer
from pulse.load.checks import breaches

ORDER_ID = UUID(int=7)
T0 = datetime(2026, 11, 23, 9, 15, tzinfo=UTC)
SENT = RequestedOrder(
    order_unique_key="ouk_1",
    spec=OrderSpec(
        instrument="NSE:M&M",
        side="BUY",
        total_quantity=100,
        num_splits=2,
        duration_minutes=1,
        randomize=False,
    ),
)
ANSWER = OrderAnswer(
    order_id=ORDER_ID,
    order_unique_key="ouk_1",
    instrument="NSE:M&M",
    side="BUY",
    total_quantity=100,
    split_config=SplitConfigAnswer(2, 1, randomize=False),
    order_queue_status="COMPLETED",
    failure_reason=None,
    created_at=T0,
    split_completed_at=T0,
    slices=(
        Slice(sequence_number=1, quantity=50, scheduled_at=T0),
        Slice(sequence_number=2, quantity=50, scheduled_at=T0 + timedelta(minutes=1)),
    ),
)


def rules_broken(answer: OrderAnswer) -> set[str]:
    return {broken.rule for broken in breaches(ORDER_ID, SENT, answer)}


def test_an_answer_as_sent_and_split_by_the_rules_breaks_none() -> None:
    assert rules_broken(ANSWER) == set()


@pytest.mark.parametrize(
    "answer",
    [
        msgspec.structs.replace(ANSWER, order_id=UUID(int=8)),
        msgspec.structs.replace(ANSWER, order_unique_key="ouk_2"),
        msgspec.structs.replace(ANSWER, instrument="NSE:MM"),
        msgspec.structs.replace(ANSWER, side="SELL"),
        msgspec.structs.replace(ANSWER, total_quantity=101),
        msgspec.structs.replace(ANSWER, split_config=SplitConfigAnswer(1, 1, randomize=False)),
        msgspec.structs.replace(ANSWER, split_config=SplitConfigAnswer(2, 2, randomize=False)),
        msgspec.structs.replace(ANSWER, split_config=SplitConfigAnswer(2, 1, randomize=True)),
    ],
)
def test_each_field_is_compared_with_what_was_sent(answer: OrderAnswer) -> None:
    assert rules_broken(answer) == {"fields_equal_what_was_sent"}


@pytest.mark.parametrize("quantities", [(49, 50), (51, 50), (49, 51)])
def test_the_schedule_is_held_to_the_domains_rules(quantities: tuple[int, int]) -> None:
    first, second = ANSWER.slices
    changed = (
        msgspec.structs.replace(first, quantity=quantities[0]),
        msgspec.structs.replace(second, quantity=quantities[1]),
    )
    expected = "even_quantities_are_even" if sum(quantities) == 100 else "quantities_sum_to_total"
    assert expected in rules_broken(msgspec.structs.replace(ANSWER, slices=changed))


@pytest.mark.parametrize("zone", [None, timezone(timedelta(hours=5, minutes=30))])
def test_a_time_that_is_not_utc_is_a_breach_and_no_crash(zone: timezone | None) -> None:
    first, second = ANSWER.slices
    moved = msgspec.structs.replace(second, scheduled_at=second.scheduled_at.replace(tzinfo=zone))
    assert rules_broken(msgspec.structs.replace(ANSWER, slices=(first, moved))) == {"times_are_utc"}


@pytest.mark.parametrize(
    "answer",
    [
        msgspec.structs.replace(ANSWER, order_queue_status="PENDING"),
        msgspec.structs.replace(ANSWER, order_queue_status="FAILED", failure_reason="TIMED_OUT"),
        msgspec.structs.replace(ANSWER, slices=()),
        msgspec.structs.replace(ANSWER, split_completed_at=None),
        msgspec.structs.replace(ANSWER, failure_reason="TIMED_OUT"),
    ],
)
def test_slices_belong_to_completed_orders_and_reasons_to_failed_ones(answer: OrderAnswer) -> None:
    assert rules_broken(answer) == {"status_and_outcome_agree"}
