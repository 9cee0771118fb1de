"""Raw HTTP/2: frames and header blocks that no client library would send."""

from collections.abc import Sequence
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0x0, 0x1, 0x4, 0x6, 0x8, 0x9
END_STREAM, END_HEADERS = 0x1, 0x4
INITIAL_WINDOW_SIZE: Final = 0x4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame; its payload must be shorter than 16 KiB."""
    head = len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4)
    return head + payload


def setting(identifier: int, value: int) -> bytes:
    """A SETTINGS frame with one parameter."""
    return frame(SETTINGS, 0, 0, identifier.to_bytes(2) + value.to_bytes(4))


def head(method: str, path: str, *, fields: Sequence[tuple[str, str]] = ()) -> bytes:
    """A header block of literal fields without Huffman codes; each text is below 127 bytes."""
    pseudo = [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
    ]
    return b"".join(_literal(name, value) for name, value in (*pseudo, *fields))


def _literal(name: str, value: str) -> bytes:
    return b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in (name, value))
