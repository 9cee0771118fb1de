"""The archive of a pack: a tar file in which the members determine every byte.

A header follows from the name and the size of its member, so a reader computes it and compares all
of its 512 bytes. Nothing is compressed and nothing is extracted. docs/decisions/0039 has the
reasons.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import BinaryIO, Final

import msgspec

from pulse.errors import PulseError

BLOCK_BYTES: Final = 512
MAX_MEMBERS: Final = 200_000
MAX_MEMBER_BYTES: Final = 8**11 - 1
"""The largest size that a plain header can hold."""

_END: Final = bytes(2 * BLOCK_BYTES)
_READ_BYTES: Final = 1024 * 1024
_NAME_BYTES: Final = 100
_TYPE_AT: Final = 156
_KINDS: Final = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"5": "a directory",
    b"6": "a pipe",
    b"S": "a sparse file",
}
_FOREIGN: Final = {
    b"\x1f\x8b": "compressed with gzip",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"PK\x03\x04": "a zip file",
}


class PackInvalid(PulseError):
    """The file is not a pack, was changed, or would be too large; the message says where."""


class Member(msgspec.Struct, frozen=True, gc=False):
    """The offset and the size of a member's content in the file."""

    name: str
    offset: int
    size: int


class MemberWriter:
    """Writes one member of any size in parts."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self.size = 0
        self._file = file
        self._start = file.tell()
        self._hash = sha256()
        file.write(bytes(BLOCK_BYTES))

    def write(self, part: bytes) -> None:
        """Append to the member.

        Raises:
            PackInvalid: it becomes larger than a pack can hold.
            OSError: the file cannot be written.
        """
        self.size += len(part)
        if self.size > MAX_MEMBER_BYTES:
            raise PackInvalid(f"{self.name} is larger than {MAX_MEMBER_BYTES:,} bytes")
        self._hash.update(part)
        self._file.write(part)

    def close(self) -> tuple[Member, str]:
        """End the member; returns where it is, and its hash in hexadecimal."""
        self._file.write(bytes(-self.size % BLOCK_BYTES))
        end = self._file.tell()
        self._file.seek(self._start)
        self._file.write(header_of(self.name, self.size))
        self._file.seek(end)
        return Member(self.name, self._start + BLOCK_BYTES, self.size), self._hash.hexdigest()


class ArchiveWriter:
    """Writes members one after the other to an empty, seekable file."""

    def __init__(self, file: BinaryIO) -> None:
        self.hashes: dict[str, str] = {}
        self.members: dict[str, Member] = {}
        self._file = file

    def add(self, name: str, content: bytes) -> None:
        """Add a member."""
        with self.member(name) as member:
            member.write(content)

    @contextmanager
    def member(self, name: str) -> Iterator[MemberWriter]:
        """Add a member in parts."""
        member = self.begin(name)
        yield member
        self.end(member)

    def begin(self, name: str) -> MemberWriter:
        """Begin a member, which must end before the next one begins.

        Raises:
            PackInvalid: the pack has more members than it can hold.
        """
        if len(self.members) == MAX_MEMBERS:
            raise PackInvalid(f"the pack has more than {MAX_MEMBERS:,} members")
        return MemberWriter(self._file, name)

    def end(self, member: MemberWriter) -> None:
        """End a member."""
        self.members[member.name], self.hashes[member.name] = member.close()

    def finish(self) -> None:
        """End the archive."""
        self._file.write(_END)


class Archive:
    """A file that consists of members and nothing else. Only their offsets are in memory."""

    def __init__(self, file: BinaryIO, members: dict[str, Member]) -> None:
        self.members = members
        self._file = file

    @classmethod
    def opened(cls, file: BinaryIO, is_member: Callable[[str], bool]) -> "Archive":
        """Find the members, at most `MAX_MEMBERS`. Reads their headers and padding only.

        Raises:
            PackInvalid: the file is cut short, has more than its members, or has members that are
                not plain files, have the same name, or have a name that `is_member` refuses.
        """
        end = file.seek(0, os.SEEK_END)
        members: dict[str, Member] = {}
        at = 0
        while (block := _block(file, at, end)) != bytes(BLOCK_BYTES):
            member = _member_of(block, at, is_member)
            if member.name in members:
                raise PackInvalid(f"the pack has two members {member.name}")
            if len(members) == MAX_MEMBERS:
                raise PackInvalid(f"the pack has more than {MAX_MEMBERS:,} members")
            members[member.name] = member
            padding = -member.size % BLOCK_BYTES
            at = member.offset + member.size + padding
            if at > end:
                raise PackInvalid(f"the pack is cut short within {member.name}")
            file.seek(at - padding)
            if file.read(padding).strip(b"\0"):
                raise PackInvalid(f"the pack has other bytes than zeros after {member.name}")
        if _block(file, at + BLOCK_BYTES, end) != bytes(BLOCK_BYTES) or end > at + len(_END):
            raise PackInvalid("the pack has something after its end")
        return cls(file, members)

    def read(self, name: str, max_bytes: int) -> bytes:
        """The content of a member.

        Raises:
            PackInvalid: the pack does not have it, or it is larger than `max_bytes`.
        """
        member = self.members.get(name)
        if member is None:
            raise PackInvalid(f"{name} is missing")
        if member.size > max_bytes:
            raise PackInvalid(f"{name} is larger than {max_bytes:,} bytes")
        self._file.seek(member.offset)
        return self._file.read(member.size)

    def chunks(self, name: str) -> Iterator[bytes]:
        """The content of a member in parts. Other members may be read meanwhile."""
        member = self.members[name]
        end = member.offset + member.size
        for at in range(member.offset, end, _READ_BYTES):
            self._file.seek(at)
            yield self._file.read(min(_READ_BYTES, end - at))

    def lines(self, name: str, max_bytes: int) -> Iterator[bytes]:
        """The lines of a member, each with its line feed. Other members may be read meanwhile.

        Raises:
            PackInvalid: a line is longer than `max_bytes`, or the last one has no line feed.
        """
        rest = b""
        for chunk in self.chunks(name):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line + b"\n"
            if len(rest) > max_bytes:
                raise PackInvalid(f"{name} has a line of more than {max_bytes:,} bytes")
        if rest:
            raise PackInvalid(f"the last line of {name} is cut short")

    def sha256(self, name: str) -> str:
        """The hash of a member's content, in hexadecimal."""
        digest = sha256()
        for chunk in self.chunks(name):
            digest.update(chunk)
        return digest.hexdigest()


def header_of(name: str, size: int) -> bytes:
    """The header of a member, in the format ustar: mode 0644, owner 0, no time."""
    fields = (
        name.encode().ljust(_NAME_BYTES, b"\0"),
        b"0000644\0" + 2 * b"0000000\0",
        b"%011o\0" % size + b"%011o\0" % 0,
        b" " * 8,
        b"0" + bytes(_NAME_BYTES),
        b"ustar\x0000" + bytes(64) + 2 * b"0000000\0" + bytes(167),
    )
    checksum = b"%06o\0 " % sum(b"".join(fields))
    return b"".join((*fields[:3], checksum, *fields[4:]))


def _block(file: BinaryIO, at: int, end: int) -> bytes:
    file.seek(at)
    block = file.read(BLOCK_BYTES)
    if at == 0:
        _require_tar(block)
    if len(block) < BLOCK_BYTES:
        raise PackInvalid(f"the pack is cut short at byte {end:,}")
    return block


def _require_tar(block: bytes) -> None:
    for magic, what in _FOREIGN.items():
        if block.startswith(magic):
            raise PackInvalid(f"not a pack: the file is {what}; a pack is a plain tar file")
    if len(block) < BLOCK_BYTES or block[257:262] != b"ustar":
        raise PackInvalid("not a pack: the file is not a tar file")


def _member_of(block: bytes, at: int, is_member: Callable[[str], bool]) -> Member:
    """The member with this header.

    Raises:
        PackInvalid: this is not a header of a pack.
    """
    name = block[:_NAME_BYTES].rstrip(b"\0").decode("utf-8", "backslashreplace")
    kind = block[_TYPE_AT : _TYPE_AT + 1]
    if kind != b"0":
        what = _KINDS.get(kind, "of a kind that a pack does not have")
        raise PackInvalid(f"the member {name} is {what}")
    if name.startswith("/") or ".." in name.split("/"):
        raise PackInvalid(f"the path {name} leads out of the pack")
    if not is_member(name):
        raise PackInvalid(f"a pack has no member {name}")
    try:
        size = int(block[124:135], 8)
    except ValueError:
        size = -1
    if size < 0 or header_of(name, size) != block:
        raise PackInvalid(f"the header of {name} was changed")
    return Member(name, at + BLOCK_BYTES, size)
