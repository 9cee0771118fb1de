"""The calls of the seal: checkpoint, tiles, entries, proofs."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tlog_scales.signing import Vkey
from tlog_scales.tlog import Checkpoint as OracleCheckpoint

from pulse.eventstore import EventStore
from pulse.evidence.anchors import read_anchors
from pulse.evidence.key_file import create_key_file
from pulse.metrics import REGISTRY
from pulse.settings import Settings
from tests.support.api import api_settings, serving
from tests.support.orders import BATCH, fault, order
from tests.support.seal import KEY
from tests.support.waiting import until

LOG = "/pulse/internal/log"


@pytest.fixture
def settings(conninfo: str, tmp_path: Path) -> Settings:
    create_key_file(tmp_path / "seal.key", KEY)
    return api_settings(
        conninfo,
        data_dir=tmp_path / "data",
        seal_key=tmp_path / "seal.key",
    )


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings) as client:
        yield client


async def sealed(api: httpx.AsyncClient, size: int) -> str:
    """The first checkpoint of at least this size."""
    found = ""

    async def is_sealed() -> bool:
        nonlocal found
        answer = await api.get(f"{LOG}/checkpoint")
        found = answer.text
        return answer.status_code == 200 and int(found.split("\n")[1]) >= size

    await until(is_sealed, f"{size} events are sealed")
    return found


async def seal_notices(api: httpx.AsyncClient) -> dict[str, bool]:
    """The notices about the seal, and whether each needs a person."""
    notices = (await api.get("/pulse/health/ready")).json()["notices"]
    return {n["code"]: n["needs_person"] for n in notices if "seal" in n["code"]}


async def test_events_are_sealed_while_they_come(api: httpx.AsyncClient) -> None:
    fault(await api.get(f"{LOG}/checkpoint"), 404, "NOT_FOUND")
    fault(await api.get(f"{LOG}/tile/0/000.p/1"), 404, "NOT_FOUND")
    orders = [order(order_unique_key=f"ouk_{n}") for n in range(150)]
    assert (await api.post(BATCH, json=orders)).status_code == 200
    note = await sealed(api, 300)
    checkpoint = OracleCheckpoint.from_text(note)
    checkpoint.verify(Vkey.from_string(str(KEY.verifier)))
    answer = await api.get(f"{LOG}/checkpoint")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    for path, size in (("0/000", 8192), ("0/001.p/44", 44 * 32), ("1/000.p/1", 32)):
        tile = await api.get(f"{LOG}/tile/{path}")
        assert (tile.status_code, len(tile.content)) == (200, size)
        assert tile.headers["content-type"] == "application/octet-stream"
        assert tile.headers["cache-control"] == "private, max-age=31536000, immutable"
    bundle = await api.get(f"{LOG}/tile/entries/000")
    assert bundle.content[2:14] == b'{"position":'
    proof = await api.get("/pulse/internal/events/1/proof")
    assert proof.headers["content-type"] == "text/plain; charset=utf-8"
    assert proof.text.startswith("c2sp.org/tlog-proof@v1\nindex 0\n")


async def test_a_tile_or_proof_that_does_not_exist_is_404(api: httpx.AsyncClient) -> None:
    await api.post(BATCH, json=[order()])
    await sealed(api, 2)
    for path in ("0/000", "0/000.p/200", "0/001.p/1", "entries/001", "9/000", "x", "0/1", "0//000"):
        answer = await api.get(f"{LOG}/tile/{path}")
        fault(answer, 404, "NOT_FOUND")
        assert answer.headers["cache-control"] == "no-store"
    for position in ("0", "999", "-1", "x", "1.5", "9" * 40):
        fault(await api.get(f"/pulse/internal/events/{position}/proof"), 404, "NOT_FOUND")
    fault(await api.get(f"{LOG}/checkpoint?x=1"), 400, "INVALID_REQUEST")
    head = await api.head(f"{LOG}/tile/entries/000.p/1")
    assert (head.status_code, head.content) == (200, b"")


async def test_readiness_says_that_the_log_is_not_sealed(conninfo: str, tmp_path: Path) -> None:
    settings = api_settings(conninfo, data_dir=tmp_path / "data")
    async with serving(settings) as api:
        assert await seal_notices(api) == {"not_sealed": False}


async def test_readiness_names_a_key_that_cannot_be_used(settings: Settings) -> None:
    assert settings.seal_key is not None
    await asyncio.to_thread(settings.seal_key.chmod, 0o644)
    async with serving(settings) as api:

        async def is_noticed() -> bool:
            return await seal_notices(api) == {"seal_key_unusable": True}

        await until(is_noticed, "the key is refused")
        for code, value in (("seal_key_unusable", 1), ("seal_diverged", 0)):
            labels = {"code": code, "needs_person": "true"}
            exported = await asyncio.to_thread(  # as a scrape does
                REGISTRY.get_sample_value, "pulse_process_notices", labels
            )
            assert exported == value


async def test_the_last_events_are_sealed_on_stop(
    settings: Settings, tmp_path: Path, store: EventStore
) -> None:
    async with serving(settings) as api:
        await api.post(BATCH, json=[order()])
    anchors = await asyncio.to_thread((tmp_path / "data" / "seal-anchors.txt").read_bytes)
    assert read_anchors(anchors, KEY.verifier)[-1].size == await store.end()
