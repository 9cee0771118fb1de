"""Who is let in, who waits outside and who is told to come back, when there are too many."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from pulse.cli import entrance
from pulse.cli.entrance import LEAST_IN_FLIGHT, Capacity, Entrance
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the time that the loop takes, it counts as more than it should."""
    monkeypatch.setattr(entrance, "BUSY_SECONDS", -1)


ORDER = b"POST /internal/orders HTTP/1.1\r\nX-Request-Id: mine\r\nContent-Length: 2\r\n\r\n{}"
HEALTH = b"GET /pulse/health HTTP/1.1\r\nHost: x\r\n\r\n"


class House:
    """A process with a door: how many requests it has in flight is said, not measured."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.inside: list[socket.socket] = []
        self.outside: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        capacity = Capacity(lambda: 0, lambda: 0.0)
        self.entrance = Entrance([self.listener], self._take_in, lambda: self.in_flight, capacity)

    async def _take_in(self, connection: socket.socket) -> None:
        self.inside.append(connection)

    async def call(self, request: bytes) -> socket.socket:
        """A caller who has sent this, in the kernel's hands."""
        caller = socket.socket()
        caller.setblocking(False)
        self.outside.append(caller)
        loop = asyncio.get_running_loop()
        self.entrance._next_exception_at = float("inf")
        await loop.sock_connect(caller, self.listener.getsockname())
        await loop.sock_sendall(caller, request)
        self.entrance._next_exception_at = 0.0
        return caller

    async def until_inside(self, many: int) -> None:
        async def are_inside() -> bool:
            return len(self.inside) >= many

        await until(are_inside, f"{many} are inside")


@asynccontextmanager
async def house(*, full: bool) -> AsyncIterator[House]:
    made = House()
    made.in_flight = LEAST_IN_FLIGHT if full else 0
    made.entrance.open()
    try:
        yield made
    finally:
        for connection in [*made.entrance.close(), *made.inside, *made.outside]:
            connection.close()


async def test_whoever_comes_to_a_house_with_room_is_let_in() -> None:
    async with house(full=False) as open_house:
        for _ in range(3):
            await open_house.call(ORDER)
        await open_house.until_inside(3)


async def test_a_full_house_leaves_callers_outside_until_it_has_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(entrance, "EXCEPTION_SECONDS", 3600)
    async with house(full=True) as full_house:
        for _ in range(3):
            await full_house.call(ORDER)
        await full_house.until_inside(1)
        await asyncio.sleep(0.1)
        assert len(full_house.inside) == 1, "all but the one exception wait"
        full_house.in_flight = 0
        await full_house.until_inside(3)


async def test_a_house_full_of_those_who_wait_for_postgres_lets_more_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(entrance, "BUSY_SECONDS", 3600)
    monkeypatch.setattr(entrance, "EXCEPTION_SECONDS", 3600)
    async with house(full=True) as full_house:
        for _ in range(3):
            await full_house.call(ORDER)
        await full_house.until_inside(3)


async def test_a_full_house_lets_one_in_now_and_then() -> None:
    async with house(full=True) as full_house:
        for _ in range(3):
            await full_house.call(HEALTH)
        await full_house.until_inside(3)


async def test_who_waited_too_long_is_told_to_come_back_and_who_asks_for_health_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(entrance, "MOST_WAIT_SECONDS", -1)
    async with house(full=True) as full_house:
        order = await full_house.call(ORDER)
        answer = await asyncio.get_running_loop().sock_recv(order, 65_536)
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        assert lines[0] == "http/1.1 503 service unavailable"
        assert {"retry-after: 1", "connection: close", "x-request-id: mine"} < set(lines)
        assert f"content-length: {len(body)}" in lines
        assert msgspec.json.decode(body)["error"]["code"] == "UNAVAILABLE"
        assert not full_house.inside
        await full_house.call(HEALTH)
        await full_house.until_inside(1)


async def test_who_has_not_spoken_yet_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "MOST_WAIT_SECONDS", -1)
    async with house(full=True) as full_house:
        await full_house.call(b"")
        await full_house.until_inside(1)


async def test_whoever_waits_when_the_door_closes_is_handed_over() -> None:
    async with house(full=True) as full_house:
        for _ in range(3):
            await full_house.call(ORDER)
        full_house.entrance._next_exception_at = float("inf")
        waiting = full_house.entrance.close()
        full_house.outside += waiting
        assert len(waiting) == 3


@pytest.mark.parametrize(
    ("answered", "most"), [(0, LEAST_IN_FLIGHT), (100, LEAST_IN_FLIGHT), (1000, 500)]
)
def test_as_many_are_in_flight_as_are_answered_in_a_quarter_of_a_second(
    answered: int, most: int
) -> None:
    now = 0.0
    told = 7

    capacity = Capacity(lambda: told, lambda: now)
    assert capacity.most == LEAST_IN_FLIGHT
    now, told = 0.5, 7 + answered
    assert capacity.most == most
    now, told = 0.6, 7 + 10 * answered
    assert capacity.most == most, "a quarter of a second is not over"
