"""Callers: who placed an order, and who owns its key."""

import re
from typing import Final
from urllib.parse import quote, unquote
from uuid import UUID

import msgspec

from pulse.domain import INTERNAL_SCOPE, order_id_for
from pulse.errors import PulseError

MAX_PART_CHARACTERS: Final = 255
MAX_NAME_CHARACTERS: Final = 2 * 12 * MAX_PART_CHARACTERS + 1
"""The maximum length of a caller's name, in which a character can be four percent-encoded bytes."""
_SEPARATOR: Final = "|"
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNENCODED: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in "%|")


class CallerUnnamable(PulseError):
    """This issuer and subject, or this name, do not identify a caller."""


class Caller(msgspec.Struct, frozen=True):
    """A caller: orders record its `placed_by`, and its keys belong to its `key_scope`."""

    placed_by: str = "anonymous"
    key_scope: str = INTERNAL_SCOPE

    @classmethod
    def of_token(cls, issuer: str, subject: str) -> "Caller":
        """The caller with this subject at this issuer, named `<issuer>|<subject>`.

        Both are percent-encoded: `%`, `|` and everything but visible ASCII. So different pairs have
        different names, and no name equals the scope of the internal API.

        Raises:
            CallerUnnamable: either is empty, longer than 255 characters, or has a control
                character or a lone surrogate.
        """
        name = f"{_encoded(issuer)}{_SEPARATOR}{_encoded(subject)}"
        return cls(placed_by=name, key_scope=name)

    @classmethod
    def named(cls, name: str) -> "Caller":
        """The caller with this name, which must be encoded exactly as `of_token` does.

        Raises:
            CallerUnnamable: it is not.
        """
        issuer, _, subject = name.partition(_SEPARATOR)
        caller = cls.of_token(unquote(issuer), unquote(subject))
        if caller.key_scope != name:
            raise CallerUnnamable("the name is not a percent-encoded <issuer>|<subject>")
        return caller

    @property
    def is_internal(self) -> bool:
        """Whether this is a caller of the internal API, which is one trust domain."""
        return self.key_scope == INTERNAL_SCOPE

    def may_read(self, order_id: UUID, order_unique_key: str) -> bool:
        """Whether this caller may read the order: its id shows which scope its key belongs to."""
        return self.is_internal or order_id_for(self.key_scope, order_unique_key) == order_id


def _encoded(part: str) -> str:
    if not 1 <= len(part) <= MAX_PART_CHARACTERS:
        raise CallerUnnamable(f"issuer and subject must have 1 to {MAX_PART_CHARACTERS} characters")
    if _CONTROLS.search(part):
        raise CallerUnnamable("issuer and subject must not have control characters")
    return quote(part, safe=_UNENCODED)
