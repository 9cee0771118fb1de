"""Validates PULSE_DATABASE_URL part by part, because libpq's errors repeat what it cannot parse.

An unescaped `@` or `/` in a password shifts the parts after it: the rest of the password becomes a
host, a port or a database name. So each part is checked before libpq sees it, and no error message
repeats any of it.
"""

import ipaddress
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

SCHEMES: Final = ("postgresql://", "postgres://")
_EXPECTED: Final = "a Postgres URL such as postgresql://user:password@host:5432/pulse"
_ESCAPES: Final = "in user and password, @ is written %40, / %2F, : %3A, % %25, a space %20"
_MAX_PORT: Final = 65_535
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_WORD: Final = re.compile(r"(?:\\.|[^\\\s])+")
_SETTING: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)=(.*)", re.DOTALL)

_CHOICES: Final = {
    "sslmode": "disable allow prefer require verify-ca verify-full",
    "sslnegotiation": "postgres direct",
    "sslcertmode": "disable allow require",
    "channel_binding": "disable prefer require",
    "gssencmode": "disable prefer require",
    "gsslib": "gssapi",
    "load_balance_hosts": "disable random",
    "min_protocol_version": "3.0 3.2 latest",
    "max_protocol_version": "3.0 3.2 latest",
    "replication": "false off no 0",
    "target_session_attrs": "any read-write read-only primary standby prefer-standby",
}
_TLS: Final = frozenset(("tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3"))
_AUTHENTICATION: Final = frozenset(
    ("password", "md5", "gss", "sspi", "scram-sha-256", "oauth", "none", "creds"),
)
_NUMBERS: Final = (
    *("connect_timeout", "tcp_user_timeout", "sslcompression", "sslsni", "gssdelegation"),
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
)


def checked_url(text: str) -> str:
    """The URL unchanged, after checking that libpq can parse each part.

    Raises:
        ValueError: a part is invalid. The message names it and what is expected, not its value.
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


def settings_of_options(options: str) -> dict[str, str]:
    """The settings in libpq's `options`, by name: `-c name=value`, `-cname=value`, `--name=value`.

    Raises:
        ValueError: a word is not a server argument. The server's own error would repeat it.
    """
    settings = {}
    words = iter([re.sub(r"\\(.)", r"\1", word) for word in _WORD.findall(options)])
    for word in words:
        if word.startswith("-c"):
            assignment = word.removeprefix("-c") or next(words, "")
        elif word.startswith("--"):
            assignment = word.removeprefix("--")
        elif word.startswith("-"):
            continue
        else:
            raise ValueError("not a server argument")
        found = _SETTING.fullmatch(assignment)
        if found is None:
            raise ValueError("not a server setting")
        settings[found[1].replace("-", "_").lower()] = found[2]
    return settings


def _fault_of_text(text: str) -> str | None:
    if any(character.isspace() or not character.isprintable() for character in text):
        return "it contains white space or a control character"
    after = text.partition("://")[2]
    user, at, rest = after.partition("@")
    if (at and "/" in user) or "@" in rest:
        return "it contains an @ other than the one before the host, or a / before that @"
    return None


def _faults_of_parts(parts: Mapping[str, str]) -> Iterator[str]:
    hosts, addresses, ports = (
        parts[name].split(",") if parts.get(name) else [] for name in ("host", "hostaddr", "port")
    )
    if not all(map(_is_host, hosts)):
        yield "a host is neither a name, an address nor a directory"
    if not all(map(_is_address, filter(None, addresses))):
        yield "a hostaddr is not an IP address"
    if not all(map(_is_port, filter(None, ports))):
        yield f"a port is not a whole number from 1 to {_MAX_PORT:,}"
    if hosts and addresses and len(hosts) != len(addresses):
        yield "the number of hostaddr differs from that of hosts"
    if len(ports) > 1 and len(ports) != max(len(hosts), len(addresses), 1):
        yield "the number of ports differs from that of hosts"
    for name, is_right in _RULES.items():
        if name in parts and not is_right(parts[name]):
            yield f"the value of {name} is not one that libpq accepts"


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
    return text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= _MAX_PORT


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,9}", text) is not None


def _is_tls_version(text: str) -> bool:
    return text.lower() in _TLS


def _is_authentication(text: str) -> bool:
    return all(method.removeprefix("!") in _AUTHENTICATION for method in text.split(","))


def _is_options(text: str) -> bool:
    try:
        settings_of_options(text)
    except ValueError:
        return False
    return True


def _is_passfile(text: str) -> bool:
    """Whether libpq reads the file without a warning, which would print its path."""
    try:
        mode = Path(text).stat().st_mode
    except (OSError, ValueError):
        return True  # libpq ignores it without a warning
    return stat.S_ISREG(mode) and not mode & 0o077


_RULES: Final[Mapping[str, Callable[[str], bool]]] = {
    **{name: choices.split().__contains__ for name, choices in _CHOICES.items()},
    **dict.fromkeys(_NUMBERS, _is_number),
    "ssl_min_protocol_version": _is_tls_version,
    "ssl_max_protocol_version": _is_tls_version,
    "require_auth": _is_authentication,
    "options": _is_options,
    "passfile": _is_passfile,
}
