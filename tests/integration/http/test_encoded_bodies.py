"""Bodies with a byte order mark or a content encoding are refused."""

import codecs
import gzip
import json

import httpx
import pytest

from tests.support.gateway import Served
from tests.support.orders import JSON, fault, order
from tests.support.tokens import bearer

PATHS = [
    *("internal/orders", "internal/orders/", "internal/orders/batch", "internal/orders/preview"),
    *("api/orders", "api/orders/"),
]


@pytest.fixture(scope="module")
def apps(apps: Served) -> Served:
    apps.gateway.headers.update(bearer(apps.signer.token(sub="alice")))
    return apps


def client_of(apps: Served, path: str) -> httpx.AsyncClient:
    return apps.gateway if path.startswith("api") else apps.api


def content_for(path: str) -> str:
    return json.dumps([order()] if path.endswith("batch") else order())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "content_encoding", ["gzip", "GZIP", "br", "deflate", "zstd", "identity, gzip", "x\u00e9"]
)
async def test_a_content_encoding_is_named(apps: Served, path: str, content_encoding: str) -> None:
    response = await client_of(apps, path).post(
        path,
        content=gzip.compress(content_for(path).encode()),
        headers=[
            (b"content-type", b"application/json"),
            (b"content-encoding", content_encoding.encode("latin-1")),
        ],
    )
    details = fault(response, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert details["expected"] == "no Content-Encoding, or identity"
    said = response.json()["error"]["message"]
    assert ascii(content_encoding)[1:-1] in said
    assert "Content-Encoding" in said


@pytest.mark.parametrize("path", PATHS)
async def test_a_second_content_encoding_header_is_refused(apps: Served, path: str) -> None:
    response = await client_of(apps, path).post(
        path,
        content=content_for(path),
        headers=[*JSON.items(), ("content-encoding", "identity"), ("content-encoding", "gzip")],
    )
    fault(response, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("content_encoding", ["identity", "Identity", ""])
async def test_an_encoding_that_changes_nothing_is_accepted(
    apps: Served, path: str, content_encoding: str
) -> None:
    response = await client_of(apps, path).post(
        path, content=content_for(path), headers={**JSON, "content-encoding": content_encoding}
    )
    assert response.is_success, response.text


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
    ids=str,
)
async def test_a_byte_order_mark_is_named(
    apps: Served, path: str, mark: bytes, encoding: str
) -> None:
    response = await client_of(apps, path).post(
        path, content=mark + content_for(path).encode(encoding), headers=JSON
    )
    details = fault(response, 400, "INVALID_REQUEST")
    assert details["expected"] == "JSON in UTF-8 without a byte order mark"
    assert "byte order mark: remove it" in response.json()["error"]["message"]
