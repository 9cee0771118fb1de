"""Signed notes and checkpoints as specified by C2SP (signed-note, tlog-checkpoint), with Ed25519.

No library for these formats is maintained well enough to depend on it (docs/decisions/0030).
"""

import base64
import binascii
import re
from hashlib import sha256
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pulse.errors import PulseError
from pulse.evidence.merkle import HASH_BYTES

MAX_NOTE_BYTES: Final = 1_000_000
MAX_ORIGIN_CHARACTERS: Final = 200

_ED25519: Final = b"\x01"
_KEY_ID_BYTES: Final = 4
_KEY_BYTES: Final = 32
_PRIVATE: Final = "PRIVATE+KEY"
_ORIGIN: Final = re.compile(r"[!-*,-~]+")
"""Visible ASCII without plus: narrower than the specification, which allows more of Unicode."""
_SIGNATURE_LINE: Final = re.compile(r"— (\S+) (\S+)")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_CHECKPOINT_LINES: Final = 3


class NoteInvalid(PulseError):
    """A note, a checkpoint or a key is malformed, or a signature is wrong."""


def require_origin(origin: str) -> str:
    """Return the origin if it can name a key and a log.

    Raises:
        NoteInvalid: it is empty or too long, or has white space, `+` or a character beyond ASCII.
    """
    if len(origin) > MAX_ORIGIN_CHARACTERS or not _ORIGIN.fullmatch(origin):
        raise NoteInvalid(
            "an origin is the log's URL without its scheme, such as pulse.example.com/log: "
            f"visible ASCII characters without +, at most {MAX_ORIGIN_CHARACTERS}"
        )
    return origin


class VerifierKey(msgspec.Struct, frozen=True):
    """A public key with its name, which is the origin of a log."""

    name: str
    public: bytes

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """The key of its text form, `name+key id+key`.

        Raises:
            NoteInvalid: the text is not an Ed25519 verifier key.
        """
        name, key_id, encoded = _parts(text.strip(), "verifier key")
        decoded = _base64(encoded)
        key = cls(require_origin(name), decoded[1:])
        if decoded[:1] != _ED25519 or len(key.public) != _KEY_BYTES or key.key_id.hex() != key_id:
            raise NoteInvalid("not an Ed25519 verifier key")
        return key

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{_text(_ED25519 + self.public)}"

    @property
    def key_id(self) -> bytes:
        """Four bytes that identify the key among those of its name."""
        named = self.name.encode() + b"\n" + _ED25519 + self.public
        return sha256(named).digest()[:_KEY_ID_BYTES]

    def signed(self, note: bytes | str) -> str:
        """The text of a note that this key signed. Signatures of other keys are ignored.

        Raises:
            NoteInvalid: the note is malformed, this key did not sign it, or a signature in the name
                of this key is wrong.
        """
        text, signatures = split_note(note)
        mine = [
            signature[_KEY_ID_BYTES:]
            for name, signature in signatures
            if name == self.name and signature[:_KEY_ID_BYTES] == self.key_id
        ]
        if not mine:
            raise NoteInvalid(f"the note has no signature of the key {self.name}")
        public = Ed25519PublicKey.from_public_bytes(self.public)
        for signature in mine:
            try:
                public.verify(signature, text.encode())
            except InvalidSignature:
                raise NoteInvalid(f"a signature of the key {self.name} is wrong") from None
        return text


class SigningKey:
    """A private key with its name, which is the origin of a log."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = VerifierKey(require_origin(name), self._public_bytes())

    def __repr__(self) -> str:
        return f"SigningKey({self.verifier})"

    @classmethod
    def generate(cls, name: str) -> "SigningKey":
        """A new random key."""
        return cls(name, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def parse(cls, text: str) -> "SigningKey":
        """The key of its text form, which Go's note package uses too.

        Raises:
            NoteInvalid: the text is not an Ed25519 signing key. The message does not repeat it.
        """
        stripped = text.strip()
        if not stripped.startswith(f"{_PRIVATE}+"):
            raise NoteInvalid("not a signing key")
        name, key_id, encoded = _parts(stripped.removeprefix(f"{_PRIVATE}+"), "signing key")
        decoded = _base64(encoded)
        if decoded[:1] != _ED25519 or len(decoded) != 1 + _KEY_BYTES:
            raise NoteInvalid("not an Ed25519 signing key")
        key = cls(name, decoded[1:])
        if key.verifier.key_id.hex() != key_id:
            raise NoteInvalid("not an Ed25519 signing key")
        return key

    def named(self, name: str) -> "SigningKey":
        """The same key under another name.

        Raises:
            NoteInvalid: the name cannot be an origin.
        """
        return SigningKey(name, self._private.private_bytes_raw())

    @property
    def text(self) -> str:
        """The secret text form: the content of a key file."""
        seed = self._private.private_bytes_raw()
        key_id = self.verifier.key_id.hex()
        return f"{_PRIVATE}+{self.verifier.name}+{key_id}+{_text(_ED25519 + seed)}"

    def signature_line(self, text: str) -> str:
        """The line that signs this text in a note."""
        signature = self.verifier.key_id + self._private.sign(text.encode())
        return f"— {self.verifier.name} {_text(signature)}\n"

    def _public_bytes(self) -> bytes:
        return self._private.public_key().public_bytes_raw()


class Checkpoint(msgspec.Struct, frozen=True):
    """The size and root of a log's tree. `extensions` are further lines of the note's text."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """The checkpoint of a note's text.

        Raises:
            NoteInvalid: the text is not that of a checkpoint.
        """
        lines = text.split("\n")
        if len(lines) <= _CHECKPOINT_LINES or lines.pop():
            raise NoteInvalid("not a checkpoint: expected lines with origin, size and root")
        origin, size, root, *extensions = lines
        if not origin or not _SIZE.fullmatch(size) or "" in extensions:
            raise NoteInvalid("not a checkpoint: expected lines with origin, size and root")
        decoded = _base64(root)
        if len(decoded) != HASH_BYTES:
            raise NoteInvalid("not a checkpoint: the root is not a SHA-256 hash")
        return cls(origin, int(size), decoded, tuple(extensions))

    @property
    def text(self) -> str:
        """The text to sign."""
        lines = (self.origin, str(self.size), _text(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines)

    def signed_by(self, *keys: SigningKey) -> str:
        """The checkpoint as a note, signed by these keys."""
        text = self.text
        return f"{text}\n{''.join(key.signature_line(text) for key in keys)}"


def open_checkpoint(note: bytes | str, key: VerifierKey) -> Checkpoint:
    """The checkpoint of a note that this key signed for its own log.

    Raises:
        NoteInvalid: the note or its signature is wrong, or the checkpoint is of another log.
    """
    checkpoint = Checkpoint.parse(key.signed(note))
    if checkpoint.origin != key.name:
        raise NoteInvalid(f"the checkpoint is of {checkpoint.origin}, not of {key.name}")
    return checkpoint


def split_note(note: bytes | str) -> tuple[str, list[tuple[str, bytes]]]:
    """A note's text, and each signature with the name of its key. Nothing is verified.

    Raises:
        NoteInvalid: the note is malformed.
    """
    raw = note if isinstance(note, bytes) else note.encode()
    try:
        whole = raw.decode()
    except UnicodeDecodeError:
        raise NoteInvalid("a note is UTF-8 text") from None
    text, separator, lines = whole.rpartition("\n\n")
    if len(raw) > MAX_NOTE_BYTES or not separator or not lines.endswith("\n"):
        raise NoteInvalid("a note has a text, an empty line, and signature lines")
    if any(character < " " and character != "\n" for character in whole):
        raise NoteInvalid("a note has no control characters")
    signatures = []
    for line in lines[:-1].split("\n"):
        found = _SIGNATURE_LINE.fullmatch(line)
        if found is None or len(signature := _base64(found[2])) <= _KEY_ID_BYTES:
            raise NoteInvalid("a signature line of the note is malformed")
        signatures.append((found[1], signature))
    return f"{text}\n", signatures


def _parts(text: str, what: str) -> tuple[str, str, str]:
    """The name, the key id and the encoded key, which may contain a plus."""
    parts = text.split("+", 2)
    if len(parts) != 3:  # noqa: PLR2004 - three parts
        raise NoteInvalid(f"not a {what}")
    return parts[0], parts[1], parts[2]


def _base64(text: str) -> bytes:
    """Decode base64; only the canonical encoding is accepted."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteInvalid("not base64") from None
    if _text(decoded) != text:
        raise NoteInvalid("not base64")
    return decoded


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()
