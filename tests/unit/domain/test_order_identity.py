"""An order's id follows from its key alone, and no two keys share one."""

import hashlib
from uuid import UUID, uuid5

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.domain import INTERNAL_SCOPE, PULSE_NAMESPACE, order_id_for

TRICKY = st.text('",\\[]|:ab\n\x7f\x00é', max_size=6)
"""Texts of characters that could be taken for the boundary between scope and key."""


def test_the_namespace_and_the_internal_scope_never_change() -> None:
    assert str(PULSE_NAMESPACE) == "6f1d2a5e-7c43-5b0e-9a86-2f6c1b7d9e40"
    assert INTERNAL_SCOPE == "internal"


@pytest.mark.parametrize(
    ("scope", "key", "pinned"),
    [
        ("internal", "ouk_abc123xyz", "46f5b2e9-658a-582a-aa31-54b305a74065"),
        ("internal", "a", "dcf8d6ef-9f1c-5bbd-99a3-2ae2e0a161e5"),
        ("", "", "f8db703c-b9f6-58ba-9ded-07848e53d112"),
        ("https://issuer.example|desk-7", "ouk_abc123xyz", "033f4fc0-7bdd-5103-8f57-262edb0b6c2e"),
        ("internal", "Über-Auftrag №7 😀", "a2687078-af41-589a-9f47-613cbae5ca48"),
        ("internal", 'say "no" \\ go', "cb844cc1-4478-5f3e-8f91-038927d7c8aa"),
        ("internal", "x\u2028y", "7331cf08-0ac9-5a1a-8bdf-df1b6e43d5ea"),
        ("internal", "k" * 255, "f060a6dc-e1e2-51a1-b143-53c850513c0e"),
    ],
)
def test_the_id_is_the_pinned_one(scope: str, key: str, pinned: str) -> None:
    assert str(order_id_for(scope, key)) == pinned


@given(st.text(), st.text())
def test_the_id_is_uuid5_over_the_canonical_json_as_msgspec_writes_it(scope: str, key: str) -> None:
    canonical = msgspec.json.encode([scope, key])
    assert order_id_for(scope, key) == uuid5(PULSE_NAMESPACE, canonical.decode())


@given(st.text(), st.text())
def test_the_id_is_a_sha1_that_any_language_can_make(scope: str, key: str) -> None:
    """RFC 9562, 5.5: the first 16 bytes of SHA-1 over namespace and name, six bits overwritten."""
    name = msgspec.json.encode([scope, key])
    digest = bytearray(hashlib.sha1(PULSE_NAMESPACE.bytes + name).digest()[:16])  # noqa: S324 - the standard's hash
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    assert order_id_for(scope, key) == UUID(bytes=bytes(digest))


@given(TRICKY, TRICKY, TRICKY, TRICKY)
def test_different_scopes_and_keys_never_share_an_id(
    scope: str, key: str, other_scope: str, other_key: str
) -> None:
    same = (scope, key) == (other_scope, other_key)
    assert (order_id_for(scope, key) == order_id_for(other_scope, other_key)) == same


@given(TRICKY, st.data())
def test_moving_the_boundary_between_scope_and_key_makes_another_id(
    joined: str, data: st.DataObject
) -> None:
    places = st.integers(0, len(joined))
    first, second = data.draw(places), data.draw(places)
    ids = {order_id_for(joined[:cut], joined[cut:]) for cut in (first, second)}
    assert len(ids) == len({first, second})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", 'b","c'), ('a","b', "c")),
        (("a,b", "c"), ("a", "b,c")),
        (("", "internal"), ("internal", "")),
        (("a\\", '"b'), ('a\\"', "b")),
        (("issuer|a", "b|key"), ("issuer|a|b", "key")),
    ],
)
def test_no_separator_within_a_text_can_pass_for_the_boundary(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    assert order_id_for(*one) != order_id_for(*other)
