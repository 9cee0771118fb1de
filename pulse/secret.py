"""Values that must not be shown, and cannot be by accident."""

import msgspec


class Secret:
    """A text that neither prints nor logs itself; two with the same text are equal."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text, for the one place that needs it."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret(***)"


class ServiceToken(msgspec.Struct, frozen=True):
    """One of a service's tokens; a service has several while they are being changed."""

    name: str
    token: Secret
