"""PULSE_DATABASE_URL, checked part by part, since libpq's errors repeat what it cannot read.

A password with an unescaped `@` or `/` shifts every part behind it: its rest becomes a host, a port
or a database name. So each part is checked before libpq sees it, and no fault repeats any of it.
"""

import ipaddress
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

SCHEMES: Final = ("postgresql://", "postgres://")
_EXPECTED: Final = "a Postgres URL such as postgresql://user:password@host:5432/pulse"
_ESCAPES: Final = "in user and password, @ is written %40, / %2F, : %3A, % %25, a space %20"
_MOST_PORT: Final = 65_535
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_WORD: Final = re.compile(r"(?:\\.|[^\\\s])+")
_SETTING: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*=.*", re.DOTALL)

_CHOICES: Final[Mapping[str, frozenset[str]]] = {
    "sslmode": frozenset(
        ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    ),
    "sslnegotiation": frozenset(("postgres", "direct")),
    "sslcertmode": frozenset(("disable", "allow", "require")),
    "channel_binding": frozenset(("disable", "prefer", "require")),
    "gssencmode": frozenset(("disable", "prefer", "require")),
    "gsslib": frozenset(("gssapi",)),
    "load_balance_hosts": frozenset(("disable", "random")),
    "min_protocol_version": frozenset(("3.0", "3.2", "latest")),
    "max_protocol_version": frozenset(("3.0", "3.2", "latest")),
    "replication": frozenset(("false", "off", "no", "0")),
    "target_session_attrs": frozenset(
        ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
    ),
}
_TLS: Final = frozenset(("tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3"))
_AUTHENTICATION: Final = frozenset(
    ("password", "md5", "gss", "sspi", "scram-sha-256", "oauth", "none", "creds"),
)
_NUMBERS: Final = (
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "sslcompression",
    "sslsni",
    "gssdelegation",
)


def checked_url(text: str) -> str:
    """The URL as it is given, each of whose parts libpq can read.

    Raises:
        ValueError: it names the part at fault and what is expected, and repeats nothing.
    """
    if not text.startswith(SCHEMES):
        raise ValueError(_EXPECTED)
    fault = _fault_of_text(text)
    if fault is None:
        try:
            parts = {name: str(value) for name, value in conninfo_to_dict(text).items()}
        except ProgrammingError:
            fault = "libpq cannot read it"
        else:
            fault = next(_faults_of_parts(parts), None)
    if fault is not None:
        raise ValueError(f"{_EXPECTED}; {fault} ({_ESCAPES})")
    return text


def _fault_of_text(text: str) -> str | None:
    if any(character.isspace() or not character.isprintable() for character in text):
        return "it contains white space or a control character"
    after = text.partition("://")[2]
    user, at, rest = after.partition("@")
    if (at and "/" in user) or "@" in rest:
        return "it contains an @ other than the one before the host, or a / before that one"
    return None


def _faults_of_parts(parts: Mapping[str, str]) -> Iterator[str]:
    hosts, addresses = _listed(parts, "host"), _listed(parts, "hostaddr")
    ports = _listed(parts, "port")
    if not all(map(_is_host, hosts)):
        yield "a host is neither a name, an address nor a directory"
    if not all(map(_is_address, filter(None, addresses))):
        yield "a hostaddr is not an IP address"
    if not all(map(_is_port, filter(None, ports))):
        yield f"a port is not a whole number from 1 to {_MOST_PORT:,}"
    if hosts and addresses and len(hosts) != len(addresses):
        yield "there are not as many hostaddr as hosts"
    if len(ports) > 1 and len(ports) != max(len(hosts), len(addresses), 1):
        yield "there are not as many ports as hosts"
    for name, is_right in _RULES.items():
        if name in parts and not is_right(parts[name]):
            yield f"the value of {name} is not one that libpq accepts"


def _listed(parts: Mapping[str, str], name: str) -> list[str]:
    return parts[name].split(",") if parts.get(name) else []


def _is_host(host: str) -> bool:
    if not host or host.startswith(("/", "@")):
        return True  # the default, or the directory or abstract name of a socket
    return _HOST_NAME.fullmatch(host) is not None or _is_address(host)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= _MOST_PORT


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,9}", text) is not None


def _is_tls_version(text: str) -> bool:
    return text.lower() in _TLS


def _is_authentication(text: str) -> bool:
    return all(method.removeprefix("!") in _AUTHENTICATION for method in text.split(","))


def _is_options(text: str) -> bool:
    """Whether these are arguments of a server, which repeats any other in its error."""
    words = _WORD.findall(text)
    for before, word in pairwise(["", *words]):
        if before == "-c" or word.startswith("--"):
            is_right = _SETTING.fullmatch(word.removeprefix("--")) is not None
        elif word.startswith("-c") and word != "-c":
            is_right = _SETTING.fullmatch(word.removeprefix("-c")) is not None
        else:
            is_right = word.startswith("-")
        if not is_right:
            return False
    return not words or words[-1] != "-c"


def _is_passfile(text: str) -> bool:
    """Whether libpq reads it without a warning, which it prints with the path."""
    try:
        mode = Path(text).stat().st_mode
    except (OSError, ValueError):
        return True  # libpq ignores it without a warning
    return stat.S_ISREG(mode) and not mode & 0o077


def _one_of(choices: frozenset[str]) -> Callable[[str], bool]:
    return choices.__contains__


_RULES: Final[Mapping[str, Callable[[str], bool]]] = {
    **{name: _one_of(choices) for name, choices in _CHOICES.items()},
    **dict.fromkeys(_NUMBERS, _is_number),
    "ssl_min_protocol_version": _is_tls_version,
    "ssl_max_protocol_version": _is_tls_version,
    "require_auth": _is_authentication,
    "options": _is_options,
    "passfile": _is_passfile,
}
