"""Authentication settings: errors say what is expected, and never repeat a value."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from pulse.rights import ServiceRights
from pulse.secret import Secret, ServiceToken
from pulse.settings import Settings, SettingsError, as_text
from tests.support.tokens import Signer, new_signer, signer_of

TOKEN, OTHER_TOKEN = "s3cret" + "t" * 26, "s3cret" + "u" * 26
SECRET = "s3cret" + "s" * 26
IDENTITY = {"PULSE_JWT_AUDIENCE": "pulse", "PULSE_JWT_ISSUER": "https://issuer.example"}
RSA, EC, ED = (signer_of(algorithm) for algorithm in ("RS256", "ES256", "EdDSA"))


def faults_of(**environment: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment(environment)
    assert all(fault in str(refused.value) for fault in refused.value.faults)
    return refused.value.faults


def test_service_tokens_are_read_and_never_shown() -> None:
    text = f"desk:{TOKEN}, desk:{OTHER_TOKEN},gateway:{'g' * 512}"
    settings = Settings.from_environment({"PULSE_SERVICE_TOKENS": text})
    assert settings.service_tokens == (
        ServiceToken("desk", Secret(TOKEN)),
        ServiceToken("desk", Secret(OTHER_TOKEN)),
        ServiceToken("gateway", Secret("g" * 512)),
    )
    assert "s3cret" not in f"{settings} {settings!r} {settings.service_tokens}"


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        f":{TOKEN}",
        "desk:",
        "desk:s3cret",
        f"desk:{TOKEN[:31]}",
        f"desk:{'s3cret' * 100}",
        f"desk:{TOKEN},",
        f"desk:{TOKEN},desk",
        f"desk:{TOKEN},other:{TOKEN}",
        f"desk:{TOKEN},desk:{TOKEN}",
        f"desk:{TOKEN} s3cret",
        f"desk|s3cret:{TOKEN}",
        f"s3cret s3cret:{TOKEN}",
        f"anonymous:{TOKEN}",
        f"desk:{TOKEN}é",
        f"{'d' * 65}:{TOKEN}",
    ],
)
def test_wrong_service_tokens_are_refused_without_being_repeated(text: str) -> None:
    (fault,) = faults_of(PULSE_SERVICE_TOKENS=text)
    assert "PULSE_SERVICE_TOKENS=***: expected" in fault
    assert "s3cret" not in fault
    assert "ddd" not in fault


def tokens(*names: str) -> str:
    return ",".join(f"{name}:{name.ljust(32, '-')}" for name in names)


def rights_of(text: str, *names: str) -> tuple[ServiceRights, ...]:
    environment = {"PULSE_SERVICE_RIGHTS": text, "PULSE_SERVICE_TOKENS": tokens(*names)}
    return Settings.from_environment(environment).service_rights


def test_rights_of_services_are_read_and_shown() -> None:
    text = "a=read, b=read+write,c=halt+write+read ,d=write"
    rights = rights_of(text, "a", "b", "c", "d", "e")
    assert rights == (
        ServiceRights("a", frozenset({"read"})),
        ServiceRights("b", frozenset({"read", "write"})),
        ServiceRights("c", frozenset({"read", "write", "halt"})),
        ServiceRights("d", frozenset({"write"})),
    )
    assert as_text(rights) == "a=read,b=read+write,c=read+write+halt,d=write"


def test_unset_rights_are_the_default_ones() -> None:
    assert rights_of("", "a") == rights_of("  ", "a") == ()


def test_the_gateway_may_have_its_rights_named() -> None:
    for text in ("gateway=read+write", "gateway=read+write+halt"):
        assert str(rights_of(text, "gateway")[0]) == text


RIGHTS_EXPECTED = "expected one or more of the rights read, write, halt, each once and joined by +"
PAIRS_EXPECTED = "expected name=rights pairs separated by commas"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("desk=wirte", f"{RIGHTS_EXPECTED} (see pair 1)"),
        ("a=read,desk=s3cret", f"{RIGHTS_EXPECTED} (see pair 2)"),
        ("desk=READ", f"{RIGHTS_EXPECTED} (see pair 1)"),
        ("desk=", f"{RIGHTS_EXPECTED} (see pair 1)"),
        ("desk=+", f"{RIGHTS_EXPECTED} (see pair 1)"),
        ("desk=read+", f"{RIGHTS_EXPECTED} (see pair 1)"),
        ("desk=read+read", f"{RIGHTS_EXPECTED} (see pair 1)"),
        ("desk=read + write", f"{RIGHTS_EXPECTED} (see pair 1)"),
        ("desk=read=write", f"{RIGHTS_EXPECTED} (see pair 1)"),
        ("desk=read|write", f"{RIGHTS_EXPECTED} (see pair 1)"),
        ("desk", PAIRS_EXPECTED),
        (",", PAIRS_EXPECTED),
        ("desk=read,", PAIRS_EXPECTED),
        ("=read", PAIRS_EXPECTED),
        ("de sk=read", PAIRS_EXPECTED),
        (f"desk:{TOKEN}", PAIRS_EXPECTED),
        ("desk=read,a=read,desk=write", "expected each name once (see pair 3)"),
        ("desk=read,desk=read", "expected each name once (see pair 2)"),
    ],
)
def test_wrong_rights_are_refused_without_being_repeated(text: str, message: str) -> None:
    (fault,) = faults_of(PULSE_SERVICE_RIGHTS=text, PULSE_SERVICE_TOKENS=tokens("desk", "a"))
    assert "PULSE_SERVICE_RIGHTS=***: " in fault
    assert message in fault
    assert "s3cret" not in fault


@pytest.mark.parametrize("given", ["", tokens("a")], ids=["no tokens", "other tokens"])
def test_rights_without_a_token_are_refused(given: str) -> None:
    faults = faults_of(PULSE_SERVICE_RIGHTS="desk=read,ops=halt", PULSE_SERVICE_TOKENS=given)
    assert faults == tuple(
        f"  PULSE_SERVICE_RIGHTS: {name} has no token in PULSE_SERVICE_TOKENS"
        for name in ("desk", "ops")
    )


def test_a_token_in_the_place_of_a_name_is_not_repeated() -> None:
    (fault,) = faults_of(PULSE_SERVICE_RIGHTS=f"{TOKEN}=read", PULSE_SERVICE_TOKENS=tokens("a"))
    assert fault == (
        "  PULSE_SERVICE_RIGHTS: the name of pair 1 has no token in PULSE_SERVICE_TOKENS"
    )


@pytest.mark.parametrize("rights", ["read", "write", "halt", "read+halt"])
def test_the_gateway_needs_to_read_and_write(rights: str) -> None:
    text = f"gateway={rights}"
    (fault,) = faults_of(PULSE_SERVICE_RIGHTS=text, PULSE_SERVICE_TOKENS=tokens("gateway"))
    assert "PULSE_SERVICE_RIGHTS: gateway needs read+write, because" in fault


def test_rights_of_a_wrong_token_cause_no_second_fault() -> None:
    (fault,) = faults_of(PULSE_SERVICE_RIGHTS="desk=read", PULSE_SERVICE_TOKENS="desk:short")
    assert "PULSE_SERVICE_TOKENS=***" in fault


@pytest.mark.parametrize("text", ["s3cret", f"{TOKEN} x", "s3cret" * 100, f"gateway:{TOKEN}"])
def test_a_wrong_token_of_the_gateway_is_refused_without_being_repeated(text: str) -> None:
    (fault,) = faults_of(PULSE_GATEWAY_SERVICE_TOKEN=text)
    assert "PULSE_GATEWAY_SERVICE_TOKEN=***: expected" in fault
    assert "s3cret" not in fault


def test_a_shared_secret_means_hs256() -> None:
    settings = Settings.from_environment({**IDENTITY, "PULSE_JWT_SECRET": SECRET})
    assert settings.jwt_secret == Secret(SECRET)
    assert settings.jwt_algorithm is None
    assert SECRET not in repr(settings)
    same = {**IDENTITY, "PULSE_JWT_SECRET": SECRET, "PULSE_JWT_ALGORITHM": "HS256"}
    assert Settings.from_environment(same).jwt_algorithm == "HS256"


@pytest.mark.parametrize("signer", [RSA, EC, ED], ids=lambda signer: signer.algorithm)
@pytest.mark.parametrize("form", ["text", "one line", "file"])
def test_a_public_key_is_a_text_or_a_file(signer: Signer, form: str, tmp_path: Path) -> None:
    pem = signer.public_pem or ""
    (tmp_path / "key.pem").write_text(pem)
    forms = {"text": pem, "one line": pem.replace("\n", "\\n"), "file": str(tmp_path / "key.pem")}
    settings = Settings.from_environment(
        {
            **IDENTITY,
            "PULSE_JWT_ALGORITHM": signer.algorithm,
            "PULSE_JWT_PUBLIC_KEY": forms[form],
        }
    )
    assert (settings.jwt_public_key or "").strip() == pem.strip()


def private_pem(signer: Signer) -> str:
    pem: bytes = signer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode()


def test_a_private_key_is_refused_without_being_repeated(tmp_path: Path) -> None:
    pem = private_pem(RSA)
    (tmp_path / "key.pem").write_text(pem)
    for given in (pem, str(tmp_path / "key.pem")):
        (fault,) = faults_of(**IDENTITY, PULSE_JWT_PUBLIC_KEY=given, PULSE_JWT_ALGORITHM="RS256")
        assert "a private one" in fault
        assert pem[40:80] not in fault


def weak() -> str:
    key = rsa.generate_private_key(65_537, 1024).public_key()  # noqa: S505 - weak on purpose
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def curve_384() -> str:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize(
    ("algorithm", "pem"),
    [
        ("RS256", EC.public_pem),
        ("RS256", weak()),
        ("ES256", RSA.public_pem),
        ("ES256", ED.public_pem),
        ("ES256", curve_384()),
        ("EdDSA", EC.public_pem),
    ],
)
def test_a_key_must_fit_its_algorithm(algorithm: str, pem: str) -> None:
    (fault,) = faults_of(**IDENTITY, PULSE_JWT_ALGORITHM=algorithm, PULSE_JWT_PUBLIC_KEY=pem)
    assert f"PULSE_JWT_PUBLIC_KEY=***: expected a key for {algorithm}" in fault


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"PULSE_JWT_SECRET": SECRET[:31]}, "PULSE_JWT_SECRET=***: expected"),
        ({"PULSE_JWT_SECRET": new_signer("RS256").public_pem}, "PULSE_JWT_SECRET=***: expected"),
        ({"PULSE_JWT_SECRET": SECRET, "PULSE_JWT_ALGORITHM": "RS256"}, "expected HS256"),
        ({"PULSE_JWT_SECRET": SECRET, "PULSE_JWT_ALGORITHM": "none"}, "PULSE_JWT_ALGORITHM='none'"),
        ({"PULSE_JWT_ALGORITHM": "hs256"}, "expected one of HS256, RS256, ES256, EdDSA"),
        ({"PULSE_JWT_PUBLIC_KEY": RSA.public_pem}, "expected RS256, ES256 or EdDSA"),
        (
            {"PULSE_JWT_PUBLIC_KEY": RSA.public_pem, "PULSE_JWT_ALGORITHM": "HS256"},
            "expected RS256, ES256 or EdDSA",
        ),
        ({"PULSE_JWT_PUBLIC_KEY": "/nowhere/s3cret.pem"}, "PULSE_JWT_PUBLIC_KEY=***"),
        ({"PULSE_JWT_PUBLIC_KEY": "-----BEGIN s3cret"}, "PULSE_JWT_PUBLIC_KEY=***"),
        ({"PULSE_JWT_PUBLIC_KEY": "/dev/zero"}, "PULSE_JWT_PUBLIC_KEY=***"),
        ({"PULSE_JWT_PUBLIC_KEY": "/"}, "PULSE_JWT_PUBLIC_KEY=***"),
        ({"PULSE_JWT_JWKS_URL": "http://issuer.example/keys"}, "expected an https URL"),
        ({"PULSE_JWT_JWKS_URL": "file:///etc/passwd"}, "expected an https URL"),
        ({"PULSE_JWT_JWKS_URL": "https://"}, "expected an https URL"),
        ({"PULSE_JWT_JWKS_URL": "https://me:s3cret@i.example/keys"}, "expected an https URL"),
        ({"PULSE_API_BASE_URL": "http://me:s3cret@pulse"}, "expected the root of a Pulse API"),
        ({"PULSE_JWT_ISSUER": "a\nb"}, "none a control character"),
        ({"PULSE_JWT_AUDIENCE": "a" * 256}, "at most 255 characters"),
        ({"PULSE_API_BASE_URL": "pulse:8001"}, "expected the root of a Pulse API"),
        ({"PULSE_API_BASE_URL": "http://pulse:port"}, "expected the root of a Pulse API"),
        ({"PULSE_API_BASE_URL": "http://pulse?x=1"}, "expected the root of a Pulse API"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else value,
)
def test_wrong_settings_of_identity_are_named(variables: dict[str, str], named: str) -> None:
    faults = faults_of(**{**IDENTITY, **variables})
    assert any(named in fault for fault in faults)
    assert "s3cret" not in " ".join(faults)


def test_settings_that_require_another_one_are_named_with_all_other_errors() -> None:
    faults = faults_of(
        PULSE_JWT_SECRET=SECRET, PULSE_JWT_JWKS_URL="https://i.example/keys", PULSE_PORT="x"
    )
    assert len(faults) == 4
    for named in (
        "PULSE_PORT",
        "PULSE_JWT_AUDIENCE is not set",
        "PULSE_JWT_ISSUER is not set",
        "PULSE_JWT_SECRET and PULSE_JWT_JWKS_URL are set: expected only one of them",
    ):
        assert any(named in fault for fault in faults)


def test_urls_of_keys_and_of_pulse_are_accepted() -> None:
    settings = Settings.from_environment(
        {
            **IDENTITY,
            "PULSE_JWT_JWKS_URL": "http://127.0.0.1:9/keys?tenant=1",
            "PULSE_JWT_ALGORITHM": "EdDSA",
            "PULSE_API_BASE_URL": "http://pulse.example:8000/pulse/",
        }
    )
    assert settings.jwt_jwks_url == "http://127.0.0.1:9/keys?tenant=1"
    assert settings.api_base_url == "http://pulse.example:8000/pulse"
