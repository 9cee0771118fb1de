"""A caller's name: one for each pair of issuer and subject, and no other spelling."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pulse.application.callers import Caller, CallerUnnamable
from pulse.domain import INTERNAL_SCOPE, order_id_for

TEXT = st.text(
    st.one_of(st.sampled_from("|%a7C2 5é"), st.characters(exclude_categories=["Cc", "Cs"])),
    min_size=1,
    max_size=40,
)


@example("a|", "b", "a%7C", "b")
@example("a", "|b", "a|", "b")
@example("a", "b|c", "a|b", "c")
@given(TEXT, TEXT, TEXT, TEXT)
def test_two_pairs_have_two_names(issuer: str, subject: str, other: str, another: str) -> None:
    one, two = Caller.of_token(issuer, subject), Caller.of_token(other, another)
    assert (one == two) is ((issuer, subject) == (other, another))


@given(TEXT, TEXT)
def test_a_name_is_fit_for_a_header_and_read_back(issuer: str, subject: str) -> None:
    caller = Caller.of_token(issuer, subject)
    assert caller.placed_by == caller.key_scope
    assert re.fullmatch(r"[!-{}~]+\|[!-{}~]+", caller.key_scope)
    assert Caller.named(caller.key_scope) == caller
    assert caller.key_scope != INTERNAL_SCOPE
    assert not caller.is_internal


@example("a|%62")
@example("%61|b")
@example("a%7c|b")
@given(st.text(max_size=60))
def test_a_name_is_accepted_only_in_its_canonical_spelling(name: str) -> None:
    try:
        caller = Caller.named(name)
    except CallerUnnamable:
        return
    assert caller.key_scope == name


@pytest.mark.parametrize("part", ["", "a\n", "\x7f", "\x85", "\ud800", "a" * 256])
def test_an_issuer_or_subject_that_cannot_be_encoded_is_refused(part: str) -> None:
    for pair in ((part, "a"), ("a", part)):
        with pytest.raises(CallerUnnamable):
            Caller.of_token(*pair)


def test_a_caller_may_read_its_own_orders_and_the_internal_api_every_order() -> None:
    alice, bob = Caller.of_token("i", "alice"), Caller.of_token("i", "bob")
    order_id = order_id_for(alice.key_scope, "key")
    assert alice.may_read(order_id, "key")
    assert not alice.may_read(order_id, "other")
    assert not bob.may_read(order_id, "key")
    assert Caller().may_read(order_id, "key")
    assert not alice.may_read(order_id_for(INTERNAL_SCOPE, "key"), "key")
