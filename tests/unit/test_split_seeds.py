"""Split seeds: unsigned 64-bit numbers, all different."""

from pulse.application.origin import SplitSeeds


def test_seeds_are_unsigned_64_bit_numbers_and_differ() -> None:
    """Across several reads of random bytes from the system, and between two sources."""
    one, other = SplitSeeds(), SplitSeeds()
    seeds = [source.next() for _ in range(2000) for source in (one, other)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**64 for seed in seeds)
    assert max(seeds) >= 2**63
