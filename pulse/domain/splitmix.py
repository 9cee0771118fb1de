"""SplitMix64 (Steele, Lea and Flood, 2014): 64 bits of state, easy to port to any language."""

from collections.abc import Iterator
from typing import Final

_MASK: Final = 0xFFFF_FFFF_FFFF_FFFF
_GOLDEN_GAMMA: Final = 0x9E37_79B9_7F4A_7C15
_MIX_1: Final = 0xBF58_476D_1CE4_E5B9
_MIX_2: Final = 0x94D0_49BB_1331_11EB


def _numbers(seed: int) -> Iterator[int]:
    state = seed & _MASK
    while True:
        state = z = (state + _GOLDEN_GAMMA) & _MASK
        z = ((z ^ (z >> 30)) * _MIX_1) & _MASK
        z = ((z ^ (z >> 27)) * _MIX_2) & _MASK
        yield z ^ (z >> 31)


class SplitMix64:
    """A stream of pseudorandom numbers: the same seed gives the same numbers on every machine."""

    __slots__ = ("_numbers",)

    def __init__(self, seed: int) -> None:
        self._numbers = _numbers(seed)

    def next(self) -> int:
        """The next 64-bit number."""
        return next(self._numbers)

    def below(self, bound: int) -> int:
        """A number in [0, bound): the high half of the 128-bit product `next() * bound`.

        No draw is rejected, so each call takes exactly one number from the stream. A value's
        probability differs from 1/bound by less than 2**-64, for the bounds used here (under
        2**35) a relative error under 2**-29.
        """
        return (next(self._numbers) * bound) >> 64

    def shuffle(self, items: list[int]) -> None:
        """Fisher-Yates from the last item down: each step draws one of the items that are left."""
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]
