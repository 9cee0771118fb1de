"""The second half of a load: every accepted order is asked for until it has an outcome."""

import time
from collections.abc import Iterable
from typing import assert_never
from uuid import UUID

from pulse.domain import BrokenRule
from pulse.load import checks
from pulse.load.answers import OrderAnswer
from pulse.load.client import PulseClient, Refused, Unavailable
from pulse.load.each import each
from pulse.load.pace import Pace
from pulse.load.posting import SentOrder
from pulse.load.progress import Progress
from pulse.load.result import LoadResult


class Following:
    """The orders that have no outcome yet, and the last answer of each."""

    def __init__(self, client: PulseClient, result: LoadResult, progress: Progress) -> None:
        self._client = client
        self._result = result
        self._progress = progress
        self._waiting: dict[UUID, SentOrder] = {}
        self._last_answers: dict[UUID, OrderAnswer] = {}

    async def run(
        self, sent: Iterable[SentOrder], concurrency: int, settle_seconds: float, pace: Pace
    ) -> None:
        """Ask for every order at least once, and go on for `settle_seconds`.

        Raises:
            LoadError: Pulse stopped answering.
        """
        deadline = time.perf_counter() + settle_seconds
        self._waiting = {order.order_id: order for order in sent}
        while self._waiting:
            await each(list(self._waiting.values()), self._look, concurrency)
            remaining = deadline - time.perf_counter()
            if not self._waiting or remaining <= 0:
                break
            await pace.sleep(min(pace.poll_interval_seconds, remaining))
        self._give_up_on_the_rest()

    async def _look(self, sent: SentOrder) -> None:
        answer = await self._client.order(sent.order_id)
        match answer:
            case OrderAnswer(order_queue_status="PENDING" | "IN_PROGRESS"):
                self._last_answers[sent.order_id] = answer
            case OrderAnswer():
                self._settle(sent, answer)
            case Unavailable():
                pass
            case Refused(code, message):
                self._lose(sent, f"asked for, it is answered {code}: {message}")
            case _:
                assert_never(answer)
        self._progress.show(self._result)

    def _settle(self, sent: SentOrder, answer: OrderAnswer) -> None:
        result = self._result
        del self._waiting[sent.order_id]
        self._last_answers.pop(sent.order_id, None)
        if answer.order_queue_status == "COMPLETED":
            result.completed += 1
            result.slices += len(answer.slices)
            result.shares += sum(s.quantity for s in answer.slices)
            if answer.split_completed_at is not None:
                took = answer.split_completed_at - answer.created_at
                result.completion_seconds.append(took.total_seconds())
        else:
            result.note_failure(answer.failure_reason or "NO_REASON")
        self._check(sent, answer)

    def _lose(self, sent: SentOrder, breach: str) -> None:
        del self._waiting[sent.order_id]
        found = [BrokenRule(rule=checks.ACCEPTED_ORDERS_ARE_ANSWERED, breach=breach)]
        self._result.note_broken(sent.line, sent.order_id, found)

    def _give_up_on_the_rest(self) -> None:
        self._result.pending = len(self._waiting)
        for order_id, answer in self._last_answers.items():
            if order_id in self._waiting:
                self._check(self._waiting[order_id], answer)

    def _check(self, sent: SentOrder, answer: OrderAnswer) -> None:
        found = checks.breaches(sent.order_id, sent.requested, answer)
        self._result.note_broken(sent.line, sent.order_id, found)
