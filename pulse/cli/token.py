"""`pulse token`: prints a token for trying out the gateway."""

from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from pulse.process.development_key import mint_token, with_development_key
from pulse.process.startup import settings_from_environment
from pulse.settings import Settings

_SCOPES: Final = ("orders:write", "orders:read")
_ONE_HOUR_SECONDS: Final = 3600
_THIRTY_DAYS_SECONDS: Final = 30 * 24 * _ONE_HOUR_SECONDS


def token(
    subject: Annotated[str, typer.Option(help="The caller that the token identifies.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(help="A scope to grant; may be repeated. Default: both."),
    ] = None,
    lifetime_seconds: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=_THIRTY_DAYS_SECONDS,
            help="How long it is valid. Default: an hour, or PULSE_JWT_MAX_LIFETIME_SECONDS if "
            "less.",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where the development key is; overrides PULSE_DATA_DIR.")
    ] = None,
) -> None:
    """Print a token that the gateway accepts.

    Signs it with the development key that `pulse up` created in its data
    directory, or with PULSE_JWT_SECRET if that is set. Scopes are orders:write
    and orders:read. Until it expires, anyone with the token can act as its
    subject.

    Exit codes: 0 printed, 1 there is no usable key to sign with, or the gateway
    would refuse the subject, 2 wrong usage or settings.

    Example, with `pulse up` in another terminal:
      pulse token --subject alice --scope orders:write --scope orders:read
    """
    settings = settings_from_environment()
    if data_dir is not None:
        settings = msgspec.structs.replace(settings, data_dir=data_dir)
    settings = with_development_key(settings, make=False)
    granted = " ".join(_SCOPES if scope is None else scope).split()
    typer.echo(mint_token(settings, subject, granted, _lifetime(settings, lifetime_seconds)))


def _lifetime(settings: Settings, asked_seconds: int | None) -> int:
    most = settings.jwt_max_lifetime_seconds
    if asked_seconds is None:
        return _ONE_HOUR_SECONDS if most is None else min(_ONE_HOUR_SECONDS, int(most))
    if most is not None and asked_seconds > most:
        raise typer.BadParameter(
            f"the gateway accepts at most {most:g} s (PULSE_JWT_MAX_LIFETIME_SECONDS)",
            param_hint="--lifetime-seconds",
        )
    return asked_seconds
