"""A preview is what a worker would make of the order: the same decisions, nothing recorded."""

import json
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.domain import (
    Claim,
    OrderRefused,
    OrderSpec,
    PlaceOrder,
    PreviewRequest,
    RecordedBy,
    SlicesScheduled,
    SplitOrder,
    decide,
    fold,
    parse_order_request,
    parse_preview_request,
    preview,
)
from pulse.testing import order_request_bodies, place_orders

SEED = "28ce6f2410645d51"
BODY: dict[str, Any] = {
    "order_unique_key": "ouk_1",
    "instrument": "NSE:RELIANCE",
    "side": "BUY",
    "total_quantity": 100,
    "split_config": {"num_splits": 5, "duration_minutes": 60, "randomize": True},
}


def parsed(body: Any) -> PreviewRequest:
    return parse_preview_request(json.dumps(body, ensure_ascii=False).encode())


@given(place_orders(), st.integers(0, 57))
def test_a_preview_has_the_slices_that_a_worker_appends(command: PlaceOrder, seconds: int) -> None:
    (created,) = decide(command, None)
    claimed_at = command.at + timedelta(seconds=seconds)
    split = SplitOrder(
        claim=Claim(worker="w", claimed_at=claimed_at, first_claimed_at=claimed_at),
        max_split_delay_seconds=60,
        at=claimed_at,
        request_id="r",
        recorded_by=RecordedBy(component="worker", instance="w", code_version="1"),
    )
    (scheduled,) = decide(split, fold([created]))
    assert isinstance(scheduled, SlicesScheduled)
    previewed = preview(command)
    assert previewed.slices == scheduled.slices
    assert previewed.split_seed == command.split_seed
    assert previewed.created_at == previewed.updated_at == command.at
    assert previewed.window.starts_at == previewed.slices[0].scheduled_at
    assert previewed.window.ends_at == previewed.slices[-1].scheduled_at
    assert preview(command) == previewed


@given(place_orders(), st.integers(0, 10**9))
def test_the_same_seed_at_another_time_gives_the_same_quantities_and_offsets(
    command: PlaceOrder, seconds: int
) -> None:
    config = msgspec.structs.replace(
        command.spec.split_config, start_at=None, session_policy="NONE"
    )
    spec = msgspec.structs.replace(command.spec, split_config=config)
    now = msgspec.structs.replace(command, spec=spec)
    later = msgspec.structs.replace(now, at=command.at + timedelta(seconds=seconds))
    first, second = preview(now), preview(later)
    assert [s.quantity for s in first.slices] == [s.quantity for s in second.slices]
    assert [s.scheduled_at - now.at for s in first.slices] == [
        s.scheduled_at - later.at for s in second.slices
    ]


@given(order_request_bodies(), st.none() | st.integers(0, 2**64 - 1).map("{:016x}".format))
def test_the_request_is_an_order_and_optionally_a_seed(
    body: dict[str, Any], seed: str | None
) -> None:
    asked = parsed(body if seed is None else {**body, "split_seed": seed})
    assert asked.split_seed == (msgspec.UNSET if seed is None else seed)
    spec = asked.spec
    assert type(spec) is OrderSpec
    assert spec == parse_order_request(json.dumps(body, ensure_ascii=False).encode())


def test_a_seed_is_no_part_of_the_order_that_is_previewed() -> None:
    asked = parsed({**BODY, "split_seed": SEED})
    assert asked.spec == parse_order_request(json.dumps(BODY).encode())


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"split_seed": SEED[1:]}, "INVALID_REQUEST", "split_seed"),
        ({"split_seed": SEED + "0"}, "INVALID_REQUEST", "split_seed"),
        ({"split_seed": SEED.upper()}, "INVALID_REQUEST", "split_seed"),
        ({"split_seed": SEED + "\n"}, "INVALID_REQUEST", "split_seed"),
        ({"split_seed": None}, "INVALID_REQUEST", "split_seed"),
        ({"split_seed": 7}, "INVALID_REQUEST", "split_seed"),
        ({"seed": SEED}, "INVALID_REQUEST", "seed"),
        ({"total_quantity": 4}, "INVALID_QUANTITY", "total_quantity"),
        ({"order_unique_key": "a "}, "INVALID_REQUEST", "order_unique_key"),
        ({"split_config": 5}, "INVALID_SPLIT_CONFIG", "split_config"),
    ],
)
def test_an_invalid_preview_is_refused(changes: dict[str, Any], code: str, field: str) -> None:
    with pytest.raises(OrderRefused) as caught:
        parsed(BODY | changes)
    assert (caught.value.code, caught.value.field) == (code, field)


def test_the_refusal_of_an_unknown_field_lists_the_known_ones() -> None:
    with pytest.raises(OrderRefused) as caught:
        parsed(BODY | {"seed": SEED})
    assert caught.value.expected == (
        "only order_unique_key, instrument, side, total_quantity, split_config, split_seed"
    )


def test_an_order_takes_no_seed() -> None:
    with pytest.raises(OrderRefused) as caught:
        parse_order_request(json.dumps(BODY | {"split_seed": SEED}).encode())
    assert (caught.value.code, caught.value.field) == ("INVALID_REQUEST", "split_seed")


@pytest.mark.parametrize("name", ["split_seed", "\\u0073plit_seed", "side"])
def test_a_repeated_field_is_refused(name: str) -> None:
    value = "BUY" if name == "side" else SEED
    text = json.dumps(BODY | {"split_seed": SEED})[:-1] + f',"{name}":"{value}"}}'
    with pytest.raises(OrderRefused) as caught:
        parse_preview_request(text.encode())
    assert (caught.value.code, caught.value.expected) == ("INVALID_REQUEST", "the field once")
