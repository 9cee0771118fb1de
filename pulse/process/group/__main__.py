"""`python -m pulse.process.group MEMBER`: one member. Only the supervisor starts it."""

import sys
from typing import Final

import msgspec
import uvloop

from pulse import metrics
from pulse.errors import PulseError
from pulse.logs import report_fatal_error
from pulse.process.development_key import with_development_key
from pulse.process.group.member import ControlSocket, Member
from pulse.process.seal import with_seal_key
from pulse.process.startup import settings_from_environment
from pulse.process.workers import run_workers
from pulse.settings import Settings

_COULD_NOT_START: Final = 3


def main() -> None:
    """Run as this member until SIGTERM, or until the supervisor ends.

    If it cannot start it exits with code 3, and the log has the reason as one line.
    """
    member = msgspec.json.decode(sys.argv[1], type=Member)
    try:
        _run(member)
    except PulseError as error:
        report_fatal_error(str(error))
        raise SystemExit(_COULD_NOT_START) from None


def _run(member: Member) -> None:
    settings = settings_from_environment(member.log_share)
    settings = with_seal_key(with_development_key(settings, make=False))
    control = ControlSocket(member)
    uvloop.run((_work if member.is_worker else _serve)(settings, member, control))


async def _work(settings: Settings, member: Member, control: ControlSocket) -> None:
    metrics.export_build_info()
    with control.watched():
        await run_workers(settings, member, control.report_serving)


async def _serve(settings: Settings, member: Member, control: ControlSocket) -> None:
    # Only here: members with workers do not import the web framework.
    from pulse.process.apps import all_in_one_app  # noqa: PLC0415
    from pulse.process.http_server import HttpServer  # noqa: PLC0415

    server = HttpServer(all_in_one_app(settings, member), control.report_serving)
    with control.watched(server.drain):
        await server.serve(member.sockets())


if __name__ == "__main__":
    main()
