"""Parsers of the settings for authentication, and of URLs. Their errors never repeat a secret."""

import contextlib
import re
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from pulse.rights import (
    GATEWAY_NAME,
    GATEWAY_RIGHTS,
    RIGHTS,
    Right,
    ServiceRights,
    joined,
)
from pulse.secret import Secret, ServiceToken

MIN_TOKEN_CHARACTERS: Final = 32
MAX_TOKEN_CHARACTERS: Final = 512
MIN_SECRET_BYTES: Final = 32
MIN_RSA_BITS: Final = 2048
_MAX_CHARACTERS: Final = 255
_MAX_KEY_BYTES: Final = 64 * 1024

ALGORITHMS: Final = ("HS256", "RS256", "ES256", "EdDSA")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TOKEN = re.compile(rf"[A-Za-z0-9._~+/=-]{{{MIN_TOKEN_CHARACTERS},{MAX_TOKEN_CHARACTERS}}}")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ANONYMOUS: Final = "anonymous"
_KEYS: Final = ("jwt_secret", "jwt_public_key", "jwt_jwks_url")
_TOKEN_EXPECTED: Final = (
    f"{MIN_TOKEN_CHARACTERS} to {MAX_TOKEN_CHARACTERS} characters of A-Z a-z 0-9 . _ ~ + / = -"
)


def service_tokens(text: str) -> tuple[ServiceToken, ...]:
    """Parse `name:token` pairs, separated by commas. A name may have several tokens."""
    pairs = [_pair(number, pair.strip()) for number, pair in enumerate(text.split(","), start=1)]
    if len({pair.token for pair in pairs}) != len(pairs):
        raise ValueError("each token once")
    return tuple(pairs)


def _pair(number: int, pair: str) -> ServiceToken:
    name, _, token = pair.partition(":")
    if not _NAME.fullmatch(name) or name == _ANONYMOUS:
        raise ValueError(
            f"name:token pairs separated by commas, a name of A-Z a-z 0-9 . _ - up to 64 "
            f"characters and not {_ANONYMOUS} (see pair {number})"
        )
    if not _TOKEN.fullmatch(token):
        raise ValueError(
            f"in each name:token pair a token of {_TOKEN_EXPECTED} (see pair {number})"
        )
    return ServiceToken(name, Secret(token))


def service_rights(text: str) -> tuple[ServiceRights, ...]:
    """Parse `name=rights` pairs, separated by commas, such as `desk=read,risk=read+halt`."""
    pairs = [_rights(number, pair.strip()) for number, pair in enumerate(text.split(","), start=1)]
    names: set[str] = set()
    for number, pair in enumerate(pairs, start=1):
        if pair.name in names:
            raise ValueError(f"each name once (see pair {number})")
        names.add(pair.name)
    return tuple(pairs)


def _rights(number: int, pair: str) -> ServiceRights:
    name, separator, text = pair.partition("=")
    if not separator or not _NAME.fullmatch(name):
        raise ValueError(
            "name=rights pairs separated by commas, such as desk=read,ops=read+write+halt "
            f"(see pair {number})"
        )
    words = text.split("+")
    rights: frozenset[Right] = frozenset(right for right in RIGHTS if right in words)
    if len(rights) != len(words):
        raise ValueError(
            f"one or more of the rights {', '.join(RIGHTS)}, each once and joined by + "
            f"(see pair {number})"
        )
    return ServiceRights(name, rights)


def service_token(text: str) -> Secret:
    """Parse one service token."""
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"a token of {_TOKEN_EXPECTED}")
    return Secret(text)


def algorithm(text: str) -> str:
    """Parse the name of a signature algorithm."""
    if text not in ALGORITHMS:
        raise ValueError(f"one of {', '.join(ALGORITHMS)}")
    return text


def signing_secret(text: str) -> Secret:
    """Parse the secret for HS256."""
    expected = f"a random secret of at least {MIN_SECRET_BYTES} bytes of UTF-8, not a PEM key"
    try:
        secret = text.encode()
    except UnicodeEncodeError:
        raise ValueError(expected) from None
    if len(secret) < MIN_SECRET_BYTES or "-----BEGIN" in text:
        raise ValueError(expected)
    return Secret(text)


def public_key(text: str) -> str:
    """The PEM of a public key, given as PEM (line breaks may be escaped) or as a path."""
    pem = text.replace("\\n", "\n") if text.startswith("-----BEGIN") else _file(text)
    if "PRIVATE KEY" in pem:
        raise ValueError("a public key; this is a private one, which belongs to the issuer alone")
    try:
        load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("a public key as PEM, or the path of a file that contains one") from None
    return pem


def _file(path: str) -> str:
    """Read a regular file. A device or a pipe is refused, since it might never end."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        file = Path(path).expanduser()
        if file.is_file():
            with file.open("rb") as opened:
                return opened.read(_MAX_KEY_BYTES).decode("ascii")
    raise ValueError("a public key as PEM, or the path of a readable file that contains one")


def jwks_url(text: str) -> str:
    """Parse the URL of the issuer's keys: https, so that they cannot be altered in transit."""
    expected = "an https URL without user or fragment, or an http URL of this machine"
    url = _url(text, expected)
    if url.scheme == "http" and not _is_this_machine(url.hostname or ""):
        raise ValueError(expected)
    return text


def api_url(text: str) -> str:
    """Parse the root URL of a Pulse API."""
    expected = "the root of a Pulse API such as http://127.0.0.1:8001 or http://host:8000/pulse"
    if _url(text, expected).query:
        raise ValueError(expected)
    return text.rstrip("/")


def anchor_urls(text: str) -> tuple[str, ...]:
    """Parse the URLs to which checkpoints are posted."""
    urls = tuple(url.strip() for url in text.split(","))
    for url in urls:
        _url(url, "http or https URLs without user names, separated by commas")
    return urls


def _url(text: str, expected: str) -> SplitResult:
    try:
        url = urlsplit(text)
        is_complete = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:
        raise ValueError(expected) from None
    if not is_complete or url.username is not None or url.fragment:
        raise ValueError(expected)
    return url


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def issuer_or_audience(text: str) -> str:
    """Parse an issuer or an audience."""
    if len(text) > _MAX_CHARACTERS or _CONTROLS.search(text):
        raise ValueError(f"at most {_MAX_CHARACTERS} characters, none a control character")
    return text


def faults_of_rights(given: Collection[str], values: Mapping[str, Any]) -> list[str]:
    """Faults of PULSE_SERVICE_RIGHTS against the tokens. Has the arguments of `faults_between`."""
    if "service_tokens" in given and "service_tokens" not in values:
        return []
    known = {token.name for token in values.get("service_tokens", ())}
    faults = []
    for number, pair in enumerate(values.get("service_rights", ()), start=1):
        # a longer name may be a token in the wrong place
        shown = pair.name if len(pair.name) < MIN_TOKEN_CHARACTERS else f"the name of pair {number}"
        if pair.name not in known:
            faults.append(f"PULSE_SERVICE_RIGHTS: {shown} has no token in PULSE_SERVICE_TOKENS")
        elif pair.name == GATEWAY_NAME and not pair.rights >= GATEWAY_RIGHTS:
            faults.append(
                f"PULSE_SERVICE_RIGHTS: {GATEWAY_NAME} needs {joined(GATEWAY_RIGHTS)}, because it "
                "places, reads, lists and cancels the orders of its callers"
            )
    return faults


def faults_between(given: Collection[str], values: Mapping[str, Any]) -> list[str]:
    """Faults in the combination of settings: `given` are those set, `values` the valid ones."""
    keys = [key for key in _KEYS if key in given]
    if not keys:
        return []
    faults = [
        f"{_variable(missing)} is not set, but tokens are checked against it"
        for missing in ("jwt_audience", "jwt_issuer")
        if missing not in given
    ]
    if len(keys) > 1:
        faults.append(f"{' and '.join(map(_variable, keys))} are set: expected only one of them")
    if "jwt_algorithm" not in given or "jwt_algorithm" in values:
        faults += _faults_of_algorithm(keys[0], values)
    return faults


def _faults_of_algorithm(key: str, values: Mapping[str, Any]) -> list[str]:
    chosen = values.get("jwt_algorithm")
    if key == "jwt_secret":
        right = chosen in {None, "HS256"}
        return [] if right else ["PULSE_JWT_ALGORITHM: expected HS256 with PULSE_JWT_SECRET"]
    if chosen in {None, "HS256"}:
        return [f"PULSE_JWT_ALGORITHM: expected RS256, ES256 or EdDSA with {_variable(key)}"]
    if key in values and key == "jwt_public_key" and not _is_key_for(chosen, values[key]):
        return [f"PULSE_JWT_PUBLIC_KEY=***: expected a key for {chosen}, RSA of at least 2048 bits"]
    return []


def _is_key_for(chosen: str, pem: str) -> bool:
    key = load_pem_public_key(pem.encode())
    match chosen:
        case "RS256":
            return isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS
        case "ES256":
            return isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
        case _:
            return isinstance(key, Ed25519PublicKey)


def _variable(setting: str) -> str:
    return f"PULSE_{setting.upper()}"
