"""The rights that the runtime role and the reader role have on one object of the database.

Each package declares the objects that it owns in its module `grants`; `pulse.application.grants`
collects them. Once the roles are set up, the owner has every right, PUBLIC has none.
"""

import re
from collections.abc import Iterator
from typing import Final, Literal, LiteralString, TypeAlias

import msgspec

Kind: TypeAlias = Literal["TABLE", "VIEW", "SEQUENCE", "FUNCTION"]
Privilege: TypeAlias = tuple[str, str]
"""A privilege and the column that it is limited to; an empty column for the whole object."""

_RIGHT: Final = re.compile(r"(?P<privilege>[A-Z]+)(?: \((?P<columns>[a-z_, ]+)\))?")


class Grant(msgspec.Struct, frozen=True):
    """The rights of the runtime and the reader, as GRANT takes them: `INSERT (topic, state)`.

    A sequence is named by the column that owns it (`table.column`), a function with the types of
    its arguments.
    """

    kind: Kind
    name: LiteralString
    runtime: tuple[LiteralString, ...] = ()
    reader: tuple[LiteralString, ...] = ()


def privileges(rights: tuple[LiteralString, ...]) -> Iterator[Privilege]:
    """Each privilege of these rights, once for each column that it is limited to."""
    for right in rights:
        found = _RIGHT.fullmatch(right)
        if found is None:
            raise ValueError(f"not a right: {right}")
        for column in (found["columns"] or "").split(","):
            yield found["privilege"], column.strip()


GRANTS: Final = (
    Grant("TABLE", "pulse_schema", runtime=("SELECT",), reader=("SELECT",)),
    Grant("TABLE", "pulse_roles", runtime=("SELECT",), reader=("SELECT",)),
)
