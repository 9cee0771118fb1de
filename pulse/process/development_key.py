"""The development key that signs gateway tokens on this machine, created in the data directory."""

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
    """This process has no key to sign tokens with."""


class KeyUnsafe(PulseError):
    """The development key cannot be created, read or trusted; the message says what to do."""


def has_key(settings: Settings) -> bool:
    """Whether a key to verify tokens is configured."""
    return any((settings.jwt_secret, settings.jwt_public_key, settings.jwt_jwks_url))


def with_development_key(settings: Settings, *, make: bool) -> Settings:
    """The settings plus the development key, if the key file exists and no key is configured.

    The issuer and audience are constants, so `pulse token` needs only the file. With `make` a
    missing key file is created.

    Raises:
        KeyUnsafe: the key cannot be created or read, other users can read it, or the process runs
            as root and other users may write the data directory.
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
        _create(file)
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
    """A token that a gateway with these settings accepts.

    Raises:
        NoSigningKey: the settings contain no secret to sign with.
        CallerUnnamable: the gateway would not accept this subject.
    """
    if settings.jwt_secret is None:
        raise NoSigningKey(
            "only the issuer has the private key: request a token there"
            if has_key(settings)
            else f"there is no development key in {settings.data_dir.absolute()}: start `pulse up` "
            "once, or set --data-dir or PULSE_DATA_DIR to its directory"
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


def _create(file: Path) -> None:
    """Write the key to a temporary file and hard-link it: only one process can create the link."""
    try:
        create_directories(file.parent)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=f".{file.name}.") as draft:
            draft.write(f"{secrets.token_hex(_KEY_BYTES)}\n")
            draft.flush()
            os.fsync(draft.fileno())
            with contextlib.suppress(FileExistsError):
                file.hardlink_to(draft.name)
    except OSError as error:
        raise KeyUnsafe(
            f"the development key {file} cannot be created ({error.strerror}): set PULSE_DATA_DIR "
            "to a directory that this user may write, or configure a key"
        ) from error


def create_directories(directory: Path) -> None:
    """Create missing directories with the embedded server's modes: 0700, or 0711 as root."""
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
            f"the development key {file} cannot be read ({error.strerror}): check PULSE_DATA_DIR"
        ) from error
    try:
        found = os.fstat(descriptor)
        text = os.read(descriptor, _MAX_BYTES) if stat.S_ISREG(found.st_mode) else b""
    finally:
        os.close(descriptor)
    key = text.decode("ascii", "replace").strip()
    if found.st_uid != os.geteuid() or found.st_mode & 0o077 or not _KEY.fullmatch(key):
        raise KeyUnsafe(
            f"the development key {file} is accessible to other users, or is not a key: remove it, "
            "and `pulse up` creates a new one"
        )
    return Secret(key)
