"""Callers: the author of an order and the owner of its key."""

import re
from typing import Final
from urllib.parse import quote, unquote
from uuid import UUID

import msgspec

from pulse.domain import INTERNAL_SCOPE, order_id_for
from pulse.errors import PulseError

MAX_PART_CHARACTERS: Final = 255
_SEPARATOR: Final = "|"
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNENCODED: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in "%|")


class CallerUnnamable(PulseError):
    """An issuer and a subject, or a name made of the two, identify no caller."""


class Caller(msgspec.Struct, frozen=True):
    """A caller: `placed_by` goes into the order, keys belong to the `key_scope`."""

    placed_by: str = "anonymous"
    key_scope: str = INTERNAL_SCOPE

    @classmethod
    def of_token(cls, issuer: str, subject: str) -> "Caller":
        """The caller that an issuer knows as this subject, named `<issuer>|<subject>`.

        In each of the two `%`, `|` and all but visible ASCII are percent-encoded, so no two pairs
        have one name, and no name is the internal API's scope.

        Raises:
            CallerUnnamable: either is empty, longer than 255 characters, or has a control
                character or half a character.
        """
        name = f"{_encoded(issuer)}{_SEPARATOR}{_encoded(subject)}"
        return cls(placed_by=name, key_scope=name)

    @classmethod
    def named(cls, name: str) -> "Caller":
        """The caller of a name as `of_token` makes it; no other spelling of it is accepted.

        Raises:
            CallerUnnamable: it is no such name.
        """
        issuer, _, subject = name.partition(_SEPARATOR)
        caller = cls.of_token(unquote(issuer), unquote(subject))
        if caller.key_scope != name:
            raise CallerUnnamable("is not encoded as <issuer>|<subject> must be")
        return caller

    @property
    def is_internal(self) -> bool:
        """Whether keys are those of the internal API, which is one trust domain."""
        return self.key_scope == INTERNAL_SCOPE

    def may_read(self, order_id: UUID, order_unique_key: str) -> bool:
        """Whether this order is the caller's own: its id proves the scope of its key."""
        return self.is_internal or order_id_for(self.key_scope, order_unique_key) == order_id


def _encoded(part: str) -> str:
    if not 1 <= len(part) <= MAX_PART_CHARACTERS:
        raise CallerUnnamable(f"an issuer or subject has not 1 to {MAX_PART_CHARACTERS} characters")
    if _CONTROLS.search(part):
        raise CallerUnnamable("an issuer or subject has a control character")
    return quote(part, safe=_UNENCODED)
