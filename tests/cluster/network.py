"""Network namespaces as hosts: created, cut off from each other, and removed.

All are attached to one bridge, which has a namespace of its own, so that packet filters of this
machine do not apply. This machine has an address in the network too.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable
from typing import Final

PREFIX: Final = "pulse-cluster-"
"""The names of a cluster's namespaces begin with it. Those of earlier runs are removed at start."""

NETWORK: Final = "198.18.44"
"""A part of 198.18.0.0/15, which is reserved for benchmarks of network devices (RFC 2544)."""

CLIENT_ADDRESS: Final = f"{NETWORK}.1"
"""This machine's address in the network."""

_SWITCH: Final = f"{PREFIX}switch"
_CLIENT_LINK: Final = "pulse-cluster"
_NO_HOST: Final = "02:00:00:00:00:00"
_END_SECONDS: Final = 10.0


def ip(*arguments: str) -> str:
    """Run `ip`; returns its output.

    Raises:
        RuntimeError: it failed; the message has its error.
    """
    ended = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {ended.stderr.strip()}")
    return ended.stdout


def remove_all() -> None:
    """Kill every process in the namespaces of a cluster and remove them. Idempotent."""
    names = [line.split()[0] for line in ip("netns", "list").splitlines() if line]
    names = [name for name in names if name.startswith(PREFIX)]
    for name in names:
        kill_all(name)
    for name in names:
        ip("netns", "delete", name)
    with contextlib.suppress(RuntimeError):  # it is removed with the namespace of its other end
        ip("link", "delete", _CLIENT_LINK)


def kill_all(namespace: str) -> None:
    """SIGKILL every process in the namespace; returns when none is left."""
    deadline = time.monotonic() + _END_SECONDS
    while pids := [int(pid) for pid in ip("netns", "pids", namespace).split()]:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert time.monotonic() < deadline, f"{namespace}: {pids} do not end"
        time.sleep(0.02)


def make_network() -> None:
    """Create the bridge and attach this machine to it."""
    ip("netns", "add", _SWITCH)
    ip("-n", _SWITCH, "link", "add", "bridge", "type", "bridge")
    ip("-n", _SWITCH, "link", "set", "bridge", "up")
    ip("link", "add", _CLIENT_LINK, "type", "veth", "peer", "name", "client", "netns", _SWITCH)
    ip("-n", _SWITCH, "link", "set", "client", "master", "bridge", "up")
    ip("address", "add", f"{CLIENT_ADDRESS}/24", "dev", _CLIENT_LINK)
    ip("link", "set", _CLIENT_LINK, "up")


def add_namespace(name: str, address: str) -> None:
    """A namespace with an address in the network."""
    namespace = PREFIX + name
    ip("netns", "add", namespace)
    ip("-n", namespace, "link", "set", "lo", "up")
    ip(
        "-n",
        namespace,
        "link",
        "add",
        "eth0",
        "type",
        "veth",
        "peer",
        "name",
        name,
        "netns",
        _SWITCH,
    )
    ip("-n", _SWITCH, "link", "set", name, "master", "bridge", "up")
    ip("-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
    ip("-n", namespace, "link", "set", "eth0", "up")


def unplug(name: str) -> None:
    """Cut the namespace off from all others, silently."""
    ip("-n", _SWITCH, "link", "set", name, "down")


def remove_namespace(name: str) -> None:
    """Kill its processes and remove it. Call `unplug` before, so that no peer gets a FIN."""
    kill_all(PREFIX + name)
    ip("-n", _SWITCH, "link", "delete", name)  # the namespace may be removed later
    ip("netns", "delete", PREFIX + name)


def cut(name: str, addresses: Iterable[str]) -> None:
    """Packets from this namespace to these addresses are lost silently."""
    for address in addresses:
        ip(
            "-n", PREFIX + name, "neighbour", "replace", address,
            "lladdr", _NO_HOST, "dev", "eth0", "nud", "permanent",
        )  # fmt: skip


def join(name: str, addresses: Iterable[str]) -> None:
    """Undo `cut`."""
    for address in addresses:
        with contextlib.suppress(RuntimeError):
            ip("-n", PREFIX + name, "neighbour", "delete", address, "dev", "eth0")
