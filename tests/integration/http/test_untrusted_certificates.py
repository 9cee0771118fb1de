"""A server of an https address whose certificate is not trusted receives no request."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pulse.application.callers import Caller
from pulse.application.over_http import PulseUnavailable, open_orders_over_http
from pulse.domain import order_id_for
from tests.support.gateway import FakePulse, gateway_in_front_of
from tests.support.orders import fault, order
from tests.support.tokens import ISSUER, bearer, signer_of


class Impostor:
    """A TLS server on the loopback address with a certificate that it signed itself."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.received: list[bytes] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Keep what the client sends after the handshake."""
        self.received.append(await reader.readline())
        writer.close()


@pytest.fixture
async def impostor(tmp_path: Path) -> AsyncIterator[Impostor]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path / "server.pem"))
    found = Impostor()

    def counted(*_: object) -> None:
        found.connections += 1

    context.sni_callback = counted
    server = await asyncio.start_server(found.answer, "localhost", 0, ssl=context)
    found.port = server.sockets[0].getsockname()[1]
    async with server:
        yield found


def self_signed(path: Path) -> Path:
    """Write a key and its certificate for the loopback addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(pem))
    return path


@pytest.mark.parametrize("scheme", ["https", "HTTPS"])
async def test_an_impostor_of_the_api_receives_no_request(impostor: Impostor, scheme: str) -> None:
    async with open_orders_over_http(f"{scheme}://localhost:{impostor.port}", "secret") as orders:
        with pytest.raises(PulseUnavailable):
            await orders.order(order_id_for("x", "1"), Caller.of_token(ISSUER, "alice"))
    assert impostor.connections > 0
    assert impostor.received == []


async def test_an_impostor_of_the_issuer_receives_no_request(impostor: Impostor) -> None:
    signer = signer_of("ES256")
    settings = msgspec.structs.replace(
        signer.settings,
        jwt_public_key=None,
        jwt_jwks_url=f"https://localhost:{impostor.port}/keys",
    )
    async with gateway_in_front_of(httpx.MockTransport(FakePulse()), settings) as client:
        token = signer.token(headers={"kid": "first"})
        response = await client.post("/api/orders", json=order(), headers=bearer(token))
        fault(response, 503, "UNAVAILABLE")
    assert impostor.connections > 0
    assert impostor.received == []
