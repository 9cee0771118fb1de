"""Anchors at URLs: posted in the background and retried for a while, without delaying the seal."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pulse.evidence.anchors import AnchorFile, Anchors
from tests.support.event_streams import served
from tests.support.log import running
from tests.support.waiting import until


class Receiver:
    """Receives anchors as an ASGI application; answers with `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.received: list[str] = []
        self.let_pass = asyncio.Event()
        self.let_pass.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body, more = body + message["body"], message.get("more_body", False)
        await self.let_pass.wait()
        assert scope["method"] == "POST"
        assert dict(scope["headers"])[b"content-type"] == b"text/plain; charset=utf-8"
        self.received.append(body.decode())
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@asynccontextmanager
async def posting(receiver: Receiver, file: Path) -> AsyncIterator[Anchors]:
    async with served(receiver) as url:
        anchors = Anchors(AnchorFile(file), [f"{url}/secret-path"])
        async with running(anchors.run):
            yield anchors


async def test_checkpoints_are_posted(receiver: Receiver, tmp_path: Path) -> None:
    async with posting(receiver, tmp_path / "anchors.txt") as anchors:

        async def has_first() -> bool:
            return receiver.received == ["first"]

        await anchors.keep("first")
        await until(has_first, "the first arrives")
        await anchors.keep("second")

        async def has_both() -> bool:
            return receiver.received == ["first", "second"]

        await until(has_both, "the second arrives")
        assert anchors.faults == ()


async def test_a_slow_receiver_delays_nothing_and_gets_the_newest(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.let_pass.clear()
    async with posting(receiver, tmp_path / "anchors.txt") as anchors:
        for number in range(5):
            await anchors.keep(f"checkpoint {number}")
        assert await asyncio.to_thread((tmp_path / "anchors.txt").read_text) == "".join(
            f"\ncheckpoint {number}" for number in range(5)
        )
        receiver.let_pass.set()

        async def has_newest() -> bool:
            return "checkpoint 4" in receiver.received

        await until(has_newest, "the newest arrives")
        assert len(receiver.received) < 5


async def test_a_refused_checkpoint_is_retried(receiver: Receiver, tmp_path: Path) -> None:
    receiver.status = 500
    async with posting(receiver, tmp_path / "anchors.txt") as anchors:
        await anchors.keep("first")

        async def was_refused() -> bool:
            return len(receiver.received) >= 2

        await until(was_refused, "it is retried")
        receiver.status = 204

        async def was_accepted() -> bool:
            return len(receiver.received) >= 3

        await until(was_accepted, "it is accepted")
        assert set(receiver.received) == {"first"}


async def test_the_file_may_be_moved_away(tmp_path: Path) -> None:
    file = AnchorFile(tmp_path / "made" / "anchors.txt")
    await asyncio.to_thread(file.append, "first\n")
    await asyncio.to_thread(file.path.rename, tmp_path / "archive")
    await asyncio.to_thread(file.append, "second\n")
    assert await asyncio.to_thread(file.path.read_text) == "\nsecond\n"


async def test_an_anchor_that_cannot_be_written_is_a_fault_until_it_is_written(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "anchors.txt"
    await asyncio.to_thread(directory.mkdir)
    anchors = Anchors(AnchorFile(directory))
    await anchors.keep("first")
    (fault,) = anchors.faults
    assert "cannot be written" in fault
    await asyncio.to_thread(directory.rmdir)
    await anchors.keep("second")
    assert anchors.faults == ()
