"""The sockets of the commands: every local address of the host, and no stalled connections."""

import socket
from contextlib import ExitStack
from typing import Any

import pytest

from pulse.cli.exits import CouldNotStart
from pulse.cli.server import bind
from pulse.process import listening
from pulse.settings import Settings
from tests.support.processes import free_port

NOT_OF_THIS_MACHINE = "192.0.2.1"  # TEST-NET-1


def resolve_host_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def found(_: str, port: int, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", found)


def test_an_address_that_this_machine_lacks_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    resolve_host_to(monkeypatch, NOT_OF_THIS_MACHINE, "127.0.0.1")
    with ExitStack() as stack:
        bound = [stack.enter_context(each) for each in bind(Settings(host="localhost", port=port))]
        assert [each.getsockname() for each in bound] == [("127.0.0.1", port)]


def test_a_host_of_which_this_machine_has_no_address_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve_host_to(monkeypatch, NOT_OF_THIS_MACHINE)
    with pytest.raises(CouldNotStart, match="cannot assign requested address; choose another"):
        bind(Settings(host="elsewhere", port=free_port()))


def test_a_port_in_use_is_refused_even_if_another_address_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(host="localhost", port=taken.getsockname()[1])
        with pytest.raises(CouldNotStart, match="address already in use"):
            bind(settings)


def test_of_two_processes_that_start_at_once_on_one_port_only_one_gets_it() -> None:
    """Both can bind it before one of them serves."""
    settings = Settings(host="127.0.0.1", port=free_port())
    with ExitStack() as stack:
        for bound in bind(settings):
            stack.enter_context(bound)
        with pytest.raises(CouldNotStart, match="address already in use"):
            bind(settings)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux has the option")
def test_a_connection_breaks_when_its_peer_accepts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "STALL_SECONDS", 1)
    with ExitStack() as stack:
        (bound,) = bind(Settings(port=free_port()))
        stack.enter_context(bound)
        stack.enter_context(socket.create_connection(bound.getsockname()))
        accepted, _ = bound.accept()
        stack.enter_context(accepted)
        with pytest.raises(TimeoutError):  # the kernel's; the peer reads nothing
            accepted.sendall(bytes(1 << 30))
