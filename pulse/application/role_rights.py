"""The rights of the database role that this process uses, compared with those of the runtime."""

from typing import Final

import msgspec

from pulse.application.grants import GRANTS
from pulse.eventstore import read_rights_beyond_append
from pulse.postgres import Connection
from pulse.postgres.roles import read_missing_rights

_MAX_NAMED: Final = 5


class RoleRights(msgspec.Struct, frozen=True):
    """The rights of the runtime that the role lacks, and why the role could change the log."""

    role: str
    missing: tuple[str, ...]
    beyond_append: tuple[str, ...]

    @property
    def missing_text(self) -> str | None:
        """Which rights are missing and how to grant them; None if there are none."""
        if not self.missing:
            return None
        named = ", ".join(self.missing[:_MAX_NAMED])
        more = len(self.missing) - _MAX_NAMED
        return (
            f"role {self.role} lacks rights that Pulse's processes need: {named}"
            f"{f' and {more} more' if more > 0 else ''}. With the URL of the tables' owner run "
            "`pulse migrate --roles`, and make the role a member of the runtime role "
            "(GRANT pulse_runtime TO …)"
        )


async def read_role_rights(connection: Connection) -> RoleRights:
    """The rights of the connection's role."""
    return RoleRights(
        role=connection.info.user,
        missing=tuple(await read_missing_rights(connection, GRANTS)),
        beyond_append=tuple(await read_rights_beyond_append(connection)),
    )
