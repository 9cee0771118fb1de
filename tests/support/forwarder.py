"""Forwards a TCP port to the Unix socket of the test server."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PIECE_BYTES = 65_536


@contextmanager
def forwarded(port: int, unix_socket: str) -> Iterator[None]:
    """Listen on a loopback port and forward every connection to the socket."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        accepting = threading.Thread(target=_accept, args=(listener, unix_socket), daemon=True)
        accepting.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()


def _accept(listener: socket.socket, unix_socket: str) -> None:
    links: list[threading.Thread] = []
    with suppress(OSError):
        while True:
            near, _ = listener.accept()
            far = socket.socket(socket.AF_UNIX)
            far.connect(unix_socket)
            for source, sink in ((near, far), (far, near)):
                links.append(threading.Thread(target=_pump, args=(source, sink), daemon=True))
                links[-1].start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(_PIECE_BYTES):
            sink.sendall(piece)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
    source.close()
