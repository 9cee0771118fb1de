"""Token issuers for every algorithm, and forged tokens."""

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pulse.secret import Secret
from pulse.settings import Settings
from tests.support.api import FEW_CONNECTIONS

ISSUER: Final = "https://issuer.example"
AUDIENCE: Final = "https://pulse.example"
BOTH: Final = "orders:write orders:read"
ALGORITHMS: Final = ("HS256", "RS256", "ES256", "EdDSA")

SERVICE_TOKEN: Final = "a-service-token-of-the-tests-" + "x" * 20


@dataclass(frozen=True)
class Signer:
    """Signs with one key by one algorithm."""

    algorithm: str
    key: Any
    public_pem: str | None = None

    @property
    def settings(self) -> Settings:
        """Settings of a gateway that accepts only this issuer's tokens."""
        return Settings(
            **FEW_CONNECTIONS,
            jwt_algorithm=self.algorithm,
            jwt_secret=Secret(self.key) if self.public_pem is None else None,
            jwt_public_key=self.public_pem,
            jwt_audience=AUDIENCE,
            jwt_issuer=ISSUER,
            rate_limit_per_second=0,  # no limit
        )

    @property
    def process_settings(self) -> dict[str, object]:
        """The same for a process, with its default rate limit; for HS256 only."""
        return {"jwt_secret": self.key, "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}

    def token(
        self, *, algorithm: str | None = None, headers: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A valid token, except for these claims; None leaves a claim out."""
        return jwt.encode(
            claims_with(**claims), self.key, algorithm or self.algorithm, headers=headers
        )


def claims_with(**changes: Any) -> dict[str, Any]:
    """The claims of a valid token with these changes; None leaves a claim out."""
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "exp": int(time.time()) + 3600,  # longer than the whole suite runs
        "scope": BOTH,
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


def new_signer(algorithm: str) -> Signer:
    """An issuer with a new key."""
    if algorithm == "HS256":
        return Signer(algorithm, hashlib.sha256(str(time.perf_counter_ns()).encode()).hexdigest())
    private: Any = {
        "RS256": lambda: rsa.generate_private_key(65_537, 2048),
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
    }[algorithm]()
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return Signer(algorithm, private, pem.decode())


@cache
def signer_of(algorithm: str) -> Signer:
    """The issuer of this algorithm that the tests' gateways trust."""
    return new_signer(algorithm)


@cache
def untrusted_signer_of(algorithm: str) -> Signer:
    """An issuer that no gateway trusts."""
    return new_signer(algorithm)


def encoded(part: Any) -> str:
    """A segment of a token: bytes unchanged, other values as JSON."""
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forged_token(header: Any, claims: Any, secret: bytes | None) -> str:
    """A token with any header and claims, signed with HMAC-SHA-256, or unsigned without secret."""
    signed = f"{encoded(header)}.{encoded(claims)}"
    if secret is None:
        return f"{signed}."
    return f"{signed}.{encoded(hmac.digest(secret, signed.encode(), 'sha256'))}"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
