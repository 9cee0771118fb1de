"""Sockets that listen on every local address of a host."""

import contextlib
import errno
import socket
from typing import Final

from pulse.errors import PulseError

STALL_SECONDS: Final = 60
"""A connection is closed if its peer acknowledges no data for this long."""

BACKLOG: Final = 2048
"""How many connections wait in the kernel's queue of a socket at most."""

_NOT_ON_THIS_MACHINE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class CannotListen(PulseError):
    """The host is unknown, or one of its addresses cannot be used; `reason` says why."""

    def __init__(self, url: str, reason: str, remedy: str) -> None:
        self.reason = reason
        super().__init__(f"cannot listen on {url}: {reason}; {remedy}")


def bind(host: str, port: int, remedy: str) -> list[socket.socket]:
    """A listening socket for each address of the host.

    It listens at once, because two processes can bind one port, but only one can listen on it.
    Connections wait in the kernel's queue until a server accepts them.

    Addresses that this machine does not have are skipped, such as ::1 of `localhost` without IPv6.

    Raises:
        CannotListen: the host is unknown, or one of its addresses cannot be used.
    """
    with contextlib.ExitStack() as opened:
        bound: list[socket.socket] = []
        missing: OSError | None = None
        try:
            for family, *_, address in socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            ):
                try:
                    bound.append(opened.enter_context(_bound(family, address)))
                except OSError as error:
                    if error.errno not in _NOT_ON_THIS_MACHINE:
                        raise
                    missing = error
            if missing is not None and not bound:
                raise missing
        except OSError as error:
            raise CannotListen(root_url(host, port), _reason_of(error), remedy) from error
        opened.pop_all()
    return bound


def root_url(host: str, port: int) -> str:
    """The root URL of a server."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _reason_of(error: OSError) -> str:
    """Why an address cannot be used."""
    return (error.strerror or str(error)).lower()


def _bound(family: int, address: tuple[object, ...]) -> socket.socket:
    with contextlib.ExitStack() as opened:
        bound = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections inherit it
            milliseconds = STALL_SECONDS * 1000
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
        opened.pop_all()
    return bound
