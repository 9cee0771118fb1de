"""Anchors: checkpoints kept outside the database, where its administrator cannot change them."""

import asyncio
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import httpx
import structlog

from pulse.errors import PulseError
from pulse.evidence.note import Checkpoint, NoteInvalid, VerifierKey, open_checkpoint
from pulse.http_client import open_client
from pulse.loop import WakeUp
from pulse.retry import Retry, RetryPolicy

_log = structlog.get_logger(__name__)

LOG_SECONDS: Final = 60.0
"""At most one checkpoint in this time is written to the log output of the process."""

_RETRY: Final = RetryPolicy(first_seconds=0.5, max_seconds=5.0, deadline_seconds=30.0)
_POST_SECONDS: Final = 5.0
_TAIL_BYTES: Final = 65_536
READ_BYTES: Final = 1024 * 1024
_MAX_NOTE_BYTES: Final = 64 * 1024
_BETWEEN_NOTES: Final = re.compile(rb"\n\n(?=[^\xe2])")
"""An empty line that is not followed by a signature line, which begins with a dash."""
_NOTE: Final = re.compile(
    r"^[^\n—][^\n]*\n[0-9]+\n[A-Za-z0-9+/=]+\n(?:[^\n—][^\n]*\n)*\n(?:— [^\n]+\n)+", re.MULTILINE
)


class AnchorUnusable(PulseError):
    """The file of anchors cannot be read or written."""


class AnchorFile:
    """A file to which every checkpoint is appended, so that each survives a crash.

    It is opened for each write. If it was moved, the next write creates it again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, checkpoint: str) -> None:
        """Append a checkpoint and flush it to the disk.

        Raises:
            AnchorUnusable: the checkpoint was not written, or only a part of it.
        """
        try:
            descriptor = self._open()
            try:
                # A line feed first: the previous note may be cut short.
                written = os.write(descriptor, f"\n{checkpoint}".encode())
                if written != len(checkpoint.encode()) + 1:
                    raise AnchorUnusable(f"{self.path} cannot be written: the disk is full")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise AnchorUnusable(f"{self.path} cannot be written: {error.strerror}") from error

    def require_writable(self) -> None:
        """Require that a checkpoint can be appended now. Creates the file if it is missing.

        Raises:
            AnchorUnusable: it cannot be written.
        """
        try:
            os.close(self._open())
        except OSError as error:
            raise AnchorUnusable(f"{self.path} cannot be written: {error.strerror}") from error

    def _open(self) -> int:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def last(self, key: VerifierKey) -> Checkpoint | None:
        """The largest checkpoint of this key near the end of the file; None if there is none.

        Notes that are cut short, and those of other keys, are skipped.

        Raises:
            AnchorUnusable: the file exists and cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
                tail = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AnchorUnusable(f"{self.path} cannot be read: {error.strerror}") from error
        return max(read_anchors(tail, key), key=lambda anchor: anchor.size, default=None)


def read_anchors(content: bytes, key: VerifierKey) -> list[Checkpoint]:
    """The checkpoints of this key in the content of a file of anchors, in its order.

    What is cut short or damaged, and notes of other keys, is skipped.
    """
    anchors = []
    for note in read_notes(content):
        try:
            anchors.append(open_checkpoint(note, key))
        except NoteInvalid:
            continue
    return anchors


def read_notes(content: bytes) -> list[str]:
    """The notes in the content of a file of anchors, without those that are cut short."""
    return _NOTE.findall(content.decode("utf-8", "replace"))


def stream_notes(file: Path) -> Iterator[str]:
    """The notes in a file of anchors, which is read in parts.

    Raises:
        OSError: the file cannot be read.
    """
    rest = b""
    with file.open("rb") as stream:
        while chunk := stream.read(READ_BYTES):
            *parts, rest = _BETWEEN_NOTES.split(rest + chunk)
            for part in parts:
                yield from read_notes(part + b"\n")
            rest = rest[-_MAX_NOTE_BYTES:]
        yield from read_notes(rest)


class Anchors:
    """Keeps checkpoints outside the database: in a file, in the log output, at URLs."""

    def __init__(self, file: AnchorFile, urls: Sequence[str] = ()) -> None:
        self.file = file
        self._posters = [_Poster(url) for url in urls]
        self._file_fault: str | None = None
        self._logged_at = float("-inf")

    @property
    def faults(self) -> tuple[str, ...]:
        """Why checkpoints are not kept, one sentence for each place where they are not."""
        faults = (self._file_fault, *(poster.fault for poster in self._posters))
        return tuple(fault for fault in faults if fault is not None)

    async def keep(self, checkpoint: str) -> None:
        """Append the checkpoint to the file, queue it for the URLs, log at most one a minute.

        Never raises: `faults` says what could not be done.
        """
        for poster in self._posters:
            poster.put(checkpoint)
        now = time.monotonic()
        if now >= self._logged_at + LOG_SECONDS:
            self._logged_at = now
            _log.info("seal.checkpoint", note=checkpoint)
        try:
            await asyncio.to_thread(self.file.append, checkpoint)
        except AnchorUnusable as error:
            self._file_fault = str(error)
        else:
            self._file_fault = None

    async def run(self) -> None:
        """Post checkpoints to the URLs until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for poster in self._posters:
                tasks.create_task(poster.run())


class _Poster:
    """Posts the newest checkpoint to one URL, and skips those that a newer one replaces."""

    def __init__(self, url: str) -> None:
        self.fault: str | None = None
        self._url = url
        self._host = httpx.URL(url).host
        self._newest: str | None = None
        self._put = WakeUp()

    def put(self, checkpoint: str) -> None:
        self._newest = checkpoint
        self._put.set()

    async def run(self) -> None:
        # HTTPS_PROXY and ALL_PROXY apply to an https URL; an http URL uses no proxy
        is_https = self._url.startswith("https:")
        async with open_client(
            "PULSE_ANCHOR_URLS", trust_env=is_https, timeout=_POST_SECONDS
        ) as client:
            while True:
                await self._put.wait(None)
                await self._post_newest(client)

    async def _post_newest(self, client: httpx.AsyncClient) -> None:
        retry = Retry(_RETRY)
        while (reason := await self._post(client)) is not None:
            if not await retry.wait():
                self.fault = f"checkpoints cannot be posted to {self._host}: {reason}"
                return
        self.fault = None

    async def _post(self, client: httpx.AsyncClient) -> str | None:
        """Post the newest checkpoint; returns why it was not accepted, but no part of the URL."""
        headers = {"content-type": "text/plain; charset=utf-8"}
        try:
            response = await client.post(self._url, content=self._newest, headers=headers)
        except httpx.HTTPError as error:
            return type(error).__name__
        return None if response.is_success else f"it answered {response.status_code}"
