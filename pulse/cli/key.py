"""`pulse key`: creates, shows and rotates the key that signs the seal."""

from datetime import UTC
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from pulse.cli.exits import run_with_tools
from pulse.cli.terminal import AsJson, echo, group, output
from pulse.errors import PulseError
from pulse.evidence.anchors import AnchorUnusable
from pulse.evidence.chain import is_origin_of_fork, require_chain
from pulse.evidence.key_file import create_key_file, read_key_file
from pulse.evidence.note import SigningKey
from pulse.evidence.rotation import Rotation, rotate_key
from pulse.evidence.state import RecordedKey, read_keys
from pulse.process.seal import anchor_file, seal_key_file
from pulse.process.startup import settings_from_environment
from pulse.process.tools import Tools
from pulse.settings import Settings

KeyFile = Annotated[Path, typer.Argument(metavar="FILE", help="The key's file.")]


def new(
    file: KeyFile,
    *,
    origin: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The log's name: a URL that you own, without its scheme, such as "
            "pulse.example.com/log. No two logs may have the same.",
        ),
    ],
) -> None:
    """Create a key that signs checkpoints, in a new file that only you may read.

    Prints the verifier key, which is not secret: a check of the seal needs it.
    Anyone who can read the file can sign a forged history, so keep it where the
    administrator of the database cannot read it. Needs no Postgres.

    Exit codes: 0 created, 1 the file exists or cannot be written, or the origin
    is not allowed, 2 wrong usage.

    Example:
      pulse key new /etc/pulse/seal.key --origin pulse.example.com/log
    """
    if is_origin_of_fork(origin):
        raise PulseError(
            f"{origin} ends like the origin of a fork (/fork-...): choose another name"
        )
    key = SigningKey.generate(origin)
    if not create_key_file(file, key):
        raise PulseError(f"{file} already exists and is not overwritten")
    output().print(str(key.verifier))


def show(*, as_json: AsJson = False) -> None:
    """Show the keys that signed the seal, the current one last.

    Shows the time from which each key signs. After the first, each key comes with
    its rotation note, which the key before it also signed. So the first key is
    enough to check the others.

    Needs Postgres: PULSE_DATABASE_URL, or the embedded one in PULSE_DATA_DIR,
    which is started if it is not running. Changes nothing.

    Exit codes: 0 success. 1 a rotation note is wrong. 2 wrong usage or settings.
    3 Postgres cannot be reached or its schema is not current.

    Example:
      pulse key show
    """
    keys = run_with_tools(lambda tools: tools.database.read(read_keys))
    if as_json:
        echo(msgspec.json.encode({"keys": keys}))
    else:
        _print_keys(keys)
    require_chain(keys)


def rotate(file: KeyFile) -> None:
    """Replace the key that signs checkpoints. The current key signs the change.

    The current key is that of PULSE_SEAL_KEY, or the development key; FILE has
    the new one. Prints the rotation note, which both keys sign; it is stored and
    appended to the anchors. Afterwards set PULSE_SEAL_KEY to the new file, or
    move the new file over the old one: running processes read the file again.
    Until then they do not seal. If the log was forked, the new key signs under
    the origin of the fork (`pulse log fork`).

    Needs Postgres: PULSE_DATABASE_URL, or the embedded one in PULSE_DATA_DIR,
    which is started if it is not running.

    Exit codes: 0 rotated. 1 not rotated: the current key is not the one that
    seals, or the log or the tree was changed; or rotated, but the note was not
    appended to the anchors: the message says so. 2 wrong usage or settings.
    3 Postgres cannot be reached or its schema is not current.

    Example:
      pulse key new new.key --origin pulse.example.com/log
      pulse key rotate new.key && mv new.key /etc/pulse/seal.key
    """
    settings = settings_from_environment()
    old, replacement = _current_key(settings), read_key_file(file)
    anchors = anchor_file(settings)

    async def rotated(tools: Tools) -> Rotation:
        return await rotate_key(tools.database, old, replacement, anchors)

    try:
        rotation = run_with_tools(rotated, settings)
    except AnchorUnusable as error:
        raise PulseError(
            f"the key was rotated, but not anchored: {error}; `pulse key show` prints the note"
        ) from error
    for line in rotation.note.splitlines():
        output().print(line)


def _current_key(settings: Settings) -> SigningKey:
    file = seal_key_file(settings)
    if file is None:
        raise PulseError("there is no current key: set PULSE_SEAL_KEY to its file")
    return read_key_file(file)


def _print_keys(keys: list[RecordedKey]) -> None:
    if not keys:
        output().print("nothing is sealed yet")
    for key in keys:
        since = key.recorded_at.astimezone(UTC).isoformat(timespec="seconds")
        output().print(f"{key.number}  since {since}  {key.verifier_key}")
        if key.rotation is not None:
            for line in key.rotation.splitlines():
                output().print(f"   {line}")


key = group(
    "key",
    "Create, show and rotate the key that signs the seal of the log.",
    "Exit codes: 0 success, 1 failure, 2 wrong usage or settings, 3 Postgres cannot be reached.",
    (new, show, rotate),
)
