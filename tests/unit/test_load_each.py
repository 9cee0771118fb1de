import asyncio

import pytest

from pulse.load import LoadError
from pulse.load.each import each


class Work:
    """Counts what is under way at once, and fails at the items it is told."""

    def __init__(self, *, error: Exception | None = None, fails_at: int = -1) -> None:
        self.done: list[int] = []
        self.most_at_once = 0
        self._at_once = 0
        self._error = error
        self._fails_at = fails_at

    async def __call__(self, item: int) -> None:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await asyncio.sleep(0)
        if self._error and item == self._fails_at:
            raise self._error
        self.done.append(item)
        self._at_once -= 1


@pytest.mark.parametrize(("concurrency", "most"), [(1, 1), (4, 4), (50, 20)])
def test_every_item_is_done_once_and_only_so_many_at_once(concurrency: int, most: int) -> None:
    work = Work()
    asyncio.run(each(range(20), work, concurrency))
    assert sorted(work.done) == list(range(20))
    assert work.most_at_once == most


@pytest.mark.parametrize("error", [LoadError("gone"), ValueError("a bug")])
def test_the_first_error_ends_all_and_comes_out_as_itself(error: Exception) -> None:
    work = Work(error=error, fails_at=5)
    with pytest.raises(type(error), match=str(error)):
        asyncio.run(each(range(1000), work, 4))
    assert len(work.done) < 20
