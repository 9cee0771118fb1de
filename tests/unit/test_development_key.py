"""The development key: created once, readable by its user alone, refused if others can read it."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import msgspec
import pytest

from pulse.application.callers import CallerUnnamable
from pulse.process.development_key import (
    KEY_FILE,
    KeyUnsafe,
    NoSigningKey,
    mint_token,
    with_development_key,
)
from pulse.settings import Settings
from tests.support.tokens import signer_of


def made(data_dir: Path) -> Settings:
    return with_development_key(Settings(data_dir=data_dir), make=True)


def test_the_key_is_created_once_and_found_again(tmp_path: Path) -> None:
    first = made(tmp_path / "a" / "data")
    assert first.jwt_secret is not None
    assert len(first.jwt_secret.reveal()) == 64
    assert made(tmp_path / "a" / "data") == first
    again = Settings(data_dir=tmp_path / "a" / "data", jwt_issuer="x", jwt_audience="y")
    assert with_development_key(again, make=False) == first
    assert made(tmp_path / "b").jwt_secret != first.jwt_secret


def test_only_its_user_can_read_the_key_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        made(tmp_path / "data")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "data" / KEY_FILE).stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "data").iterdir()] == [KEY_FILE]


def test_of_many_concurrent_creators_one_wins(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        keys = {s.jwt_secret for s in pool.map(made, [tmp_path / "data"] * 16)}
    assert len(keys) == 1
    assert len(list((tmp_path / "data").iterdir())) == 1


def test_no_key_is_created_unless_requested(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    assert with_development_key(settings, make=False) == settings
    assert not (tmp_path / "data").exists()
    with pytest.raises(NoSigningKey, match="start `pulse up` once"):
        mint_token(settings, "alice", [], 1)


def test_a_configured_key_is_the_only_one(tmp_path: Path) -> None:
    made(tmp_path)
    for algorithm in ("HS256", "RS256"):
        settings = msgspec.structs.replace(signer_of(algorithm).settings, data_dir=tmp_path)
        assert with_development_key(settings, make=True) == settings


@pytest.mark.parametrize("defect", ["readable", "short", "a link", "a directory", "a pipe"])
def test_a_file_that_cannot_be_trusted_is_refused(tmp_path: Path, defect: str) -> None:
    file = tmp_path / KEY_FILE
    if defect == "a link":
        (tmp_path / "elsewhere").write_text("k" * 64)
        (tmp_path / "elsewhere").chmod(0o600)
        file.symlink_to(tmp_path / "elsewhere")
    elif defect == "a directory":
        file.mkdir(0o700)
    elif defect == "a pipe":
        os.mkfifo(file, 0o600)
    else:
        file.write_text("k" * (64 if defect == "readable" else 8))
        file.chmod(0o640 if defect == "readable" else 0o600)
    with pytest.raises(KeyUnsafe) as refused:
        made(tmp_path)
    assert "kkkk" not in str(refused.value)


def test_a_token_has_the_requested_claims(tmp_path: Path) -> None:
    settings = made(tmp_path)
    assert settings.jwt_secret is not None
    token = mint_token(settings, "alice", ["orders:read", "orders:write"], 60)
    key = settings.jwt_secret.reveal()
    claims = jwt.decode(token, key, ["HS256"], audience=settings.jwt_audience)
    assert (claims["sub"], claims["scope"]) == ("alice", "orders:read orders:write")
    assert (claims["iss"], claims["exp"] - claims["iat"]) == ("pulse-development", 60)
    for subject in ("", "a\n", "a" * 256):
        with pytest.raises(CallerUnnamable):
            mint_token(settings, subject, [], 60)
