"""Values that must not be printed or logged by accident."""

import msgspec


class Secret:
    """A string whose `repr` hides it. Secrets with the same text are equal."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "Secret(***)"


class ServiceToken(msgspec.Struct, frozen=True):
    """A service token and the name of its service. A service may have several tokens."""

    name: str
    token: Secret
