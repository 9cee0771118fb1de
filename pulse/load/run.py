"""The load itself: post every line, then follow every accepted order to its outcome."""

from pathlib import Path

import httpx
from rich.console import Console

from pulse.load.client import PulseClient, new_trace_id, open_http
from pulse.load.errors import LoadError
from pulse.load.following import Following
from pulse.load.orders_file import count_lines, read_lines
from pulse.load.pace import DEFAULT_PACE, Pace
from pulse.load.posting import Posting
from pulse.load.progress import progress_on
from pulse.load.result import LoadResult


async def load_orders(  # noqa: PLR0913 - each is a choice of the caller
    file: Path,
    base_url: str,
    *,
    concurrency: int,
    settle_seconds: float,
    token: str | None = None,
    console: Console,
    pace: Pace = DEFAULT_PACE,
    transport: httpx.AsyncBaseTransport | None = None,
) -> LoadResult:
    """Post every order of the file, at most `concurrency` at once, and check what becomes of it.

    Orders are followed after the last one is posted, so that asking does not slow the posting:
    each is asked for at least once, and again until it has an outcome or `settle_seconds` have
    passed. `token` is a service token, for an API that asks for one.

    Raises:
        LoadError: the file cannot be read, or no Pulse answers; the text says what to do.
    """
    if concurrency < 1:
        raise LoadError(f"concurrency is {concurrency}; it must be at least 1")
    base_url = base_url.rstrip("/")
    total = count_lines(file)
    result = LoadResult(source=file.name, base_url=base_url, trace_id=new_trace_id())
    async with open_http(
        base_url,
        trace_id=result.trace_id,
        token=token,
        connections=concurrency,
        pace=pace,
        transport=transport,
    ) as http:
        client = PulseClient(http, base_url, pace)
        await client.check_health()
        with progress_on(console, total, pace.line_interval_seconds) as progress:
            posting = Posting(client, result, progress)
            await posting.run(read_lines(file), concurrency)
            following = Following(client, result, progress)
            await following.run(posting.sent.values(), concurrency, settle_seconds, pace)
        result.retries = client.retries
    return result
