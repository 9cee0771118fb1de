"""A development key for the gateway's tokens: made in the data directory, for this machine."""

import contextlib
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import jwt
import msgspec

from pulse.application.callers import Caller
from pulse.errors import PulseError
from pulse.postgres.embedded import EmbeddedServerError, refuse_writable_by_others
from pulse.secret import Secret
from pulse.settings import Settings

DEVELOPMENT_ISSUER: Final = "pulse-development"
DEVELOPMENT_AUDIENCE: Final = "pulse-gateway"
KEY_FILE: Final = "gateway-development.key"
_KEY_BYTES: Final = 32
_KEY: Final = re.compile(f"[0-9a-f]{{{2 * _KEY_BYTES}}}")
_MAX_BYTES: Final = 1024


class NoSigningKey(PulseError):
    """There is no key here that tokens could be signed with."""


class KeyUnsafe(PulseError):
    """The development key cannot be made, read or trusted; the text says what to do."""


def has_key(settings: Settings) -> bool:
    """Whether a key for tokens is configured."""
    return any((settings.jwt_secret, settings.jwt_public_key, settings.jwt_jwks_url))


def with_development_key(settings: Settings, *, make: bool) -> Settings:
    """The settings with the development key, where none is configured and one is there.

    Its issuer and audience are always the same, so `pulse token` needs to know the file alone.
    `make`: a key that is not there is made.

    Raises:
        KeyUnsafe: it cannot be made or read, others can read it, or, as root, others may write
            the data directory.
    """
    if has_key(settings):
        return settings
    file = settings.data_dir / KEY_FILE
    try:
        refuse_writable_by_others(settings.data_dir)
    except EmbeddedServerError as error:
        raise KeyUnsafe(str(error)) from error
    key = _read(file)
    if key is None and make:
        _make(file)
        key = _read(file)
    if key is None:
        return settings
    return msgspec.structs.replace(
        settings,
        jwt_algorithm="HS256",
        jwt_secret=key,
        jwt_audience=DEVELOPMENT_AUDIENCE,
        jwt_issuer=DEVELOPMENT_ISSUER,
    )


def mint_token(
    settings: Settings, subject: str, scopes: Sequence[str], lifetime_seconds: int
) -> str:
    """A token that a gateway with these settings takes.

    Raises:
        NoSigningKey: the settings hold no secret to sign with.
        CallerUnnamable: the gateway would not take such a subject.
    """
    if settings.jwt_secret is None:
        raise NoSigningKey(
            "the private key is the issuer's: ask it for a token"
            if has_key(settings)
            else f"there is no development key in {settings.data_dir.absolute()}: start `pulse up` "
            "once, or name its directory with --data-dir or PULSE_DATA_DIR"
        )
    Caller.of_token(settings.jwt_issuer or "", subject)
    now = int(time.time())
    claims = {
        "iss": settings.jwt_issuer,
        "aud": settings.jwt_audience,
        "sub": subject,
        "iat": now,
        "exp": now + lifetime_seconds,
        "scope": " ".join(scopes),
    }
    return jwt.encode(claims, settings.jwt_secret.reveal(), algorithm="HS256")


def _make(file: Path) -> None:
    """Make the key under another name and link it in whole, so that of two makers one wins."""
    try:
        _make_directories(file.parent)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=f".{file.name}.") as draft:
            draft.write(f"{secrets.token_hex(_KEY_BYTES)}\n")
            draft.flush()
            os.fsync(draft.fileno())
            with contextlib.suppress(FileExistsError):
                file.hardlink_to(draft.name)
    except OSError as error:
        raise KeyUnsafe(
            f"the development key {file} cannot be made ({error.strerror}): set PULSE_DATA_DIR to "
            "a directory that this user may write, or configure a key"
        ) from error


def _make_directories(directory: Path) -> None:
    """As the embedded server makes them: private, but root's may be passed through."""
    mode = 0o711 if os.geteuid() == 0 else 0o700
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode, exist_ok=True)


def _read(file: Path) -> Secret | None:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyUnsafe(
            f"the development key {file} cannot be read ({error.strerror}): see to PULSE_DATA_DIR"
        ) from error
    try:
        found = os.fstat(descriptor)
        text = os.read(descriptor, _MAX_BYTES) if stat.S_ISREG(found.st_mode) else b""
    finally:
        os.close(descriptor)
    key = text.decode("ascii", "replace").strip()
    if found.st_uid != os.geteuid() or found.st_mode & 0o077 or not _KEY.fullmatch(key):
        raise KeyUnsafe(
            f"the development key {file} is not this user's alone, or is no key: remove it, and "
            "`pulse up` makes a new one"
        )
    return Secret(key)
