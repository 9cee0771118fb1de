"""Conformance vectors: what any implementation of a splitter must answer, in any language.

The file is a function of this code alone, so writing it again changes nothing. Its format and the
algorithm are in docs/conformance.md.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from itertools import product
from typing import Any, Final

import msgspec

from pulse.domain import (
    MAX_DURATION_MINUTES,
    MAX_QUANTITY,
    OrderRefused,
    OrderRequest,
    Slice,
    SplitTerms,
    broken_rules,
    parse_order_request,
    split,
)
from pulse.domain.splitmix import SplitMix64

FORMAT: Final = 1

Case = dict[str, Any]

_NUM_SPLITS: Final = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 32, 49, 50, 99, 100)
_DURATIONS: Final = (1, 7, 60, 390, 1440)
_STARTS_AT: Final = datetime(2026, 3, 2, 3, 45, tzinfo=UTC)
_DRAWN_CASES: Final = 260
_DRAWN_SPLITS: Final = 30
_MOST_SECONDS: Final = 4_000_000_000
_MICROSECOND: Final = timedelta(microseconds=1)


def vectors(splitter_version: int) -> Iterator[str]:
    """The lines of the file for that splitter version: JSON, a case a line."""
    parts: dict[str, list[Case]] = {
        "random": list(_random_cases()),
        "schedules": list(_schedule_cases(splitter_version)),
        "invalid_orders": list(_invalid_order_cases()),
        "broken_schedules": list(_broken_schedule_cases(splitter_version)),
    }
    yield "{"
    yield f'"format": {FORMAT},'
    yield f'"splitter_version": {splitter_version},'
    for last, (name, cases) in enumerate(parts.items(), 1 - len(parts)):
        yield f'"{name}": ['
        lines = [msgspec.json.encode(case).decode() for case in cases]
        yield ",\n".join(lines)
        yield "]" if last == 0 else "],"
    yield "}"


def _random_cases() -> Iterator[Case]:
    for seed in (0, 1, 1234567, 2**63, 2**64 - 1):
        random, same = SplitMix64(seed), SplitMix64(seed)
        shuffled = list(range(10))
        SplitMix64(seed).shuffle(shuffled)
        yield {
            "seed": _hex(seed),
            "next": [_hex(random.next()) for _ in range(4)],
            "below": [[bound, same.below(bound)] for bound in (1, 2, 10, 1_000_003, 2**33)],
            "shuffled_0_to_9": shuffled,
        }


def _schedule_cases(splitter_version: int) -> Iterator[Case]:
    for terms in (*_edge_terms(), *_drawn_terms()):
        yield {**_terms_case(terms), **_slices_case(split(terms, splitter_version), terms)}


def _edge_terms() -> Iterator[SplitTerms]:
    """Every kind of total for many numbers of slices, with and without randomisation."""
    for number, (n, kind, randomize) in enumerate(product(_NUM_SPLITS, range(7), (True, False))):
        totals = (n, n + 1, 2 * n - 1, 104_729, 50 * n, 1000 * n + 7, MAX_QUANTITY)
        yield SplitTerms(
            total_quantity=totals[kind],
            num_splits=n,
            duration_minutes=_DURATIONS[number % len(_DURATIONS)],
            randomize=randomize,
            seed=SplitMix64(number).next(),
            starts_at=_STARTS_AT + timedelta(microseconds=number),
        )


def _drawn_terms() -> Iterator[SplitTerms]:
    """Terms at random, from a stream of numbers of their own."""
    random = SplitMix64(20260302)
    for _ in range(_DRAWN_CASES):
        n = 2 + random.below(_DRAWN_SPLITS - 1)
        most = n * 10 ** random.below(7)
        yield SplitTerms(
            total_quantity=n + random.below(most),
            num_splits=n,
            duration_minutes=1 + random.below(MAX_DURATION_MINUTES),
            randomize=random.below(8) > 0,
            seed=random.next(),
            starts_at=datetime(2000, 1, 1, tzinfo=UTC)
            + timedelta(seconds=random.below(_MOST_SECONDS), microseconds=random.below(1_000_000)),
        )


def _invalid_order_cases() -> Iterator[Case]:
    """Orders that break one rule each; the rest of each order is in order."""
    config = {"num_splits": 5, "duration_minutes": 60, "randomize": True}
    order = {
        "order_unique_key": "ouk_1",
        "instrument": "NSE:RELIANCE",
        "side": "BUY",
        "total_quantity": 100,
        "split_config": config,
    }
    for field in order:
        yield _refused({name: value for name, value in order.items() if name != field})
    for field in ("num_splits", "duration_minutes"):
        shorter = {name: value for name, value in config.items() if name != field}
        yield _refused({**order, "split_config": shorter})
    wrong: dict[str, Sequence[object]] = {
        "order_unique_key": ("", "k" * 256, "a\u0000b", "a\nb", "a\u0085b", 7, None),
        "instrument": ("RELIANCE", "NYSE:IBM", "NSE:reliance", "NSE:", "NSE:A B", 7, None),
        "side": ("buy", "HOLD", "", 1, None),
        "total_quantity": (0, -1, 4, MAX_QUANTITY + 1, 100.5, "100", True, None, [100]),
        "split_config": ({}, [], "5", None),
    }
    for field, values in wrong.items():
        yield from (_refused({**order, field: value}) for value in values)
    wrong_config: dict[str, Sequence[object]] = {
        "num_splits": (1, 0, -5, 101, 2.5, "5", True, None),
        "duration_minutes": (0, -1, 1441, 0.5, "60", True, None),
        "randomize": (0, 1, "true", None),
    }
    for field, values in wrong_config.items():
        for value in values:
            yield _refused({**order, "split_config": {**config, field: value}})
    yield _refused({**order, "split_config": {**config, "slices": 5}})


def _refused(order: dict[str, Any]) -> Case:
    try:
        parse_order_request(OrderRequest(**order))
    except OrderRefused as refusal:
        case = {"code": refusal.code, "field": refusal.field, "rule": refusal.expected}
        return {"order": order, **case}
    raise AssertionError(f"{order} breaks no rule")


def _broken_schedule_cases(splitter_version: int) -> Iterator[Case]:
    """A whole schedule with each rule broken in turn, and a few at once."""
    for randomize in (False, True):
        terms = SplitTerms(
            total_quantity=102,
            num_splits=5,
            duration_minutes=1,
            randomize=randomize,
            seed=7,
            starts_at=_STARTS_AT,
        )
        slices = split(terms, splitter_version)
        yield _broken(terms, slices)
        for changed in _spoilt(slices):
            yield _broken(terms, changed)


def _spoilt(slices: Sequence[Slice]) -> Iterator[list[Slice]]:
    yield []
    yield list(slices[:-1])
    yield list(reversed(slices))
    second = 1_000_000
    changes: tuple[dict[int, dict[str, Any]], ...] = (
        {0: {"sequence_number": 1}},
        {0: {"sequence_number": 0.5}},
        {3: {"quantity": 0.5}},
        {3: {"scheduled_in": timezone(timedelta(hours=5, minutes=30))}},
        {1: {"quantity": 1}},
        {4: {"quantity": 2}},
        {4: {"quantity": 1}},
        {0: {"quantity": -2}, 1: {"quantity": 2}},
        {1: {"quantity": 10}, 2: {"quantity": -10}},
        {0: {"scheduled_at": second}},
        {4: {"scheduled_at": -1}},
        {4: {"scheduled_at": second}},
        {2: {"scheduled_at": 5 * second}},
        {2: {"scheduled_at": -5 * second}},
        {1: {"scheduled_at": 30 * second}},
        {1: {"scheduled_at": -20 * second}},
        {0: {"quantity": 1, "scheduled_at": 1}, 3: {"sequence_number": 1}},
    )
    for change in changes:
        spoilt = list(slices)
        for place, steps in change.items():
            spoilt[place] = _moved(spoilt[place], steps)
        yield spoilt


def _moved(s: Slice, steps: dict[str, Any]) -> Slice:
    return Slice(
        sequence_number=s.sequence_number + steps.get("sequence_number", 0),
        quantity=s.quantity + steps.get("quantity", 0),
        scheduled_at=(s.scheduled_at + steps.get("scheduled_at", 0) * _MICROSECOND).astimezone(
            steps.get("scheduled_in", UTC)
        ),
    )


def _broken(terms: SplitTerms, slices: Sequence[Slice]) -> Case:
    rules = dict.fromkeys(breach.rule for breach in broken_rules(terms, slices))
    numbers = [s.sequence_number for s in slices]
    return {
        **_terms_case(terms),
        "sequence_numbers": numbers,
        **_slices_case(slices, terms),
        "broken_rules": list(rules),
    }


def _terms_case(terms: SplitTerms) -> Case:
    return {
        "total_quantity": terms.total_quantity,
        "num_splits": terms.num_splits,
        "duration_minutes": terms.duration_minutes,
        "randomize": terms.randomize,
        "seed": _hex(terms.seed),
        "starts_at": terms.starts_at,
    }


def _slices_case(slices: Sequence[Slice], terms: SplitTerms) -> Case:
    return {
        "quantities": [s.quantity for s in slices],
        "offsets_microseconds": [
            (s.scheduled_at - terms.starts_at) // _MICROSECOND for s in slices
        ],
        "scheduled_at": [s.scheduled_at for s in slices],
    }


def _hex(number: int) -> str:
    return f"{number:016x}"
