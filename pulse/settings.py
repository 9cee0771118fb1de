"""Pulse's configuration: one frozen struct, read once from PULSE_* variables."""

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import msgspec

from pulse import identity_settings as identity
from pulse.database_url import checked_url
from pulse.errors import PulseError
from pulse.secret import Secret, ServiceToken

_PREFIX: Final = "PULSE_"
_LOOKS_LIKE_ONE: Final = re.compile(r"PULSE[^A-Z]", re.IGNORECASE)
_FOREIGN_VARIABLES: Final = re.compile(
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
_HIDDEN: Final = "hidden"
"""Of a setting that may hold a secret, if only by mistake: a fault does not repeat the value."""

Parser = Callable[[str], Any]
"""Reads a setting's text; ValueError says what was expected."""


class SettingsError(PulseError):
    """One or more PULSE_* values are wrong; the message names every one of them."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(["Pulse cannot start with these settings:", *faults]))


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # there is no such user, or no home directory
        raise ValueError("a path whose ~ names an existing home directory") from None


def _whole(least: int, most: int) -> Parser:
    def parse(text: str) -> int:
        readable = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
        if not (readable and least <= int(text) <= most):
            raise ValueError(f"a whole number from {least} to {most}")
        return int(text)

    return parse


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")  # which is in no range


def _seconds(least: float, most: float) -> Parser:
    def parse(text: str) -> float:
        if not least <= (seconds := _number(text)) <= most:
            raise ValueError(f"seconds from {least:g} to {most:g}")
        return seconds

    return parse


def _rate(text: str) -> float:
    rate = _number(text)
    if not (rate == 0 or _LEAST_RATE <= rate <= _MOST_RATE):
        raise ValueError(f"requests a second from {_LEAST_RATE:g} to {_MOST_RATE:,}, or 0 for all")
    return rate


def _choice(*choices: str) -> Parser:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError(f"one of {', '.join(choices)}")
        return text.lower()

    return parse


def _boolean(text: str) -> bool:
    return bool(_choice("true", "false")(text) == "true")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set, each with what reads it from its variable.

    Names are the variables' without PULSE_, in lower case.
    """

    database_url: Annotated[str | None, checked_url, _HIDDEN] = None
    data_dir: Annotated[Path, _path] = Path(".pulse")
    host: Annotated[str, str] = "127.0.0.1"
    port: Annotated[int, _whole(1, 65_535)] = 8000
    migrate: Annotated[bool, _boolean] = True
    poll_interval_seconds: Annotated[float, _seconds(0.01, 3600)] = 5.0
    batch_size: Annotated[int, _whole(1, 1000)] = 10
    timeout_seconds: Annotated[float, _seconds(0.1, 86_400)] = 300.0
    timeout_check_interval_seconds: Annotated[float, _seconds(0.01, 86_400)] = 60.0
    max_split_delay_seconds: Annotated[float, _seconds(0, 86_400)] = 300.0
    max_clock_offset_seconds: Annotated[float, _seconds(0.001, 3600)] = 1.0
    pool_size: Annotated[int, _whole(2, 200)] = 10
    append_queue_events: Annotated[int, _whole(1, 1_000_000)] = 10_000
    max_requests_in_flight: Annotated[int, _whole(1, 1_000_000)] = 1000
    body_timeout_seconds: Annotated[float, _seconds(0.1, 3600)] = 10.0
    rate_limit_per_second: Annotated[float, _rate] = 100.0
    internal_rate_limit_per_second: Annotated[float, _rate] = 0.0
    rate_limit_burst_seconds: Annotated[float, _seconds(0, 3600)] = 2.0
    log_format: Annotated[str, _choice("auto", "console", "json")] = "auto"
    log_level: Annotated[str, _choice("debug", "info", "warning", "error")] = "info"
    service_tokens: Annotated[tuple[ServiceToken, ...], identity.service_tokens, _HIDDEN] = ()
    api_base_url: Annotated[str, identity.api_url, _HIDDEN] = "http://127.0.0.1:8001"
    gateway_service_token: Annotated[Secret | None, identity.service_token, _HIDDEN] = None
    jwt_algorithm: Annotated[str | None, identity.algorithm] = None
    jwt_secret: Annotated[Secret | None, identity.signing_secret, _HIDDEN] = None
    jwt_public_key: Annotated[str | None, identity.public_key, _HIDDEN] = None
    jwt_jwks_url: Annotated[str | None, identity.jwks_url, _HIDDEN] = None
    jwt_audience: Annotated[str | None, identity.name] = None
    jwt_issuer: Annotated[str | None, identity.name] = None
    jwt_max_lifetime_seconds: Annotated[float | None, _seconds(1, 315_360_000)] = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """The settings these variables make; an empty value counts as unset.

        Raises:
            SettingsError: naming each value that is wrong and what it should be.
        """
        given: list[str] = []
        values: dict[str, Any] = {}
        faults: list[str] = []
        for name, hint in get_type_hints(cls, include_extras=True).items():
            parse, *marks = hint.__metadata__
            text = environment.get(_variable(name), "").strip()
            if not text:
                continue
            given.append(name)
            try:
                values[name] = parse(text)
            except ValueError as error:
                shown = "***" if _HIDDEN in marks else repr(text)
                faults.append(f"  {_variable(name)}={shown}: expected {error}")
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
        looks_like_one = _LOOKS_LIKE_ONE.match(variable) and variable not in known
        if looks_like_one and not _FOREIGN_VARIABLES.fullmatch(variable):
            similar = get_close_matches(variable.upper(), known, n=1, cutoff=_LEAST_SIMILARITY)
            unknown[variable] = next(iter(similar), None)
    return unknown


def _variable(name: str) -> str:
    return f"{_PREFIX}{name.upper()}"
