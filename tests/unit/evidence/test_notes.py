"""Signed notes and checkpoints: golden bytes, those of Go's library, and bad input."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tlog_scales import signing
from tlog_scales.tlog import Checkpoint as OracleCheckpoint

from pulse.evidence.merkle import EMPTY_ROOT
from pulse.evidence.note import (
    Checkpoint,
    NoteInvalid,
    SigningKey,
    VerifierKey,
    open_checkpoint,
    require_origin,
    split_note,
)

GO_KEY = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_VERIFIER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"  # noqa: E501
GO_SIGNATURE = (
    "— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
KEY = SigningKey("pulse.example/log", bytes(range(32)))
NEXT = SigningKey("pulse.example/log", bytes(32))
CHECKPOINT = Checkpoint("pulse.example/log", 0, EMPTY_ROOT)
NOTE = CHECKPOINT.signed_by(KEY)


def test_a_note_has_the_bytes_that_gos_library_signs() -> None:
    key = SigningKey.parse(GO_KEY)
    assert str(key.verifier) == GO_VERIFIER
    assert key.text == GO_KEY
    assert key.signature_line(GO_TEXT) == GO_SIGNATURE
    assert VerifierKey.parse(GO_VERIFIER).signed(f"{GO_TEXT}\n{GO_SIGNATURE}") == GO_TEXT


def test_a_checkpoint_has_golden_bytes() -> None:
    assert str(KEY.verifier) == (
        "pulse.example/log+637025f5+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
    )
    assert NOTE == (
        "pulse.example/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n"
        "— pulse.example/log Y3Al9dt71AAQpIQakokkKrZe+YoWFUHcX69gmXGYGcaCNQfW4nLQ2BFqegjMeb6huJh9"
        "WUAcmkWfA4IvfsAMQSwWYw8=\n"
    )
    text, signatures = split_note(NOTE)
    assert text == "pulse.example/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    assert [name for name, _ in signatures] == ["pulse.example/log"]
    assert open_checkpoint(NOTE, KEY.verifier) == CHECKPOINT
    assert open_checkpoint(NOTE.encode(), KEY.verifier) == CHECKPOINT


def test_an_oracle_verifies_a_checkpoint_and_signs_one() -> None:
    vkey = signing.Vkey.from_string(str(KEY.verifier))
    OracleCheckpoint.from_text(NOTE).verify(vkey)
    signer = signing.PlainEd25519Signer("pulse.example/log", bytes(range(32)))
    signed = OracleCheckpoint.make_signed("pulse.example/log", 0, EMPTY_ROOT, [signer])
    assert signed.serialize() == NOTE


def test_a_note_may_have_signatures_of_other_keys() -> None:
    note = CHECKPOINT.signed_by(NEXT, KEY)
    assert open_checkpoint(note, KEY.verifier) == CHECKPOINT
    assert open_checkpoint(note, NEXT.verifier) == CHECKPOINT


def test_a_wrong_signature_next_to_a_right_one_is_refused() -> None:
    wrong = KEY.signature_line("another text\n")
    with pytest.raises(NoteInvalid, match="wrong"):
        open_checkpoint(NOTE + wrong, KEY.verifier)
    with pytest.raises(NoteInvalid, match="wrong"):
        open_checkpoint(
            f"{CHECKPOINT.text}\n{wrong}{KEY.signature_line(CHECKPOINT.text)}", KEY.verifier
        )


def test_a_checkpoint_of_another_origin_is_refused() -> None:
    foreign = Checkpoint("another.example/log", 0, EMPTY_ROOT).signed_by(KEY)
    with pytest.raises(NoteInvalid, match=r"another\.example"):
        open_checkpoint(foreign, KEY.verifier)


def test_a_note_of_another_key_is_refused() -> None:
    with pytest.raises(NoteInvalid, match="no signature"):
        open_checkpoint(NOTE, NEXT.verifier)


def test_extension_lines_are_kept() -> None:
    rotation = Checkpoint("pulse.example/log", 0, EMPTY_ROOT, ("next-key x",))
    assert open_checkpoint(rotation.signed_by(KEY), KEY.verifier) == rotation


@given(data=st.data())
def test_every_changed_character_is_noticed(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(NOTE) - 1))
    other = data.draw(st.characters().filter(lambda c: c != NOTE[at]))
    changed = NOTE[:at] + other + NOTE[at + 1 :]
    try:
        note: bytes | str = changed.encode()
    except UnicodeEncodeError:
        note = changed.encode(errors="surrogatepass")
    with pytest.raises(NoteInvalid):
        open_checkpoint(note, KEY.verifier)


@given(note=st.text() | st.binary())
def test_no_text_crashes_the_parsers(note: bytes | str) -> None:
    try:
        raw = note if isinstance(note, bytes) else note.encode()
    except UnicodeEncodeError:
        return
    with pytest.raises(NoteInvalid):
        open_checkpoint(raw, KEY.verifier)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pulse.example/log\n0\n",
        "\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "pulse.example/log\n00\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "pulse.example/log\n-1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "pulse.example/log\n0\nAAAA\n",
        "pulse.example/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "pulse.example/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\nx\n",
    ],
)
def test_a_malformed_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteInvalid, match="not"):
        Checkpoint.parse(text)


@pytest.mark.parametrize("origin", ["", "two words", "a+b", "naïve", "a\nb", "x" * 201])
def test_an_origin_that_cannot_name_a_key_is_refused(origin: str) -> None:
    with pytest.raises(NoteInvalid, match="origin"):
        require_origin(origin)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        GO_KEY[:-4],
        GO_KEY.replace("c74f20a3", "c74f20a4"),
        GO_KEY.replace("+AYEK", "+BYEK"),
        GO_VERIFIER,
    ],
)
def test_a_malformed_signing_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(NoteInvalid) as refused:
        SigningKey.parse(text)
    assert "AYEK" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "x+y", GO_VERIFIER[:-4], GO_VERIFIER.replace("c74f", "c74e"), GO_KEY]
)
def test_a_malformed_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(NoteInvalid):
        VerifierKey.parse(text)


def test_a_key_does_not_show_its_secret() -> None:
    secret = KEY.text.rpartition("+")[2]
    assert secret not in repr(KEY)
    assert secret not in str(KEY)
