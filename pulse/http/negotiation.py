"""Content negotiation: which of the offered media types and encodings a request accepts."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

_WEIGHT: Final = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\Z")


def preferred_type(accept: Sequence[str], offered: Sequence[str]) -> str | None:
    """The offered media type that the Accept headers prefer; the first one if several are equal.

    Without a header it is the first one; None if none is accepted. The most specific range that
    matches a type decides its weight. Parameters of media types are ignored.
    """
    ranges = list(_weighted(accept))
    if not ranges:
        return offered[0]
    best = max(offered, key=lambda kind: _weight_of(kind, ranges))
    return best if _weight_of(best, ranges) > 0 else None


def accepts_gzip(accept_encoding: Sequence[str]) -> bool:
    """Whether the Accept-Encoding headers allow gzip."""
    weights = dict(_weighted(accept_encoding))
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0))) > 0


def _weight_of(kind: str, ranges: Sequence[tuple[str, float]]) -> float:
    weights = dict(ranges)
    for matching in (kind, f"{kind.partition('/')[0]}/*", "*/*"):
        if matching in weights:
            return weights[matching]
    return 0.0


def _weighted(headers: Sequence[str]) -> Iterator[tuple[str, float]]:
    """The elements of a header with their weights, which default to 1; an invalid one is 0."""
    for element in ",".join(headers).split(","):
        name, *parameters = (part.strip().lower() for part in element.split(";"))
        if not name:
            continue
        weight = "1"
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                weight = value.strip()
        yield name, float(weight) if _WEIGHT.match(weight) else 0.0
