"""Where the library's environment says that the log lies."""

from eventsourcing.utils import Environment, strtobool
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pulse.database_url import SCHEMES, checked_url

DATABASE_URL = "PULSE_DATABASE_URL"

_DBNAME = "POSTGRES_DBNAME"
_GET_PASSWORD_TOPIC = "POSTGRES_GET_PASSWORD_TOPIC"  # noqa: S105 - a variable's name
_LIBPQ_NAMES = {
    _DBNAME: "dbname",
    "POSTGRES_HOST": "host",
    "POSTGRES_PORT": "port",
    "POSTGRES_USER": "user",
    "POSTGRES_PASSWORD": "password",
}
_LEAST_POOL, _MOST_POOL, _POOL = 2, 200, 5


def conninfo_of(env: Environment) -> str:
    """The server's address: PULSE_DATABASE_URL, or else POSTGRES_DBNAME with _HOST, _PORT, _USER
    and _PASSWORD, of which those that are unset are libpq's to find.

    As the library has it, a name with the application's before it (ORDERS_POSTGRES_DBNAME) goes
    first.

    Raises:
        OSError: neither is set, or what is set is none.
    """  # noqa: D205 - the variables are the summary
    url = env.get(DATABASE_URL)
    if url:
        try:
            if url.startswith(SCHEMES):
                checked_url(url)
            conninfo_to_dict(url)
        except (ProgrammingError, ValueError):
            raise OSError(f"'{DATABASE_URL}' is neither a Postgres URL nor a conninfo") from None
        return url
    if not env.get(_DBNAME):
        raise OSError(
            f"Postgres database not found in environment with key '{DATABASE_URL}' or '{_DBNAME}'"
        )
    if env.get(_GET_PASSWORD_TOPIC):
        raise OSError(f"'{_GET_PASSWORD_TOPIC}' is not supported: use a passfile or a service")
    given = {libpq: env.get(name) for name, libpq in _LIBPQ_NAMES.items()}
    return make_conninfo("", **{libpq: value for libpq, value in given.items() if value})


def schema_of(env: Environment) -> str:
    """The schema of the tables; empty for the connection's own."""
    return (env.get("POSTGRES_SCHEMA") or "").strip()


def pool_size_of(env: Environment) -> int:
    """How many connections readers may have at once.

    Raises:
        OSError: it is no whole number from 2 to 200.
    """
    text = env.get("POSTGRES_POOL_SIZE") or str(_POOL)
    if not (text.isascii() and text.isdigit() and _LEAST_POOL <= int(text) <= _MOST_POOL):
        raise OSError(f"'POSTGRES_POOL_SIZE' must be from {_LEAST_POOL} to {_MOST_POOL}: '{text}'")
    return int(text)


def creates_tables(env: Environment) -> bool:
    """Whether tables that are absent are to be made: CREATE_TABLE, yes unless it says no."""
    return strtobool(env.get("CREATE_TABLE") or "yes")


def refuse_other_layouts(env: Environment) -> None:
    """Say no to what would silently mean something else than with the library's own recorder.

    Raises:
        OSError: one of them is asked for.
    """
    if (env.get("ORIGINATOR_ID_TYPE") or "uuid").lower() != "uuid":
        raise OSError("'ORIGINATOR_ID_TYPE' must be 'uuid': the log's ids are UUIDs")
    if not strtobool(env.get("SINGLE_ROW_TRACKING") or "yes"):
        raise OSError("'SINGLE_ROW_TRACKING' must not be off: there is no other tracking table")
    if strtobool(env.get("POSTGRES_ENABLE_DB_FUNCTIONS") or "no"):
        raise OSError("'POSTGRES_ENABLE_DB_FUNCTIONS' must be off: it loses events for readers")
