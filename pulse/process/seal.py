"""The seal of a process: which key it signs with, and where its checkpoints are kept."""

import secrets
from pathlib import Path
from typing import Final

import msgspec

from pulse.evidence.anchors import AnchorFile, Anchors, AnchorUnusable
from pulse.evidence.key_file import KeyFileUnusable, create_key_file, read_key_file
from pulse.evidence.note import SigningKey, VerifierKey
from pulse.evidence.seal_checks import Trust
from pulse.evidence.sealer import Sealer
from pulse.postgres import Database
from pulse.postgres.embedded import EmbeddedServerError, refuse_writable_by_others
from pulse.process.development_key import create_directories
from pulse.settings import Settings

DEVELOPMENT_KEY: Final = "seal-development.key"
ANCHORS: Final = "seal-anchors.txt"


def with_seal_key(settings: Settings) -> Settings:
    """The settings plus the development key of the seal, which is created if it is missing.

    Unchanged if PULSE_SEAL_KEY or PULSE_DATABASE_URL is set. The origin of the key has a random
    part, since two logs must not have the same name.

    Raises:
        KeyFileUnusable: the key cannot be created, or the process runs as root and other users may
            write the data directory.
    """
    file = settings.data_dir / DEVELOPMENT_KEY
    if settings.seal_key is not None or settings.database_url is not None:
        return settings
    try:
        refuse_writable_by_others(settings.data_dir)
        create_directories(settings.data_dir)
    except EmbeddedServerError as error:
        raise KeyFileUnusable(str(error)) from error
    except OSError as error:
        raise KeyFileUnusable(
            f"the data directory {settings.data_dir} cannot be created ({error.strerror}): set "
            "PULSE_DATA_DIR to a directory that this user may write"
        ) from error
    if not file.exists():
        create_key_file(file, SigningKey.generate(f"pulse.invalid/{secrets.token_hex(8)}"))
    return msgspec.structs.replace(settings, seal_key=file)


def seal_key_file(settings: Settings) -> Path | None:
    """The file of the key that this process signs with; None if it does not seal."""
    if settings.seal_key is not None:
        return settings.seal_key
    development = settings.data_dir / DEVELOPMENT_KEY
    return development if settings.database_url is None and development.exists() else None


def anchor_file(settings: Settings) -> AnchorFile:
    """The file to which checkpoints are appended."""
    return AnchorFile(settings.anchor_file or settings.data_dir / ANCHORS)


def trust_of(settings: Settings, key: str | None = None, anchors: Path | None = None) -> Trust:
    """What the seal is checked against: this key and file, or else those of the settings.

    `key` is a verifier key. The anchor file of the settings may be missing, and their key file
    missing or unreadable.

    Raises:
        NoteInvalid: `key` is not a verifier key.
        AnchorUnusable: the file cannot be read.
    """
    trusted = VerifierKey.parse(key) if key is not None else own_verifier(settings)
    file = anchors or anchor_file(settings).path
    try:
        return Trust(trusted, file.read_bytes())
    except FileNotFoundError as error:
        if anchors is None:
            return Trust(trusted)
        raise AnchorUnusable(f"{file} cannot be read: {error.strerror}") from error
    except OSError as error:
        raise AnchorUnusable(f"{file} cannot be read: {error.strerror}") from error


def own_verifier(settings: Settings) -> VerifierKey | None:
    """The public part of the key that this process signs with; None if it has no readable key."""
    file = seal_key_file(settings)
    try:
        return read_key_file(file).verifier if file is not None else None
    except KeyFileUnusable:
        return None


def sealer_of(settings: Settings, database: Database) -> tuple[Sealer, Anchors] | None:
    """The sealer of this process with its anchors; None if it has no key."""
    file = seal_key_file(settings)
    if file is None:
        return None
    anchors = Anchors(anchor_file(settings), settings.anchor_urls)
    return Sealer(database, lambda: read_key_file(file), anchors), anchors
