"""The Merkle tree against a direct reading of RFC 6962, and against the library tlog-scales."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tlog_scales.tlog import InclusionProof

from pulse.evidence.merkle import (
    Frontier,
    Node,
    inclusion_proof,
    leaf_hash,
    tree_of,
)
from tests.support.merkle import root_of

MANY = 70_000


def leaves_of(size: int) -> list[bytes]:
    return [leaf_hash(b"entry %d" % i) for i in range(size)]


class Tree:
    """A tree grown in steps, with its hashes as tiles have them."""

    def __init__(self) -> None:
        self.frontier = Frontier()
        self.hashes: dict[Node, bytes] = {}

    def extend(self, leaves: list[bytes]) -> None:
        self.hashes |= {(0, self.frontier.size + i): leaf for i, leaf in enumerate(leaves)}
        self.frontier, full = self.frontier.extended(leaves)
        assert not full.keys() & self.hashes.keys()
        self.hashes |= full

    def hash_of(self, level: int, index: int) -> bytes:
        return self.hashes[level, index]


@pytest.fixture(scope="module")
def large() -> Tree:
    tree = Tree()
    leaves = leaves_of(MANY)
    for begin, end in pairwise((0, 1, 255, 256, 257, 2_000, 65_535, 65_537, MANY)):
        tree.extend(leaves[begin:end])
    return tree


def test_the_hashes_of_rfc_6962_are_known_values() -> None:
    assert Frontier().root.hex() == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
    assert leaf_hash(b"").hex() == (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    )
    frontier, _ = Frontier().extended([leaf_hash(b""), leaf_hash(b"\x00"), leaf_hash(b"\x10")])
    assert frontier.root.hex() == (
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
    )


@given(steps=st.lists(st.integers(0, 700), max_size=6))
def test_a_tree_that_grows_in_steps_is_the_tree_of_all_leaves(steps: list[int]) -> None:
    tree, leaves = Tree(), leaves_of(sum(steps))
    for step in steps:
        size = tree.frontier.size
        tree.extend(leaves[size : size + step])
        assert tree.frontier.root == root_of(leaves[: size + step])
    assert Frontier.decode(len(leaves), tree.frontier.encoded) == tree.frontier
    full = {node: value for node, value in tree.hashes.items() if node[0] == 1}
    assert full == {
        (1, i): root_of(leaves[256 * i : 256 * i + 256]) for i in range(len(leaves) // 256)
    }


@given(size=st.integers(1, MANY), data=st.data())
def test_an_oracle_accepts_every_proof(large: Tree, size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    (root,) = tree_of(size).hashes(large.hash_of)
    leaf = large.hash_of(0, index)
    hashes = inclusion_proof(index, size).hashes(large.hash_of)
    InclusionProof(index, size, hashes).check(leaf, root)


def test_the_root_from_tiles_is_that_of_the_frontier(large: Tree) -> None:
    assert tree_of(MANY).hashes(large.hash_of) == [large.frontier.root]
    assert tree_of(0).hashes(large.hash_of) == []


def test_a_proof_needs_only_hashes_of_tiles_of_its_tree() -> None:
    size = 66_000
    for index in (0, 255, 256, 65_535, 65_536, size - 1):
        for level, place in inclusion_proof(index, size).nodes:
            assert (place + 1) << (8 * level) <= size


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_there_is_no_proof_for_a_leaf_that_the_tree_lacks(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        inclusion_proof(index, size)


def test_a_frontier_of_another_size_is_refused() -> None:
    frontier, _ = Frontier().extended(leaves_of(5))
    with pytest.raises(ValueError, match="are not the hashes of a tree"):
        Frontier.decode(7, frontier.encoded)
