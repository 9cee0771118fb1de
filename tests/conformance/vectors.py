"""Conformance vectors: inputs and results that every implementation of a splitter must reproduce.

The seeds are fixed, so `make vectors` writes the same files again. Their format and the algorithm
are in docs/reference/conformance/README.md.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from itertools import product
from typing import Any, Final

import msgspec

from pulse.domain import (
    MAX_DURATION_MINUTES,
    MAX_QUANTITY,
    MAX_SPLITS,
    MIN_SPLITS,
    OrderRefused,
    Session,
    Slice,
    SplitTerms,
    broken_rules,
    parse_order_request,
    split,
)
from pulse.domain.splitmix import SplitMix64
from pulse.printable import printable_json

FORMAT: Final = 1

Case = dict[str, Any]

_NUM_SPLITS: Final = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 32, 49, 50, 99, 100)
_DURATIONS: Final = (1, 7, 60, 390, 1440)
_STARTS_AT: Final = datetime(2026, 3, 2, 3, 45, tzinfo=UTC)
_DRAWN_CASES: Final = 260
_DRAWN_SPLITS: Final = 30
_MAX_SECONDS: Final = 4_000_000_000
_MICROSECOND: Final = timedelta(microseconds=1)
_SECOND: Final = 1_000_000


def vectors(splitter_version: int) -> Iterator[str]:
    """The lines of the file for that splitter version: JSON, one case per line."""
    parts: dict[str, list[Case]] = {"random": list(_random_cases())}
    if splitter_version == 1:
        parts |= {
            "schedules": list(_schedule_cases((*_edge_terms(), *_drawn_terms()), 1)),
            "accepted_orders": list(_accepted_order_cases()),
            "invalid_orders": list(_invalid_order_cases()),
            "broken_schedules": list(_broken_schedule_cases()),
        }
    else:
        parts |= {
            "schedules": list(_schedule_cases(_terms_with_sessions(), splitter_version)),
            "accepted_orders": list(_accepted_start_cases()),
            "invalid_orders": list(_invalid_start_cases()),
            "broken_schedules": list(_broken_session_cases(splitter_version)),
        }
    yield "{"
    yield f'"format": {FORMAT},'
    yield f'"splitter_version": {splitter_version},'
    for last, (name, cases) in enumerate(parts.items(), 1 - len(parts)):
        yield f'"{name}": ['
        lines = [printable_json(msgspec.json.encode(case).decode()) for case in cases]
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


def _schedule_cases(every: Iterable[SplitTerms], splitter_version: int) -> Iterator[Case]:
    for terms in every:
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
    """Random terms, from a fixed seed."""
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
            + timedelta(seconds=random.below(_MAX_SECONDS), microseconds=random.below(1_000_000)),
        )


def _terms_with_sessions() -> Iterator[SplitTerms]:
    """The terms of version 1, each with sessions: the window is in one, clipped, or in several."""
    random = SplitMix64(20260303)
    for number, terms in enumerate((*_edge_terms(), *_drawn_terms())):
        duration = terms.duration_microseconds
        least = (terms.num_splits + 1) * _SECOND
        even = duration * (1 + number % (terms.num_splits - 1)) // (terms.num_splits - 1)
        lengths: Sequence[int]
        match number % 6:
            case 0:
                lengths = [duration + 1]
            case 1:
                lengths = [duration]  # the window reaches the close
            case 2:
                lengths = [least + random.below(max(1, duration - least))]
            case 3:
                lengths = [even, duration - even + 1]  # an even offset is at a close
            case 4:
                lengths = [_SECOND, duration - _SECOND]
            case _:
                third = duration // 3
                lengths = [third - random.below(third), third, duration]
        if lengths[0] < duration and len(lengths) == 1 and lengths[0] < least:
            lengths = [duration + 1]
        yield msgspec.structs.replace(terms, sessions=_sessions(terms.starts_at, lengths, random))


def _sessions(
    starts_at: datetime, lengths: Sequence[int], random: SplitMix64
) -> tuple[Session, ...]:
    """Sessions of these lengths in microseconds from the start on, with gaps between them."""
    sessions: list[Session] = []
    opens_at = starts_at
    for length in filter(None, lengths):
        closes_at = opens_at + length * _MICROSECOND
        sessions.append(Session(opens_at=opens_at, closes_at=closes_at))
        opens_at = closes_at + timedelta(microseconds=random.below(4) * 21_300_000_000)
    earlier = timedelta(minutes=random.below(200))
    sessions[0] = msgspec.structs.replace(sessions[0], opens_at=starts_at - earlier)
    return tuple(sessions)


def _accepted_start_cases() -> Iterator[Case]:
    """Orders with a start and a session policy, and what they ask for."""
    changes: tuple[dict[str, Any], ...] = (
        {},
        {"start_at": None, "session_policy": None},
        {"start_at": "2026-03-02T09:15:00+05:30"},
        {"start_at": "2026-03-02T03:45:00.000001Z", "session_policy": "ROLL"},
        {"start_at": "2028-02-29T23:59:59-12:00"},
        *({"session_policy": policy} for policy in ("NONE", "REJECT", "CLIP", "ROLL")),
    )
    for change in changes:
        order = {**_ORDER, "split_config": {**_CONFIG, **change}}
        config = parse_order_request(msgspec.json.encode(order)).split_config
        asked = {"start_at": config.start_at, "session_policy": config.session_policy}
        yield {**_accepted(order), **asked}


def _invalid_start_cases() -> Iterator[Case]:
    for field, values in _WRONG_START.items():
        for value in values:
            yield _refused({**_ORDER, "split_config": {**_CONFIG, field: value}})


_WRONG_START: Final[dict[str, Sequence[object]]] = {
    "start_at": (
        *("2026-03-02T09:15:00", "2026-02-30T09:15:00Z", "2026-03-02", "", "now"),
        *("2026-03-02T24:00:00Z", "2026-03-02T09:60:00Z", 1772423100, 1.5, True, {}, []),
        "0001-01-01T00:00:00+05:30",
    ),
    "session_policy": ("", "none", "SKIP", 1, False, ["CLIP"]),
}

_CONFIG: Final[dict[str, Any]] = {"num_splits": 5, "duration_minutes": 60, "randomize": True}
_ORDER: Final[dict[str, Any]] = {
    "order_unique_key": "ouk_1",
    "instrument": "NSE:RELIANCE",
    "side": "BUY",
    "total_quantity": 100,
    "split_config": _CONFIG,
}


def _accepted_order_cases() -> Iterator[Case]:
    """Orders with boundary values, and their values after defaults."""
    accepted: dict[str, Sequence[object]] = {
        "order_unique_key": ("k", "k" * 255, "\U0001f4c8" * 255, "~ \u00a0\u00e9"),
        "instrument": ("BSE:500325", "NSE:M&M", "NSE:BAJAJ-AUTO", "NSE:" + "A" * 46),
        "side": ("SELL",),
        "total_quantity": (5, MAX_QUANTITY),
    }
    for field, values in accepted.items():
        yield from (_accepted({**_ORDER, field: value}) for value in values)
    for change in (
        {"num_splits": MIN_SPLITS},
        {"num_splits": MAX_SPLITS},
        {"duration_minutes": 1},
        {"duration_minutes": MAX_DURATION_MINUTES},
        {"randomize": False},
    ):
        yield _accepted({**_ORDER, "split_config": {**_CONFIG, **change}})
    yield _accepted({**_ORDER, "split_config": {"num_splits": 5, "duration_minutes": 60}})


def _accepted(order: dict[str, Any]) -> Case:
    spec = parse_order_request(msgspec.json.encode(order))
    return {"order": order, "randomize": spec.split_config.randomize}


def _invalid_order_cases() -> Iterator[Case]:
    """Orders that break exactly one rule each."""
    for field in _ORDER:
        yield _refused({name: value for name, value in _ORDER.items() if name != field})
    for field in ("num_splits", "duration_minutes"):
        shorter = {name: value for name, value in _CONFIG.items() if name != field}
        yield _refused({**_ORDER, "split_config": shorter})
    for field, values in _WRONG.items():
        yield from (_refused({**_ORDER, field: value}) for value in values)
    for field, values in _WRONG_CONFIG.items():
        for value in values:
            yield _refused({**_ORDER, "split_config": {**_CONFIG, field: value}})
    yield _refused({**_ORDER, "split_config": {**_CONFIG, "slices": 5}})
    yield _refused({**_ORDER, "price": 5})


_CONTROLS: Final = "\u0000\n\u001f\u007f\u0085\u009f"
_BLANKS: Final = " \u00a0\u2003\u2028\u3000\u00ad\u200b\u200f\u2060\ufeff"
_WRONG: Final[dict[str, Sequence[object]]] = {
    "order_unique_key": (
        *("", "k" * 256, *(f"a{c}b" for c in _CONTROLS), 7, None),
        *(f"{c}k" for c in _BLANKS),
        *(f"k{c}" for c in _BLANKS),
        *(" ", "e\u0301", "\u212b"),
    ),
    "instrument": (
        *("RELIANCE", "NYSE:IBM", "NSE:reliance", "NSE:", "NSE:A B", "NSE:A_B", "XNSE:A"),
        *("NSE:A\n", "BSE:" + "A" * 47, 7, None),
    ),
    "side": ("buy", "HOLD", "", 1, None),
    "total_quantity": (0, -1, 4, MAX_QUANTITY + 1, 100.5, "100", True, None, [100]),
    "split_config": ({}, [], "5", None),
}
_WRONG_CONFIG: Final[dict[str, Sequence[object]]] = {
    "num_splits": (1, 0, -5, 101, 2.5, "5", True, None),
    "duration_minutes": (0, -1, 1441, 0.5, "60", True, None),
    "randomize": (0, 1, "true", None),
}


def _refused(order: dict[str, Any]) -> Case:
    try:
        parse_order_request(msgspec.json.encode(order))
    except OrderRefused as refusal:
        case = {"code": refusal.code, "field": refusal.field, "rule": refusal.expected}
        return {"order": order, **case}
    raise AssertionError(f"{order} breaks no rule")


def _broken_session_cases(splitter_version: int) -> Iterator[Case]:
    """Schedules with slices at an open, at a close, and between two sessions."""
    opens_at = _STARTS_AT + timedelta(days=1)
    half = timedelta(seconds=30)
    sessions = (
        Session(opens_at=_STARTS_AT - half, closes_at=_STARTS_AT + half),
        Session(opens_at=opens_at, closes_at=opens_at + half),
    )
    for randomize, n in product((False, True), (3, 5)):
        terms = SplitTerms(
            total_quantity=100 * n,
            num_splits=n,
            duration_minutes=1,
            randomize=randomize,
            seed=7,
            starts_at=_STARTS_AT,
            sessions=sessions,
        )
        slices = split(terms, splitter_version)
        yield _broken(terms, slices)
        for place, at in (
            (n // 2, sessions[0].closes_at),
            (n // 2, sessions[0].closes_at - _MICROSECOND),
            (n // 2, opens_at - _MICROSECOND),
            (n // 2, opens_at),
            (0, _STARTS_AT - _MICROSECOND),
            (-1, sessions[1].closes_at),
            (-1, sessions[1].closes_at - _MICROSECOND),
            (-1, sessions[1].closes_at + timedelta(days=1)),
        ):
            changed = list(slices)
            changed[place] = msgspec.structs.replace(changed[place], scheduled_at=at)
            yield _broken(terms, changed)


def _broken_schedule_cases() -> Iterator[Case]:
    """Schedules that break each rule by the smallest amount, and some that break several."""
    for randomize, (n, total) in product((False, True), ((5, 102), (8, 8))):
        terms = SplitTerms(
            total_quantity=total,
            num_splits=n,
            duration_minutes=1,
            randomize=randomize,
            seed=7,
            starts_at=_STARTS_AT,
        )
        slices = split(terms, 1)
        yield _broken(terms, slices)
        for changed in (*_cut(slices), *(_modified(terms, slices, change) for change in _CHANGES)):
            yield _broken(terms, changed)


def _cut(slices: Sequence[Slice]) -> Iterator[Sequence[Slice]]:
    yield []
    yield slices[:-1]
    yield slices[::-1]


_IST: Final = timezone(timedelta(hours=5, minutes=30))
_CHANGES: Final[tuple[dict[int, dict[str, Any]], ...]] = (
    {0: {"sequence_number": 2}},
    {0: {"sequence_number": 1.5}},
    {3: {"quantity": 20.5}},
    {3: {"zone": _IST}},
    {1: {"more": 1}},
    {1: {"more": -1}},
    {1: {"quantity": 0}},
    {0: {"more": -2}, 1: {"more": 2}},
    {2: {"more": 1}, 3: {"more": -1}},
    {1: {"more": 10}, 2: {"more": -10}},
    {i: {"quantity": q} for i, q in enumerate((16, 25, 20, 16, 25))},
    {i: {"quantity": q} for i, q in enumerate((15, 26, 20, 16, 25))},
    {i: {"quantity": q} for i, q in enumerate((20, 20, 22, 19, 21))},
    {i: {"quantity": q} for i, q in enumerate((21, 21, 20, 20, 20))},
    {0: {"offset": 1}},
    {0: {"offset": -1}},
    {-1: {"offset": 59_999_999}},
    {-1: {"offset": 60_000_001}},
    *({1: {"offset": offset}} for offset in (10_500_000, 10_499_999, 19_500_000, 19_500_001)),
    *({1: {"offset": offset}} for offset in (14_999_999, 15_000_000, 15_000_001)),
    *({1: {"offset": offset}} for offset in (8_571_427, 8_571_428, 8_571_429, 8_571_430)),
    {1: {"offset": 30_000_000}, 2: {"offset": 30_000_000}},
    {1: {"offset": 30_000_001}, 2: {"offset": 30_000_000}},
    {0: {"quantity": 0, "offset": 1}, 3: {"sequence_number": 9}},
)


def _modified(
    terms: SplitTerms, slices: Sequence[Slice], change: dict[int, dict[str, Any]]
) -> list[Slice]:
    modified = list(slices)
    for index, parts in change.items():
        s = modified[index]
        at = s.scheduled_at
        if "offset" in parts:
            at = terms.starts_at + parts["offset"] * _MICROSECOND
        modified[index] = Slice(
            sequence_number=parts.get("sequence_number", s.sequence_number),
            quantity=parts.get("quantity", s.quantity) + parts.get("more", 0),
            scheduled_at=at.astimezone(parts.get("zone", UTC)),
        )
    return modified


def _broken(terms: SplitTerms, slices: Sequence[Slice]) -> Case:
    rules = dict.fromkeys(breach.rule for breach in broken_rules(terms, slices))
    return {
        **_terms_case(terms),
        "sequence_numbers": [s.sequence_number for s in slices],
        **_slices_case(slices, terms),
        "broken_rules": list(rules),
    }


def _terms_case(terms: SplitTerms) -> Case:
    sessions = [[session.opens_at, session.closes_at] for session in terms.sessions]
    return {
        "total_quantity": terms.total_quantity,
        "num_splits": terms.num_splits,
        "duration_minutes": terms.duration_minutes,
        "randomize": terms.randomize,
        "seed": _hex(terms.seed),
        "starts_at": terms.starts_at,
        **({"sessions": sessions} if sessions else {}),
    }


def _slices_case(slices: Sequence[Slice], terms: SplitTerms) -> Case:
    return {
        "quantities": [s.quantity for s in slices],
        "offsets_microseconds": [terms.offset_of(s.scheduled_at) for s in slices],
        "scheduled_at": [s.scheduled_at for s in slices],
    }


def _hex(number: int) -> str:
    return f"{number:016x}"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in vectors(int(sys.argv[1])))
