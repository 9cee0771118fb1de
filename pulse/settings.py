"""Pulse's settings: one frozen struct, read once from PULSE_* variables."""

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, get_type_hints

import msgspec

from pulse import identity_settings as identity
from pulse.database_url import checked_url
from pulse.domain import SESSION_POLICIES, SessionPolicy
from pulse.errors import PulseError
from pulse.rights import ServiceRights
from pulse.secret import Secret, ServiceToken

_PREFIX: Final = "PULSE_"
_LOOKS_LIKE_SETTING: Final = re.compile(r"PULSE[^A-Z]", re.IGNORECASE)
_FOREIGN_VARIABLES: Final = re.compile(
    # used by `pulse load`, the documented curl commands, and tests
    r"PULSE_(URL|SERVICE_TOKEN|TEST_.*"
    # set by Kubernetes for services whose names begin with `pulse`
    r"|(\w+_)?SERVICE_(HOST|PORT.*)|(\w+_)?PORT_[0-9]+_(TCP|UDP).*"
    # used by PulseAudio
    r"|SERVER|SINK|SOURCE|COOKIE|CLIENTCONFIG|BINARY|DLPATH|SCRIPT|LATENCY_MSEC|PROP.*"
    r"|(RUNTIME|STATE|CONFIG)_PATH)"
)
_MIN_SIMILARITY: Final = 0.7
_MAX_DIGITS: Final = 20
_MIN_RATE: Final = 0.01
_MAX_RATE: Final = 1_000_000
MAX_PROCESSES: Final = 64
_HIDDEN: Final = "hidden"
"""Marks a setting that may contain a secret: errors do not repeat its value."""
_HIDDEN_IF_INVALID: Final = "hidden if invalid"
"""Marks a setting whose valid values are no secrets. An invalid one may be a misplaced token."""


class Kind(msgspec.Struct, frozen=True):
    """How a variable's text is read.

    `read` raises ValueError for a text that is not allowed. Its message says what is expected; if
    that is empty, `allowed` is used instead.
    """

    allowed: str
    read: Callable[[str], Any]


class SettingsError(PulseError):
    """One or more PULSE_* values are invalid; the message lists all of them."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(["Pulse cannot start with these settings:", *faults]))


def _path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # there is no such user, or no home directory
        raise ValueError("a path whose ~ names an existing home directory") from None


def _whole(minimum: int, maximum: int) -> Kind:
    def read(text: str) -> int:
        readable = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
        if not (readable and minimum <= int(text) <= maximum):
            raise ValueError
        return int(text)

    return Kind(f"a whole number from {minimum} to {maximum}", read)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")  # outside every range


def _seconds(minimum: float, maximum: float) -> Kind:
    def read(text: str) -> float:
        if not minimum <= (seconds := _number(text)) <= maximum:
            raise ValueError
        return seconds

    return Kind(f"seconds from {minimum:g} to {maximum:.10g}", read)


def _rate(text: str) -> float:
    rate = _number(text)
    if not (rate == 0 or _MIN_RATE <= rate <= _MAX_RATE):
        raise ValueError
    return rate


def _choice(*choices: str) -> Kind:
    def read(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError
        return text.lower()

    return Kind(f"one of {', '.join(choices)}", read)


def _policy(text: str) -> str:
    if text.upper() not in SESSION_POLICIES:
        raise ValueError
    return text.upper()


_POLICY: Final = Kind(f"one of {', '.join(SESSION_POLICIES)}", _policy)


def _log_requests(text: str) -> str:
    if text.lower() not in _LOG_REQUESTS_WORDS and not 0 <= _number(text) <= 1:
        raise ValueError
    return text.lower()


_LOG_REQUESTS_WORDS: Final = ("all", "errors", "off")
_LOG_REQUESTS: Final = Kind(
    "one of all, errors, off, or a fraction from 0 to 1, such as 0.01", _log_requests
)
_PATH: Final = Kind("a path; `~` is the home directory", _path)
_BOOLEAN: Final = Kind(
    "one of true, false", lambda text: _choice("true", "false").read(text) == "true"
)
_RATE: Final = Kind(
    f"requests per second from {_MIN_RATE:g} to {_MAX_RATE:,}, or 0 for no limit", _rate
)
_URL: Final = Kind("a `postgresql://` URL", checked_url)
_HOST: Final = Kind("an address or a host name", str)
_TOKENS: Final = Kind("`name:token` pairs, separated by commas", identity.service_tokens)
_RIGHTS: Final = Kind(
    "`name=rights` pairs, separated by commas, such as `desk=read,ops=read+write+halt`",
    identity.service_rights,
)
_TOKEN: Final = Kind("a service token", identity.service_token)
_API: Final = Kind("an http or https URL", identity.api_url)
_ALGORITHM: Final = Kind(f"one of {', '.join(identity.ALGORITHMS)}", identity.algorithm)
_SECRET: Final = Kind(f"at least {identity.MIN_SECRET_BYTES} bytes", identity.signing_secret)
_KEY: Final = Kind("a public key as PEM, or the path of a file that has one", identity.public_key)
_JWKS: Final = Kind("an https URL, or an http URL of this machine", identity.jwks_url)
_ANCHOR_URLS: Final = Kind("http or https URLs, separated by commas", identity.anchor_urls)
_ISSUER_OR_AUDIENCE: Final = Kind("at most 255 characters", identity.issuer_or_audience)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every setting: how its variable is read, what it means, and its default.

    Names are the variables' without PULSE_, in lower case.
    """

    database_url: Annotated[
        str | None,
        _URL,
        "The database: Postgres 15 or newer. Unset: the embedded server in PULSE_DATA_DIR.",
        _HIDDEN,
    ] = None
    read_database_url: Annotated[
        str | None,
        _URL,
        "A replica of the database on which lists are read. Unset: they are read on the primary.",
        _HIDDEN,
    ] = None
    require_synchronous_standby: Annotated[
        bool,
        _BOOLEAN,
        "Refuse to append while `synchronous_standby_names` of Postgres is empty, so that no order "
        "is accepted on one server alone.",
    ] = False
    data_dir: Annotated[
        Path, _PATH, "The directory of the embedded server, the development keys and the anchors."
    ] = Path(".pulse")
    host: Annotated[str, _HOST, "The address that `pulse up`, `api` and `gateway` listen on."] = (
        "127.0.0.1"
    )
    port: Annotated[
        int, _whole(1, 65_535), "The port that `pulse up`, `api` and `gateway` listen on."
    ] = 8000
    processes: Annotated[
        int,
        _whole(1, MAX_PROCESSES),
        "How many processes of `pulse up` serve the port. 1: one process does everything, unless "
        "PULSE_WORKER_PROCESSES is set. More: the workers run in separate processes.",
    ] = 1
    worker_processes: Annotated[
        int | None,
        _whole(1, MAX_PROCESSES),
        "How many processes of `pulse up` run the workers. Unset: 1, or no separate one if "
        "PULSE_PROCESSES is 1.",
    ] = None
    migrate: Annotated[
        bool,
        _BOOLEAN,
        "Migrate the schema at start. If false, a process is not ready until `pulse migrate` ran.",
    ] = True
    batch_size: Annotated[
        int,
        _whole(1, 1000),
        "Orders that a worker claims at once. Under a backlog: up to 500, or this number if it is "
        "larger.",
    ] = 10
    poll_interval_seconds: Annotated[
        float,
        _seconds(0.01, 3600),
        "How long the projector, the splitting loop, event streams and the sealer wait for a "
        "notification before they poll.",
    ] = 5.0
    timeout_seconds: Annotated[
        float,
        _seconds(0.1, 86_400),
        "An order that has no outcome this long after its first claim is FAILED with TIMED_OUT.",
    ] = 300.0
    timeout_check_interval_seconds: Annotated[
        float,
        _seconds(0.01, 86_400),
        "How often the timeout monitor checks. It also checks at start.",
    ] = 60.0
    max_split_delay_seconds: Annotated[
        float,
        _seconds(0, 86_400),
        "An order that is first claimed later than this after its creation (or after the start of "
        "its window, if that is later) is FAILED as TOO_LATE. 0: only the end of the window "
        "counts.",
    ] = 300.0
    release_slices: Annotated[
        bool,
        _BOOLEAN,
        "Whether slices of orders accepted by this process are released at their times.",
    ] = True
    max_release_delay_seconds: Annotated[
        float,
        _seconds(1, 86_400),
        "How late a slice can be released; then it expires. It expires earlier if the next slice "
        "of its order is due, but not within 1 s of its scheduled time.",
    ] = 60.0
    session_policy: Annotated[
        SessionPolicy,
        _POLICY,
        "The policy for trading sessions of orders that do not name a policy.",
    ] = "NONE"

    market_calendar: Annotated[
        Path | None,
        _PATH,
        "The file of trading sessions. Unset: the one that is shipped with Pulse.",
    ] = None
    max_clock_offset_seconds: Annotated[
        float,
        _seconds(0.001, 3600),
        "A process whose clock differs from the database's by more than this is not ready and "
        "refuses orders.",
    ] = 1.0
    pool_size: Annotated[
        int,
        _whole(2, 200),
        "Maximum connections in a process's pool. A process opens two more, three if it has "
        "workers. One of all processes opens one more, for the gauges of the whole database.",
    ] = 10
    append_queue_events: Annotated[
        int, _whole(1, 1_000_000), "Maximum events in the append queue. More are answered 503."
    ] = 10_000
    max_requests_in_flight: Annotated[
        int,
        _whole(1, 1_000_000),
        "Maximum requests in flight in a process. More are answered 503.",
    ] = 1000
    max_streams: Annotated[
        int,
        _whole(1, 10_000),
        "Maximum event streams and downloads of the log in a process. More are answered 503.",
    ] = 100
    body_timeout_seconds: Annotated[
        float,
        _seconds(0.1, 3600),
        "Maximum time for a request's body to arrive. A later one is answered 408.",
    ] = 10.0
    rate_limit_per_second: Annotated[
        float,
        _RATE,
        "Requests per second of each caller of the gateway, counted by each process. More are "
        "answered 429.",
    ] = 100.0
    internal_rate_limit_per_second: Annotated[
        float,
        _RATE,
        "Requests per second of each service of the internal API; of each address if there are no "
        "tokens. More are answered 429.",
    ] = 0.0
    rate_limit_burst_seconds: Annotated[
        float,
        _seconds(0, 3600),
        "A caller may send the requests of this many seconds at once.",
    ] = 2.0
    service_tokens: Annotated[
        tuple[ServiceToken, ...],
        _TOKENS,
        "Who may use the internal API. Unset: only direct requests from this machine.",
        _HIDDEN,
    ] = ()
    service_rights: Annotated[
        tuple[ServiceRights, ...],
        _RIGHTS,
        "The rights of services at the internal API. A service that is not named has `read+write`.",
        _HIDDEN_IF_INVALID,
    ] = ()
    jwt_algorithm: Annotated[
        str | None,
        _ALGORITHM,
        "How callers' tokens are signed. May be left out with PULSE_JWT_SECRET.",
    ] = None
    jwt_secret: Annotated[
        Secret | None, _SECRET, "HS256: the secret that tokens are signed with.", _HIDDEN
    ] = None
    jwt_public_key: Annotated[
        str | None, _KEY, "RS256, ES256, EdDSA: the issuer's public key.", _HIDDEN
    ] = None
    jwt_jwks_url: Annotated[
        str | None, _JWKS, "RS256, ES256, EdDSA: where the issuer publishes its keys.", _HIDDEN
    ] = None
    jwt_audience: Annotated[
        str | None, _ISSUER_OR_AUDIENCE, "What a token's `aud` must contain. Required with a key."
    ] = None
    jwt_issuer: Annotated[
        str | None,
        _ISSUER_OR_AUDIENCE,
        "What a token's `iss` must be. Required with a key. A change makes every caller a new "
        "caller, without earlier orders.",
    ] = None
    jwt_max_lifetime_seconds: Annotated[
        float | None,
        _seconds(1, 315_360_000),
        "Maximum time from a token's `iat` to its `exp`. If set, tokens must have `iat`.",
    ] = None
    api_base_url: Annotated[
        str, _API, "The URL of the API, for a gateway that runs alone.", _HIDDEN
    ] = "http://127.0.0.1:8001"
    gateway_service_token: Annotated[
        Secret | None, _TOKEN, "The service token that this gateway sends to the API.", _HIDDEN
    ] = None
    metrics: Annotated[
        bool,
        _BOOLEAN,
        "Measure requests, and serve `/metrics`.",
    ] = True
    monitoring_port: Annotated[
        int | None,
        _whole(1, 65_535),
        "The port of `pulse background` for `/metrics`, `/health` and `/health/ready`, on "
        "PULSE_HOST. Unset: none. Processes with HTTP serve them on their own port.",
    ] = None
    log_requests: Annotated[
        str,
        _LOG_REQUESTS,
        "Which requests have a line in the log: all, none (`off`), or a fraction. Requests with a "
        "status of 500 or more, disconnects, and requests longer than 1 s are always logged "
        "unless `off`; `errors` logs only these.",
    ] = "all"
    seal_key: Annotated[
        Path | None,
        _PATH,
        "The file of the key that signs checkpoints of the log (`pulse key new`). Unset: the "
        "development key that `pulse up` creates next to an embedded server's data, or no seal.",
    ] = None
    anchor_file: Annotated[
        Path | None,
        _PATH,
        "The file to which checkpoints are appended. Unset: `seal-anchors.txt` in PULSE_DATA_DIR.",
    ] = None
    anchor_urls: Annotated[
        tuple[str, ...], _ANCHOR_URLS, "URLs to which checkpoints are also posted.", _HIDDEN
    ] = ()
    log_format: Annotated[
        str,
        _choice("auto", "console", "json"),
        "`auto` is `console` on a terminal and `json` elsewhere.",
    ] = "auto"
    log_level: Annotated[
        str,
        _choice("debug", "info", "warning", "error"),
        "The lowest level that is logged.",
    ] = "info"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """The settings of this environment. An empty value counts as unset.

        Raises:
            SettingsError: a value is invalid; the message lists each and what is expected.
        """
        given: list[str] = []
        values: dict[str, Any] = {}
        faults: list[str] = []
        for name, hint in get_type_hints(cls, include_extras=True).items():
            kind, _, *marks = hint.__metadata__
            text = environment.get(_variable(name), "").strip()
            if not text:
                continue
            given.append(name)
            try:
                values[name] = kind.read(text)
            except ValueError as error:
                shown = "***" if marks else repr(text)
                expected = str(error) or kind.allowed
                faults.append(f"  {_variable(name)}={shown}: expected {expected}")
        faults += [f"  {fault}" for fault in identity.faults_between(given, values)]
        faults += [f"  {fault}" for fault in identity.faults_of_rights(given, values)]
        if faults:
            raise SettingsError(faults)
        return cls(**values)


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Unknown variables that look like settings of Pulse, each with the most similar setting.

    They have no effect, and are probably misspelt: PULSE_BATCHSIZE, or pulse_batch_size.
    """
    known = [_variable(name) for name in Settings.__struct_fields__]
    unknown: dict[str, str | None] = {}
    for variable in sorted(environment):
        looks_like_setting = _LOOKS_LIKE_SETTING.match(variable) and variable not in known
        if looks_like_setting and not _FOREIGN_VARIABLES.fullmatch(variable):
            similar = get_close_matches(variable.upper(), known, n=1, cutoff=_MIN_SIMILARITY)
            unknown[variable] = next(iter(similar), None)
    return unknown


class Setting(msgspec.Struct, frozen=True):
    """The description of one setting, as text."""

    name: str
    variable: str
    default: str
    allowed: str
    meaning: str
    hidden: bool


def every_setting() -> list[Setting]:
    """All settings, in the order in which they are documented."""
    defaults = Settings()
    settings = []
    for name, hint in get_type_hints(Settings, include_extras=True).items():
        kind, meaning, *marks = hint.__metadata__
        default = as_text(getattr(defaults, name))
        hidden = _HIDDEN in marks
        settings.append(Setting(name, _variable(name), default, kind.allowed, meaning, hidden))
    return settings


def is_set(variable: str, environment: Mapping[str, str]) -> bool:
    """Whether the variable has a value. An empty one counts as unset."""
    return bool(environment.get(variable, "").strip())


def as_text(value: object) -> str:
    """A setting's value as the text of its variable; empty if it is not set."""
    match value:
        case None | ():
            return ""
        case bool():
            return str(value).lower()
        case (ServiceRights() | str(), *_):
            return ",".join(map(str, value))
        case float():
            return f"{value:.10g}"
        case _:
            return str(value)


def _variable(name: str) -> str:
    return f"{_PREFIX}{name.upper()}"
