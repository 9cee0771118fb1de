"""The first half of a load: every line is posted, and what was accepted is kept."""

import time
from collections.abc import Iterator
from typing import assert_never
from uuid import UUID

import msgspec

from pulse.domain import BrokenRule, RequestedOrder
from pulse.load import checks
from pulse.load.client import Accepted, PulseClient, Refused
from pulse.load.each import each
from pulse.load.orders_file import Line, json_fault, requested_order
from pulse.load.progress import Progress
from pulse.load.result import BAD_JSON, LoadResult, Refusal


class SentOrder(msgspec.Struct, frozen=True):
    """An accepted order: where it stood in the file and what was asked for."""

    line: int
    order_id: UUID
    requested: RequestedOrder


class Posting:
    """One file on its way; `sent` holds every accepted order once, in the order of acceptance."""

    def __init__(self, client: PulseClient, result: LoadResult, progress: Progress) -> None:
        self.sent: dict[UUID, SentOrder] = {}
        self._created: set[UUID] = set()
        self._client = client
        self._result = result
        self._progress = progress

    async def run(self, lines: Iterator[Line], concurrency: int) -> None:
        """Post every line.

        Raises:
            LoadError: Pulse stopped answering.
        """
        started = time.perf_counter()
        await each(lines, self._post, concurrency)
        self._result.posting_seconds = time.perf_counter() - started

    async def _post(self, line: Line) -> None:
        result = self._result
        if fault := json_fault(line.body):
            result.note_refusal(Refusal(line.number, BAD_JSON, fault))
        else:
            await self._place(line)
        self._progress.show(result)

    async def _place(self, line: Line) -> None:
        started = time.perf_counter()
        outcome = await self._client.place(line.body)
        self._result.posted += 1
        match outcome:
            case Accepted():
                self._result.accept_seconds.append(time.perf_counter() - started)
                self._accept(line, outcome)
            case Refused(code, message):
                self._result.note_refusal(Refusal(line.number, code, message))
            case _:
                assert_never(outcome)

    def _accept(self, line: Line, accepted: Accepted) -> None:
        result, order_id = self._result, accepted.order_id
        if accepted.created:
            result.created += 1
        else:
            result.already_there += 1
        requested = requested_order(line.body)
        if requested is None:
            breach = "it was accepted, though the request breaks a rule of its fields"
            self._break(line, order_id, checks.ONLY_VALID_ORDERS_ARE_ACCEPTED, breach)
            return
        first = self.sent.setdefault(order_id, SentOrder(line.number, order_id, requested))
        result.accepted = len(self.sent)
        if first.requested != requested or (accepted.created and order_id in self._created):
            breach = f"line {first.line} has the same order_id and is another order"
            self._break(line, order_id, checks.ONE_KEY_IS_ONE_ORDER, breach)
        if accepted.created:
            self._created.add(order_id)

    def _break(self, line: Line, order_id: UUID, rule: str, breach: str) -> None:
        found = [BrokenRule(rule=rule, breach=breach)]
        self._result.note_broken(line.number, order_id, found)
