"""The database roles: the owner, the runtime that Pulse's processes use, and the reader.

`RoleSetup` compares what a database has with what it should have, and executes the statements for
the difference: all of them, or none if this role may not execute one of them.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, LiteralString

import msgspec
import structlog
from psycopg import sql

from pulse.errors import PulseError
from pulse.postgres.grants import Grant, Privilege, privileges
from pulse.postgres.limits import PostgresLimits
from pulse.postgres.session import Connection, Connector
from pulse.postgres.sql import fetch, load_sql

_log = structlog.get_logger(__name__)

_PUBLIC: Final = ""
_MAX_NAME_BYTES: Final = 63
_ROLE_LOCK: Final = 0x50554C53_4500000A
_LOCK: Final = load_sql(__package__, "lock_roles")
_CREATE_PULSE_ROLES: Final = load_sql(__package__, "create_pulse_roles")
_STORE_ROLES: Final = load_sql(__package__, "store_roles")
_SELECT_STORED_ROLES: Final = load_sql(__package__, "select_stored_roles")
_SELECT_FACTS: Final = load_sql(__package__, "select_role_facts")
_SELECT_ROLES: Final = load_sql(__package__, "select_roles")
_SELECT_MEMBERSHIPS: Final = load_sql(__package__, "select_memberships")
_SELECT_CONTAINER_GRANTS: Final = load_sql(__package__, "select_container_grants")
_SELECT_OBJECT_GRANTS: Final = load_sql(__package__, "select_object_grants")
_SELECT_MISSING_RIGHTS: Final = load_sql(__package__, "select_missing_rights")
_HAS_COLUMNS: Final = load_sql(__package__, "has_columns")
_DATABASE_OWNER: Final = "pg_database_owner"
_POSTGRES_16: Final = 160_000


class RolesRefused(PulseError):
    """The roles cannot be set up with these names and rights; the message says what to change."""


class StatementsNeeded(RolesRefused):
    """This role may not execute some of the statements. Nothing was changed."""

    def __init__(self, role: str, statements: Sequence[str]) -> None:
        self.statements = tuple(statements)
        super().__init__(
            f"role {role} may not execute all statements that set up the roles, and nothing was "
            "changed: let a superuser execute these, then run `pulse migrate --roles` again"
        )


class RoleNames(msgspec.Struct, frozen=True):
    """The names of the three roles of a database."""

    owner: str = "pulse_owner"
    runtime: str = "pulse_runtime"
    reader: str = "pulse_reader"

    def check(self) -> None:
        """Check that Postgres accepts them as names of three roles.

        Raises:
            RolesRefused: the message has the name that is not accepted.
        """
        names = msgspec.structs.astuple(self)
        for name in names:
            fits = 0 < len(name.encode()) <= _MAX_NAME_BYTES and name.isprintable()
            if not fits or name in {"public", "none"} or name.startswith("pg_"):
                raise RolesRefused(
                    f"{name!r} cannot be the name of a role: use 1 to {_MAX_NAME_BYTES} bytes of "
                    "printable characters, not public, not none, not beginning with pg_"
                )
        if len(set(names)) != len(names):
            raise RolesRefused("owner, runtime and reader must be three different roles")


class _Facts(msgspec.Struct, frozen=True):
    """What the current role may do about roles in this database."""

    role: str
    is_superuser: bool
    may_create_roles: bool
    owns_database: bool
    owns_schema: bool
    database: str
    server_version: int


class _Step(msgspec.Struct, frozen=True):
    """A statement, and whether the current role may execute it."""

    statement: sql.Composed
    permitted: bool


class _Object(msgspec.Struct):
    """An object as the database has it, with the rights on it by role."""

    schema: str
    name: str
    owner: str
    is_own: bool
    rights: dict[str, set[Privilege]]


async def read_role_names(connection: Connection) -> RoleNames | None:
    """The roles that were set up in this database; None if there are none."""
    ((exists,),) = await fetch(connection, _HAS_COLUMNS, (["pulse_roles.owner"],))
    if not exists:
        return None
    rows = await fetch(connection, _SELECT_STORED_ROLES, prepare=False)
    return RoleNames(*rows[0]) if rows else None


async def read_missing_rights(connection: Connection, grants: Sequence[Grant]) -> list[str]:
    """The rights of the runtime that the current role does not have, as GRANT takes them."""
    wanted = [
        (grant.kind, grant.name, privilege, column)
        for grant in grants
        for privilege, column in privileges(grant.runtime)
    ]
    kinds, names, needed, columns = (list(part) for part in zip(*wanted, strict=True))
    parameters = {"kinds": kinds, "names": names, "privileges": needed, "columns": columns}
    return [row[0] for row in await fetch(connection, _SELECT_MISSING_RIGHTS, parameters)]


async def create_login_roles(conninfo: str, limits: PostgresLimits, names: RoleNames) -> None:
    """Create those of the roles that are missing, with LOGIN. Concurrent calls are safe.

    Raises:
        psycopg.Error: Postgres cannot be reached, or this role may not create roles.
        SessionUnfit: this server, database or session does not meet Pulse's requirements.
    """
    async with await Connector(conninfo, limits).connect("roles") as connection:
        missing = await _missing(connection, names)
        if not missing:
            return
        async with connection.transaction():
            await connection.execute(_LOCK, (_ROLE_LOCK,))
            for name in await _missing(connection, names):
                await connection.execute(_create_role(name, login=True))


class RoleSetup:
    """The roles of one database with their rights on these objects.

    The `search_path` must be the schema of Pulse's tables. Call `run` and `grant` in a transaction.
    """

    def __init__(self, names: RoleNames, grants: Sequence[Grant]) -> None:
        names.check()
        self.names = names
        self._grants = tuple(grants)

    async def is_complete(self, connection: Connection, schema: str) -> bool:
        """Whether there is nothing to set up.

        Raises:
            RolesRefused: a role has attributes or memberships that go beyond its rights.
        """
        if await read_role_names(connection) != self.names:
            return False
        return not await self._steps(connection, schema)

    async def require_permitted(self, connection: Connection, schema: str) -> list[_Step]:
        """The steps of `run` for the objects that exist now; changes nothing.

        Raises:
            RolesRefused: as `run` does.
            StatementsNeeded: as `run` does.
        """
        facts = await _facts(connection, schema)
        steps = await self._steps(connection, schema, await read_role_names(connection))
        if refused := [
            step.statement.as_string(connection) for step in steps if not step.permitted
        ]:
            raise StatementsNeeded(facts.role, refused)
        return steps

    async def run(self, connection: Connection, schema: str) -> int:
        """Create the roles and set their rights; returns the number of statements executed.

        Storing the names, with the rights on their table, counts as one statement. Former owners of
        the objects become members of the owner, so that they keep their rights.

        Raises:
            RolesRefused: a role has attributes or memberships that go beyond its rights, or this
                role does not own the objects.
            StatementsNeeded: this role may not execute some of the statements.
        """
        former = await read_role_names(connection)
        steps = await self.require_permitted(connection, schema)
        for step in steps:
            await connection.execute(step.statement)
        if former != self.names:
            await connection.execute(_CREATE_PULSE_ROLES)
            await connection.execute(_STORE_ROLES, msgspec.structs.astuple(self.names))
            await self.grant(connection, schema)
        await self._refuse_excess(connection)
        return len(steps) + (former != self.names)

    async def grant(self, connection: Connection, schema: str) -> None:
        """Set the owner of each object and the rights on it, for existing roles.

        Without these roles, as after a restore on another server, logs a warning and changes
        nothing.

        Raises:
            RolesRefused: this role does not own the objects.
        """
        if missing := await _missing(connection, self.names):
            remedy = "run `pulse migrate --roles` with the owner's URL"
            _log.warning("roles.missing", roles=missing, remedy=remedy)
            return
        facts = await _facts(connection, schema)
        for step in await self._object_steps(connection, facts, None):
            await connection.execute(step.statement)

    async def statements(self, connection: Connection, schema: str) -> list[str]:
        """PL/pgSQL that sets owner and rights of those objects that exist when it is executed.

        It covers only objects that lack them now, or do not exist yet. Empty if the roles do not
        exist. Reads only.
        """
        if await _missing(connection, self.names):
            return []
        roles = {_PUBLIC, self.names.runtime, self.names.reader}
        found = await self._objects(connection, roles - {_PUBLIC})
        parts = []
        for grant in self._grants:
            one = found.get(grant.name) or _new_object(grant, schema)
            changes = [
                f"{change.as_string(connection)};"
                for change in _changes(grant, one, self.names, roles)
            ]
            if changes:
                parts += [_if_exists(grant, one).as_string(connection), *changes, "END IF;"]
        return parts

    async def _steps(
        self, connection: Connection, schema: str, former: RoleNames | None = None
    ) -> list[_Step]:
        facts = await _facts(connection, schema)
        await self._refuse_excess(connection)
        missing = await _missing(connection, self.names)
        may_create = facts.is_superuser or facts.may_create_roles
        return [
            *(_Step(_create_role(name), may_create) for name in missing),
            *await self._membership_steps(connection, facts, missing),
            *await self._container_steps(connection, facts, schema),
            *await self._object_steps(connection, facts, former),
        ]

    async def _refuse_excess(self, connection: Connection) -> None:
        """Refuse roles whose attributes or memberships go beyond the rights that they should have.

        Raises:
            RolesRefused: the message names the role and the statement that corrects it.
        """
        names = self.names
        limited = (names.runtime, names.reader)
        for name, attributes in await fetch(connection, _SELECT_ROLES, (list(limited),)):
            if attributes:
                role = sql.Identifier(name).as_string(connection)
                remedy = " ".join(f"NO{attribute}" for attribute in attributes)
                raise RolesRefused(
                    f"role {name} has more rights than Pulse would give it "
                    f"({', '.join(attributes)}): ALTER ROLE {role} {remedy}, or choose another role"
                )
        forbidden = (
            (names.owner, limited),
            (names.runtime, (names.reader,)),
            *((role, limited) for role in ("pg_write_all_data", _DATABASE_OWNER)),
        )
        for group, members in forbidden:
            rows = await fetch(connection, _SELECT_MEMBERSHIPS, (list(members), group))
            for name, is_member, _, _ in rows:
                if is_member:
                    why = f"is a member of {group}: revoke that membership, or"
                    if group == _DATABASE_OWNER:
                        why = "owns the database: change the owner of the database, or"
                    raise RolesRefused(
                        f"role {name} has more rights than Pulse would give it, since it {why} "
                        "choose another role"
                    )

    async def _membership_steps(
        self, connection: Connection, facts: _Facts, missing: Sequence[str]
    ) -> list[_Step]:
        """Steps that make the current role and the former owners members of the owner."""
        owner, *limited = msgspec.structs.astuple(self.names)
        if facts.role in limited and not facts.is_superuser:
            raise RolesRefused(
                f"role {facts.role} cannot set up the roles and be the runtime or the reader: run "
                "this with the URL of the tables' owner or of a superuser"
            )
        owners = {found.owner for found in (await self._objects(connection, ())).values()}
        members = sorted((owners | {facts.role}) - set(limited))
        roles = await fetch(connection, _SELECT_ROLES, (members,))
        members = [name for name, attributes in roles if "SUPERUSER" not in attributes]
        held = {
            name: (complete, may_grant)
            for name, _, complete, may_grant in await fetch(
                connection, _SELECT_MEMBERSHIPS, (list({*members, facts.role}), owner)
            )
        }
        if owner in missing or facts.server_version < _POSTGRES_16:
            permitted = facts.may_create_roles
        else:
            permitted = held[facts.role][1]
        return [
            _Step(
                sql.SQL("GRANT {} TO {}").format(sql.Identifier(owner), sql.Identifier(name)),
                facts.is_superuser or permitted,
            )
            for name in members
            if name != owner and not held.get(name, (False, False))[0]
        ]

    async def _container_steps(
        self, connection: Connection, facts: _Facts, schema: str
    ) -> list[_Step]:
        """Steps that set the rights on the schema and the database."""
        owner, *limited = msgspec.structs.astuple(self.names)
        containers = (
            ("SCHEMA", schema, "USAGE", "CREATE", facts.owns_schema),
            ("DATABASE", facts.database, "CONNECT", "TEMPORARY", facts.owns_database),
        )
        parameters = {"schema": schema, "roles": [owner, *limited]}
        rows = await fetch(connection, _SELECT_CONTAINER_GRANTS, parameters)
        held: dict[tuple[str, str], set[str]] = defaultdict(set)
        for container, role, privilege in rows:
            held[container, role].add(privilege)
        steps = []
        for kind, name, access, change, is_own in containers:
            on = sql.SQL("{} {}").format(sql.SQL(kind), sql.Identifier(name))
            granted = {owner: {access, change}, **{role: {access} for role in limited}}
            lacking = {role: rights - held[kind, role] for role, rights in granted.items()}
            excess = {role: held[kind, role] - {access} for role in (_PUBLIC, *limited)}
            changes = [
                *_each_role("GRANT {} ON {} TO {}", on, lacking),
                *_each_role("REVOKE {} ON {} FROM {}", on, excess),
            ]
            steps += [_Step(statement, permitted=is_own) for statement in changes]
        return steps

    async def _object_steps(
        self, connection: Connection, facts: _Facts, former: RoleNames | None
    ) -> list[_Step]:
        """Steps that set the owner of each object and the rights on it.

        Raises:
            RolesRefused: this role does not own an object that has to change.
        """
        names = self.names
        outdated = {former.runtime, former.reader} if former is not None else set()
        roles = {_PUBLIC, names.runtime, names.reader} | (outdated - {names.owner})
        found = await self._objects(connection, roles - {_PUBLIC})
        steps = []
        for grant in self._grants:
            if grant.name not in found:
                continue
            one, change = found[grant.name], list(_changes(grant, found[grant.name], names, roles))
            if change and not (one.is_own or facts.is_superuser):
                raise RolesRefused(
                    f"role {facts.role} does not own {one.name}, whose owner is {one.owner}: "
                    f"run this with the URL of {one.owner} or of a superuser"
                )
            steps += [_Step(statement, permitted=True) for statement in change]
        return steps

    async def _objects(self, connection: Connection, roles: Iterable[str]) -> Mapping[str, _Object]:
        parameters = {
            "kinds": [grant.kind for grant in self._grants],
            "names": [grant.name for grant in self._grants],
            "roles": list(roles),
        }
        objects: dict[str, _Object] = {}
        rows = await fetch(connection, _SELECT_OBJECT_GRANTS, parameters, prepare=False)
        for key, schema, name, owner, is_own, role, privilege, column in rows:
            one = objects.setdefault(
                key, _Object(schema, name, owner, is_own, rights=defaultdict(set))
            )
            if privilege is not None:
                one.rights[role].add((privilege, column))
        return objects


def _new_object(grant: Grant, schema: str) -> _Object:
    """An object that a migration will create, with rights of PUBLIC that the setup removes."""
    name = grant.name.partition("(")[0]
    if grant.kind == "SEQUENCE":
        name = f"{name.replace('.', '_')}_seq"  # as Postgres names that of a column
    return _Object(
        schema, name, owner="", is_own=True, rights=defaultdict(set, {_PUBLIC: {("ALL", "")}})
    )


def _changes(
    grant: Grant, found: _Object, names: RoleNames, roles: Iterable[str]
) -> Iterator[sql.Composed]:
    """The statements that give the object its owner and these roles their rights."""
    kind = sql.SQL("TABLE" if grant.kind == "VIEW" else grant.kind)
    on = kind + sql.SQL(" ") + _name(grant, found)
    if found.owner != names.owner and grant.kind != "SEQUENCE":  # it has its table's owner
        yield sql.SQL("ALTER {} OWNER TO {}").format(on, sql.Identifier(names.owner))
    rights = {names.runtime: grant.runtime, names.reader: grant.reader}
    for role in sorted(roles):
        expected = rights.get(role, ())
        if found.rights[role] == set(privileges(expected)):
            continue
        grantee = _role(role)
        if found.rights[role]:
            yield sql.SQL("REVOKE ALL ON {} FROM {}").format(on, grantee)
        if expected:
            yield sql.SQL("GRANT {} ON {} TO {}").format(_listed(expected), on, grantee)


def _if_exists(grant: Grant, found: _Object) -> sql.Composed:
    """The beginning of a PL/pgSQL block for this object."""
    find = "to_regprocedure" if grant.kind == "FUNCTION" else "to_regclass"
    name = sql.Literal(_name(grant, found).as_string())
    return sql.SQL("IF pg_catalog.{}({}) IS NOT NULL THEN").format(sql.SQL(find), name)


def _name(grant: Grant, found: _Object) -> sql.Composed:
    """The object as SQL names it, a function with the types of its arguments."""
    arguments = grant.name[grant.name.index("(") :] if grant.kind == "FUNCTION" else ""
    return sql.Composed([sql.Identifier(found.schema, found.name), sql.SQL(arguments)])


def _each_role(
    statement: LiteralString, on: sql.Composed, rights: Mapping[str, set[str]]
) -> Iterator[sql.Composed]:
    """The statement for each role, unless there are no rights to name in it."""
    for role, named in rights.items():
        if named:
            yield sql.SQL(statement).format(_listed(sorted(named)), on, _role(role))


def _listed(rights: Iterable[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.SQL, rights))


def _role(name: str) -> sql.Composable:
    return sql.Identifier(name) if name != _PUBLIC else sql.SQL("PUBLIC")


def _create_role(name: str, *, login: bool = False) -> sql.Composed:
    attribute = sql.SQL("LOGIN" if login else "NOLOGIN")
    return sql.SQL("CREATE ROLE {} {}").format(sql.Identifier(name), attribute)


async def _missing(connection: Connection, names: RoleNames) -> list[str]:
    wanted = msgspec.structs.astuple(names)
    found = {row[0] for row in await fetch(connection, _SELECT_ROLES, (list(wanted),))}
    return [name for name in wanted if name not in found]


async def _facts(connection: Connection, schema: str) -> _Facts:
    ((*facts,),) = await fetch(connection, _SELECT_FACTS, (schema,))
    return _Facts(*facts)
