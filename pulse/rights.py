"""The rights of a service token: what its service may do at the internal API."""

from typing import Final, Literal, get_args

import msgspec

Right = Literal["read", "write", "halt"]
"""`read`: read and preview. `write`: place and cancel orders. `halt`: set and lift halts."""

Rights = frozenset[Right]

RIGHTS: Final[tuple[Right, ...]] = get_args(Right)
ALL_RIGHTS: Final[Rights] = frozenset(RIGHTS)
DEFAULT_RIGHTS: Final[Rights] = frozenset({"read", "write"})
"""The rights of a service that PULSE_SERVICE_RIGHTS does not name."""

GATEWAY_NAME: Final = "gateway"
"""The service that makes calls on behalf of callers. It must name the caller in each call."""

GATEWAY_RIGHTS: Final[Rights] = DEFAULT_RIGHTS
"""The rights that the gateway needs for the orders of its callers."""


class ServiceRights(msgspec.Struct, frozen=True):
    """The rights of one service. `str` gives its pair in PULSE_SERVICE_RIGHTS."""

    name: str
    rights: Rights

    def __str__(self) -> str:
        return f"{self.name}={joined(self.rights)}"


def joined(rights: Rights) -> str:
    """The rights in the form of the setting: `read+write`."""
    return "+".join(right for right in RIGHTS if right in rights)
