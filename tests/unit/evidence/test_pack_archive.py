"""The archive of a pack: any other file is refused, in bounded time and memory."""

import gzip
import io
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import BinaryIO, Final

import pytest

from pulse.evidence.pack import archive as archive_module
from pulse.evidence.pack.archive import (
    MAX_MEMBER_BYTES,
    MAX_MEMBERS,
    Archive,
    ArchiveWriter,
    PackInvalid,
    header_of,
)

NAMES: Final = ("README.txt", "events/0001.ndjson", "tile/0/x001/067.p/8")


def written(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    archive = ArchiveWriter(file)
    for name, content in members.items():
        archive.add(name, content)
    archive.finish()
    return file.getvalue()


CONTENT: Final = dict(zip(NAMES, (b"", b"x\n" * 300, b"y" * 512), strict=True))
WHOLE: Final = written(CONTENT)


def opened(content: bytes | BinaryIO) -> Archive:
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    return Archive.opened(file, lambda name: not name.startswith("other"))


def test_members_are_found_and_read_by_this_code_and_by_pythons_tarfile() -> None:
    archive = opened(WHOLE)
    assert tuple(archive.members) == NAMES
    for name, content in CONTENT.items():
        assert archive.read(name, 1000) == content
        assert b"".join(archive.chunks(name)) == content
    with tarfile.open(fileobj=io.BytesIO(WHOLE)) as other:
        assert other.getnames() == list(NAMES)
        for member in other.getmembers():
            assert (member.mtime, member.uid, member.mode, member.uname) == (0, 0, 0o644, "")


def test_two_archives_of_the_same_members_are_the_same_bytes() -> None:
    assert written(CONTENT) == WHOLE


def test_a_member_of_the_wrong_size_is_not_read() -> None:
    archive = opened(WHOLE)
    with pytest.raises(PackInvalid, match="larger than 100 bytes"):
        archive.read(NAMES[1], 100)
    with pytest.raises(PackInvalid, match="missing"):
        archive.read("export.json", 100)


def test_lines_are_bounded_and_whole() -> None:
    archive = opened(written({"a": b"1\n22\n", "b": b"1\n2", "c": b"3" * 100}))
    assert list(archive.lines("a", 10)) == [b"1\n", b"22\n"]
    with pytest.raises(PackInvalid, match="last line of b is cut short"):
        list(archive.lines("b", 10))
    with pytest.raises(PackInvalid, match="line of more than 10 bytes"):
        list(archive.lines("c", 10))


@pytest.mark.parametrize("size", range(0, len(WHOLE), 97))
def test_a_file_that_is_cut_short_is_refused(size: int) -> None:
    with pytest.raises(PackInvalid, match=r"cut short|not a tar file"):
        opened(WHOLE[:size])


def test_a_changed_byte_outside_the_contents_is_refused() -> None:
    """Each of these bytes has one right value."""
    places = set(range(len(WHOLE)))
    for member in opened(WHOLE).members.values():
        places -= set(range(member.offset, member.offset + member.size))
    for place in sorted(places):
        changed = bytearray(WHOLE)
        changed[place] ^= 0xFF
        with pytest.raises(PackInvalid):
            opened(bytes(changed))


@pytest.mark.parametrize("rest", [b"x", bytes(512), WHOLE], ids=["a byte", "zeros", "a pack"])
def test_bytes_after_the_end_are_refused(rest: bytes) -> None:
    with pytest.raises(PackInvalid, match="something after its end"):
        opened(WHOLE + rest)


def test_a_duplicate_member_name_is_refused() -> None:
    twice = WHOLE[:-1024] + header_of(NAMES[1], 0) + bytes(1024)
    with pytest.raises(PackInvalid, match=r"two members events/0001\.ndjson"):
        opened(twice)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../README.txt", "leads out"),
        ("tile/../../etc/passwd", "leads out"),
        ("/etc/passwd", "leads out"),
        ("other", "has no member other"),
        ("other\x1b[31m", "has no member"),
    ],
)
def test_a_name_that_no_pack_has_is_refused(name: str, reason: str) -> None:
    with pytest.raises(PackInvalid, match=reason):
        opened(header_of(name, 0) + bytes(1024))


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.DIRTYPE, "a directory"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
        (tarfile.XHDTYPE, "of a kind"),
        (tarfile.GNUTYPE_LONGNAME, "of a kind"),
    ],
)
def test_a_member_that_is_not_a_plain_file_is_refused(kind: bytes, what: str) -> None:
    info = tarfile.TarInfo("README.txt")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(PackInvalid, match=what):
        opened(info.tobuf(format=tarfile.USTAR_FORMAT) + bytes(1024))


def test_archives_of_other_tools_are_refused() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as other:
        other.addfile(tarfile.TarInfo("README.txt"))
    with pytest.raises(PackInvalid, match=r"header of README\.txt was changed"):
        opened(file.getvalue())


def test_compressed_files_are_refused_without_being_decompressed() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.txt", bytes(10_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(PackInvalid, match="compressed with gzip"):
            opened(bomb)
        with pytest.raises(PackInvalid, match="a zip file"):
            opened(zipped.getvalue())
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("content", [b"", b"x" * 511, bytes(1024), b"x" * 2000])
def test_a_file_that_is_not_an_archive_is_refused(content: bytes) -> None:
    with pytest.raises(PackInvalid, match="not a pack"):
        opened(content)


class Endless(io.RawIOBase):
    """A file of ten million empty members, which is never in memory."""

    members = 10_000_000

    def __init__(self) -> None:
        self.at = self.reads = 0

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self.at = offset if whence == 0 else 512 * self.members
        return self.at

    def read(self, size: int = -1, /) -> bytes:
        self.reads += 1
        block = header_of(f"events/{self.at // 512:09}", 0)
        return block[:size]


def test_ten_million_members_are_refused_after_a_bounded_number_of_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert MAX_MEMBERS <= 200_000
    monkeypatch.setattr(archive_module, "MAX_MEMBERS", 5_000)
    file = Endless()
    with pytest.raises(PackInvalid, match="more than 5,000 members"):
        Archive.opened(file, lambda _: True)  # type: ignore[arg-type] # all that is used of it
    assert file.reads < 3 * 5_000


def test_a_large_file_with_a_hole_is_read_only_as_far_as_needed(tmp_path: Path) -> None:
    """A sparse file takes no disk space; only its headers are read."""
    file = tmp_path / "sparse.tar"
    with file.open("wb") as stream:
        stream.write(header_of("events/0001.ndjson", MAX_MEMBER_BYTES))
        stream.truncate(MAX_MEMBER_BYTES + 513)
    with file.open("rb") as stream, pytest.raises(PackInvalid, match="cut short"):
        opened(stream)
    with file.open("rb") as stream:
        archive = Archive(stream, {"a": archive_module.Member("a", 512, MAX_MEMBER_BYTES)})
        with pytest.raises(PackInvalid, match="line of more than"):
            next(archive.lines("a", 1000))


def test_a_member_and_a_pack_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "MAX_MEMBER_BYTES", 3)
    monkeypatch.setattr(archive_module, "MAX_MEMBERS", 1)
    archive = ArchiveWriter(io.BytesIO())
    archive.add("README.txt", b"123")
    with pytest.raises(PackInvalid, match="more than 1 members"):
        archive.add("events/0001.ndjson", b"")
    with pytest.raises(PackInvalid, match="larger than 3 bytes"):
        ArchiveWriter(io.BytesIO()).add("README.txt", b"1234")
