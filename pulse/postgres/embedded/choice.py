"""Which way runs the server: the first that reaches both the data and the programs.

An ordinary user runs it directly. For root, in this order:

- the account `postgres`, which exists where Postgres was ever installed and for nothing else;
- a user namespace, where the files stay root's and no other account can read them;
- the account `nobody`, last, because other services may run as it and could read the data. It
  is for containers that have neither of the two.

No account is ever made. The owner of an existing cluster decides alone: its files would not
be readable, or not safe, any other way.
"""

import os

from pulse.postgres.embedded.binaries import Binaries, copy_binaries
from pulse.postgres.embedded.errors import EmbeddedServerError
from pulse.postgres.embedded.place import Place
from pulse.postgres.embedded.ways import (
    Way,
    as_account,
    as_owner,
    directly,
    has_name,
    in_namespace,
)


def choose_way(place: Place, binaries: Binaries) -> tuple[Way, Binaries]:
    """Choose the way and the programs it can read; call it under the start lock.

    Raises:
        EmbeddedServerError: no way is possible; the message names the remedies.
    """
    obstacles = []
    for way in candidates(os.geteuid(), _owner(place)):
        obstacle = _obstacle_to_data(way, place)
        if obstacle is None:
            readable = _readable(way, binaries, place)
            if readable is not None:
                return way, readable
            said = way.run([binaries.program("initdb"), "--version"]).output.strip()
            obstacle = f"cannot run the programs ({said})"
        obstacles.append(f"{way.description}: {obstacle}")
    raise EmbeddedServerError(_refusal(place, obstacles))


def candidates(euid: int, owner: tuple[int, int] | None) -> list[Way]:
    """List the ways worth trying for this user, the best first.

    Args:
        euid: who runs Pulse.
        owner: uid and gid of what is there already and therefore decides, if anything is.
    """
    if euid != 0:
        return _for_ordinary_user(euid, owner)
    if owner is None:
        ways = [as_account("postgres"), in_namespace(), as_account("nobody")]
    else:
        ways = [in_namespace() if owner[0] == 0 else as_owner(*owner)]
    return [way for way in ways if way is not None]


def _for_ordinary_user(euid: int, owner: tuple[int, int] | None) -> list[Way]:
    if owner is not None and owner[0] != euid:
        return []
    named = None if has_name(euid) else in_namespace()
    return [named, directly()] if named is not None else [directly()]


def _owner(place: Place) -> tuple[int, int] | None:
    """Tell who decides: the cluster's owner, else the ordinary user whose home it is."""
    if place.cluster.exists():
        found = place.cluster.stat()
        return found.st_uid, found.st_gid
    found = place.home.stat()
    return (found.st_uid, found.st_gid) if found.st_uid else None


def _obstacle_to_data(way: Way, place: Place) -> str | None:
    if not way.run(["/bin/sh", "-c", ":"]).succeeded:
        return "not allowed here"
    if not way.reaches("-x", place.home):
        return f"cannot reach {place.home}"
    if place.cluster.exists() and not way.reaches("-w", place.cluster):
        return f"cannot write {place.cluster}"
    return None


def _readable(way: Way, binaries: Binaries, place: Place) -> Binaries | None:
    """Find or make programs that can be run this way."""
    if way == directly() or _runs(way, binaries):
        return binaries  # what fails directly is no question of rights, and says so when used
    copy = copy_binaries(binaries, place.home)
    return copy if _runs(way, copy) else None


def _runs(way: Way, binaries: Binaries) -> bool:
    """Try a program that needs the libraries beside the package, and look for the rest."""
    return (
        way.run([binaries.program("initdb"), "--version"]).succeeded
        and way.reaches("-x", binaries.program("postgres"))
        and all(way.reaches("-r", binaries.install / part) for part in ("lib", "share"))
    )


def _refusal(place: Place, obstacles: list[str]) -> str:
    path = place.cluster if place.cluster.exists() else place.home
    tried = "; ".join(obstacles) or "no way for this user"
    return (
        f"The embedded Postgres server cannot run with {path}, which belongs to uid "
        f"{path.stat().st_uid} ({tried}): run Pulse as the user who owns it, or as an ordinary "
        "user; or set PULSE_DATA_DIR to a directory that the account postgres can reach; or allow "
        "user namespaces; or set PULSE_DATABASE_URL."
    )
