"""Tiles: their paths, which of them a tree has, and bundles of entries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tlog_scales.tiles import level_tiles, tile_path

from pulse.evidence.tiles import TileId, decode_bundle, encode_bundle, render_proof

TILES = st.builds(
    TileId, st.none() | st.integers(0, 63), st.integers(0, 2**40), st.integers(1, 256)
)


def test_paths_have_groups_of_three_digits() -> None:
    assert TileId(0, 1234067).path == "0/x001/x234/067"
    assert TileId(None, 67, 8).path == "entries/067.p/8"
    assert TileId(1, 1000, 1).path == "1/x001/000.p/1"


@given(tile=TILES)
def test_a_path_names_its_tile_as_the_oracle_does(tile: TileId) -> None:
    assert TileId.parse(tile.path) == tile
    width = 0 if tile.width == 256 else tile.width
    level = -1 if tile.level is None else tile.level
    assert f"tile/{tile.path}" == "/".join(tile_path(level, tile.index, width))


@pytest.mark.parametrize(
    "path",
    [
        *("", "0", "0/", "0/1", "0/0001", "00/001", "64/000", "-1/000", "0/x000/001", "0/x001"),
        *(
            "0/x1/001",
            "0/000.p/0",
            "0/000.p/256",
            "0/000.p/07",
            "0/000.p/",
            "Entries/000",
            "0/000/",
        ),
        *("0/٠٠٠", "0/000\n", "0/" + "x999/" * 6 + "999"),
    ],
)
def test_another_path_names_no_tile(path: str) -> None:
    assert TileId.parse(path) is None


@pytest.mark.parametrize("level", [None, 0, 1, 2])
@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 65_535, 65_536, 70_000, 256**3])
def test_a_tree_has_the_tiles_that_the_oracle_counts(size: int, level: int | None) -> None:
    full, width = level_tiles(size, level or 0)
    assert not full or TileId(level, full - 1).is_within(size)
    assert not TileId(level, full).is_within(size)
    assert not width or TileId(level, full, width).is_within(size)
    assert not TileId(level, full, width + 1).is_within(size)


@given(entries=st.lists(st.binary(max_size=70_000 - 4_500), max_size=4))
def test_a_bundle_has_its_entries(entries: list[bytes]) -> None:
    bundle = encode_bundle(entries)
    assert decode_bundle(bundle) == entries
    if entries:
        with pytest.raises(ValueError, match="cut short"):
            decode_bundle(bundle[:-1] if entries[-1] else bundle[:-1] + b"\x00\x09")


def test_a_proof_is_lines_of_text() -> None:
    assert render_proof(5, [bytes(32)], "origin\n1\nroot\n\n— x y\n") == (
        "c2sp.org/tlog-proof@v1\nindex 5\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n"
        "origin\n1\nroot\n\n— x y\n"
    )
