"""The metrics of a group of processes as one text.

Each member exposes its metrics on a Unix socket in the group's directory. The member that is
scraped collects those of all. Series are not summed: each, except the gauges of the database, has
the label `process`, the member's name. So the replacement of a member is a counter reset of its own
series, which `rate()` handles. In a sum, it would look like a reset of the counters of all members.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, cast

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric

from pulse import metrics
from pulse.process.group.member import Member
from pulse.settings import Settings

MAX_ANSWER_SECONDS: Final = 1.0
"""A member that does not answer within this time is left out."""


class _Sample(msgspec.Struct, frozen=True, array_like=True):
    name: str
    labels: dict[str, str]
    value: float


class _Family(msgspec.Struct, frozen=True, array_like=True):
    """A metric with its samples."""

    name: str
    meaning: str
    kind: str
    samples: list[_Sample]


_Families = list[_Family]
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_Families)
_SUFFIX: Final = ".metrics"


def metrics_file(directory: str, name: str, generation: int) -> Path:
    """The Unix socket on which this member exposes its metrics."""
    return Path(directory) / f"{name}.{generation:09}{_SUFFIX}"


@asynccontextmanager
async def exposing_metrics(settings: Settings, member: Member | None) -> AsyncIterator[None]:
    """Expose the metrics of this process to the other members of its group until the context ends.

    Exposes nothing without a group or with PULSE_METRICS=false.
    """
    if member is None or not settings.metrics:
        yield
        return
    file = metrics_file(member.directory, member.name, member.generation)
    server = await asyncio.start_unix_server(_answer, file)
    try:
        yield
    finally:
        server.close()
        file.unlink(missing_ok=True)


async def group_metrics(member: Member) -> bytes:
    """The metrics of all members in Prometheus's text format. Takes little more than 1 s at most.

    While a member is being replaced, its metrics are those of the older process until that has
    ended, so that no count is lost.
    """
    files = _files_in(member.directory)
    answers = await asyncio.gather(*(_read(file) for file in files))
    own: dict[str, _Families] = {}
    for file, families in zip(files, answers, strict=True):
        if families is not None:
            own.setdefault(file.name.partition(".")[0], families)
    found = [families for families in answers if families is not None]
    missing = Metric(metrics.PROCESSES_MISSING.name, metrics.PROCESSES_MISSING.meaning, "gauge")
    missing.add_sample(missing.name, {}, len(set(member.members) - own.keys()))
    merged = [*_of_members(own), *_of_database(found), missing]
    return await asyncio.to_thread(_as_text, merged)


def _files_in(directory: str) -> list[Path]:
    return sorted(Path(directory).glob(f"*{_SUFFIX}"))


async def _answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await asyncio.to_thread(_encoded))
    writer.close()


def _encoded() -> bytes:
    return _ENCODER.encode(
        [
            _Family(
                family.name,
                family.documentation,
                family.type,
                [_Sample(s.name, s.labels, s.value) for s in family.samples],
            )
            for family in metrics.REGISTRY.collect()
        ]
    )


async def _read(file: Path) -> _Families | None:
    """The metrics of the member at this socket; None if it does not answer in time."""
    try:
        async with asyncio.timeout(MAX_ANSWER_SECONDS):
            reader, writer = await asyncio.open_unix_connection(file)
            try:
                return _DECODER.decode(await reader.read())
            finally:
                writer.close()
    except (OSError, TimeoutError, msgspec.DecodeError):
        return None


def _of_members(own: dict[str, _Families]) -> Iterable[Metric]:
    merged: dict[str, Metric] = {}
    for name, families in own.items():
        for family in families:
            if family.name in metrics.OF_DATABASE:
                continue
            metric = merged.setdefault(
                family.name, Metric(family.name, family.meaning, family.kind)
            )
            for sample in family.samples:
                labels = {"process": name, **sample.labels}
                metric.add_sample(sample.name, labels, sample.value)
    return merged.values()


def _of_database(found: Sequence[_Families]) -> Iterable[Metric]:
    """The gauges of the whole database, once: two processes may export them during an election."""
    merged: dict[str, Metric] = {}
    for family in (family for families in found for family in families):
        if family.name in metrics.OF_DATABASE and family.name not in merged:
            merged[family.name] = metric = Metric(family.name, family.meaning, family.kind)
            for sample in family.samples:
                metric.add_sample(sample.name, sample.labels, sample.value)
    return merged.values()


class _Merged:
    """A registry as `generate_latest` needs it."""

    def __init__(self, collected: Sequence[Metric]) -> None:
        self._collected = collected

    def collect(self) -> Iterable[Metric]:
        return self._collected


def _as_text(merged: Sequence[Metric]) -> bytes:
    return generate_latest(cast("CollectorRegistry", _Merged(merged)))
