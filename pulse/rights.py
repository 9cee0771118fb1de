"""The rights of a service token: what its service may do at the internal API."""

from typing import Final, Literal, get_args

import msgspec

Right = Literal["read", "write", "halt"]
"""`read` is for calls that read, `write` to place and cancel orders, `halt` to halt releases."""

Rights = frozenset[Right]

RIGHTS: Final[tuple[Right, ...]] = get_args(Right)
ALL_RIGHTS: Final[Rights] = frozenset(RIGHTS)
DEFAULT_RIGHTS: Final[Rights] = frozenset({"read", "write"})
"""The rights of a service that PULSE_SERVICE_RIGHTS does not name."""

GATEWAY_NAME: Final = "gateway"
"""The service that calls on behalf of callers. It must name one in each call."""

GATEWAY_RIGHTS: Final[Rights] = DEFAULT_RIGHTS
"""What the gateway needs: it places, reads and cancels the orders of its callers."""


class ServiceRights(msgspec.Struct, frozen=True):
    """The rights of the tokens of one service. Its `str` is its part of PULSE_SERVICE_RIGHTS."""

    name: str
    rights: Rights

    def __str__(self) -> str:
        return f"{self.name}={joined(self.rights)}"


def joined(rights: Rights) -> str:
    """Rights as the setting has them: `read+write`."""
    return "+".join(right for right in RIGHTS if right in rights)
