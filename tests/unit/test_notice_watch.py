"""The log says when a notice arises and when it has passed, once each."""

from structlog.testing import capture_logs

from pulse.application.notices import Notice, NoticeWatch

WAITING = Notice("no_worker", "no worker is present", needs_person=False)
WAITING_LONG = Notice("no_worker", "no worker is present for long", needs_person=True)
FAILING = Notice("orders_failing", "7 orders FAILED", needs_person=True)
STILL_FAILING = Notice("orders_failing", "9 orders FAILED", needs_person=True)


async def test_each_notice_is_logged_when_it_arises_gets_worse_and_passes() -> None:
    seen: list[tuple[Notice, ...]] = [
        (),
        (WAITING,),
        (WAITING,),
        (WAITING_LONG, FAILING),
        (WAITING_LONG, STILL_FAILING),
        (WAITING_LONG,),
        (),
    ]
    turns = iter(seen)

    async def read() -> tuple[Notice, ...]:
        return next(turns)

    watch = NoticeWatch(read)
    with capture_logs() as logged:
        for expected in seen:
            assert await watch.run_once() == expected
    assert [(line["log_level"], line["event"], line["code"]) for line in logged] == [
        ("info", "notice.raised", "no_worker"),
        ("warning", "notice.raised", "no_worker"),
        ("warning", "notice.raised", "orders_failing"),
        ("info", "notice.cleared", "orders_failing"),
        ("info", "notice.cleared", "no_worker"),
    ]
