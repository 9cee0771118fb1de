"""Pulse's configuration: one frozen struct, read once from PULSE_* variables."""

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from pulse import identity_settings as identity
from pulse.database_url import checked_url
from pulse.errors import PulseError
from pulse.secret import Secret, ServiceToken

T = TypeVar("T")
_PREFIX: Final = "PULSE_"
_LOOKS_LIKE_ONE: Final = re.compile(r"PULSE[^A-Z]", re.IGNORECASE)
_OTHERS_VARIABLES: Final = re.compile(
    r"PULSE_(URL|SERVICE_TOKEN|TEST_.*"  # of `pulse load`, of the documented curl lines, of tests
    # what Kubernetes sets for services whose names begin with `pulse`
    r"|(\w+_)?SERVICE_(HOST|PORT.*)|(\w+_)?PORT_[0-9]+_(TCP|UDP).*"
    # of PulseAudio, whose clients read them
    r"|SERVER|SINK|SOURCE|COOKIE|CLIENTCONFIG|BINARY|DLPATH|SCRIPT|LATENCY_MSEC|PROP.*"
    r"|(RUNTIME|STATE|CONFIG)_PATH)"
)
_LEAST_SIMILARITY: Final = 0.7
_MOST_DIGITS: Final = 20
_LEAST_RATE: Final = 0.01
_MOST_RATE: Final = 1_000_000
_NEVER_SHOWN: Final = frozenset(
    (
        "database_url",
        "service_tokens",
        "gateway_service_token",
        "jwt_secret",
        "jwt_public_key",
        "jwt_jwks_url",
        "api_base_url",
    )
)
"""What may hold a secret, if only by a slip of the hand: a fault is told without the value."""


class SettingsError(PulseError):
    """One or more PULSE_* values are wrong; the message names every one of them."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(["Pulse cannot start with these settings:", *faults]))


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set. Names are the variables' without PULSE_, in lower case."""

    database_url: str | None = None
    data_dir: Path = Path(".pulse")
    host: str = "127.0.0.1"
    port: int = 8000
    migrate: bool = True
    poll_interval_seconds: float = 5.0
    batch_size: int = 10
    timeout_seconds: float = 300.0
    timeout_check_interval_seconds: float = 60.0
    max_split_delay_seconds: float = 300.0
    max_clock_offset_seconds: float = 1.0
    pool_size: int = 10
    append_queue_events: int = 10_000
    max_requests_in_flight: int = 1000
    body_timeout_seconds: float = 10.0
    rate_limit_per_second: float = 100.0
    internal_rate_limit_per_second: float = 0.0
    rate_limit_burst_seconds: float = 2.0
    log_format: str = "auto"
    log_level: str = "info"
    service_tokens: tuple[ServiceToken, ...] = ()
    api_base_url: str = "http://127.0.0.1:8001"
    gateway_service_token: Secret | None = None
    jwt_algorithm: str | None = None
    jwt_secret: Secret | None = None
    jwt_public_key: str | None = None
    jwt_jwks_url: str | None = None
    jwt_audience: str | None = None
    jwt_issuer: str | None = None
    jwt_max_lifetime_seconds: float | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """The settings these variables make; an empty value counts as unset.

        Raises:
            SettingsError: naming each value that is wrong and what it should be.
        """
        given: list[str] = []
        values: dict[str, Any] = {}
        faults: list[str] = []
        for name, parse in _PARSERS.items():
            variable = _variable(name)
            text = environment.get(variable, "").strip()
            if not text:
                continue
            given.append(name)
            try:
                values[name] = parse(text)
            except ValueError as error:
                shown = "***" if name in _NEVER_SHOWN else repr(text)
                faults.append(f"  {variable}={shown}: expected {error}")
        faults += [f"  {fault}" for fault in identity.faults_between(given, values)]
        if faults:
            raise SettingsError(faults)
        return cls(**values)


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str | None]:
    """The names of variables that look like Pulse's and are none, each with the closest known one.

    Such a name has no effect, so it is probably misspelt: PULSE_BATCHSIZE, or pulse_batch_size.
    """
    known = [_variable(name) for name in Settings.__struct_fields__]
    unknown: dict[str, str | None] = {}
    for variable in sorted(environment):
        if (
            not _LOOKS_LIKE_ONE.match(variable)
            or variable in known
            or _OTHERS_VARIABLES.fullmatch(variable)
        ):
            continue
        similar = get_close_matches(variable.upper(), known, n=1, cutoff=_LEAST_SIMILARITY)
        unknown[variable] = next(iter(similar), None)
    return unknown


def _variable(name: str) -> str:
    return f"{_PREFIX}{name.upper()}"


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # there is no such user, or no home directory
        raise ValueError("a path whose ~ names an existing home directory") from None


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        readable = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
        if not (readable and least <= int(text) <= most):
            raise ValueError(f"a whole number from {least} to {most}")
        return int(text)

    return parse


def _seconds(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            seconds = float(text)
        except ValueError:
            seconds = float("nan")
        if not least <= seconds <= most:
            raise ValueError(f"seconds from {least:g} to {most:g}")
        return seconds

    return parse


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = float("nan")
    if not (rate == 0 or _LEAST_RATE <= rate <= _MOST_RATE):
        raise ValueError(f"requests a second from {_LEAST_RATE:g} to {_MOST_RATE:,}, or 0 for all")
    return rate


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return text.lower()

    return parse


def _boolean(text: str) -> bool:
    return _choice("true", "false")(text) == "true"


_PARSERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "database_url": checked_url,
    "data_dir": _path,
    "host": str,
    "port": _whole(1, 65_535),
    "migrate": _boolean,
    "poll_interval_seconds": _seconds(0.01, 3600),
    "batch_size": _whole(1, 1000),
    "timeout_seconds": _seconds(0.1, 86_400),
    "timeout_check_interval_seconds": _seconds(0.01, 86_400),
    "max_split_delay_seconds": _seconds(0, 86_400),
    "max_clock_offset_seconds": _seconds(0.001, 3600),
    "pool_size": _whole(2, 200),
    "append_queue_events": _whole(1, 1_000_000),
    "max_requests_in_flight": _whole(1, 1_000_000),
    "body_timeout_seconds": _seconds(0.1, 3600),
    "rate_limit_per_second": _rate,
    "internal_rate_limit_per_second": _rate,
    "rate_limit_burst_seconds": _seconds(0, 3600),
    "log_format": _choice("auto", "console", "json"),
    "log_level": _choice("debug", "info", "warning", "error"),
    "service_tokens": identity.service_tokens,
    "api_base_url": identity.api_url,
    "gateway_service_token": identity.service_token,
    "jwt_algorithm": identity.algorithm,
    "jwt_secret": identity.signing_secret,
    "jwt_public_key": identity.public_key,
    "jwt_jwks_url": identity.jwks_url,
    "jwt_audience": identity.name,
    "jwt_issuer": identity.name,
    "jwt_max_lifetime_seconds": _seconds(1, 315_360_000),
}
