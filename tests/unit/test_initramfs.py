"""Archives that a guest's kernel unpacks."""

from __future__ import annotations

import io
import stat
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybench.runtime.errors import HostError, InputError
from pybench.runtime.vm.initramfs import SEGMENT_ALIGNMENT, ArchiveEntry, write_archive

if TYPE_CHECKING:
    from pathlib import Path

HEADER_SIZE = 110


class Read(NamedTuple):
    """One member as an independent reader of the newc form sees it (cpio(5))."""

    name: str
    fields: tuple[int, ...]
    content: bytes

    @property
    def mode(self) -> int:
        """File type and permissions."""
        return self.fields[1]


def read_archive(data: bytes) -> tuple[list[Read], bytes]:
    """The members up to the trailer, and what follows it."""
    found: list[Read] = []
    position = 0
    while True:
        assert data[position : position + 6] == b"070701"
        fields = tuple(
            int(data[position + 6 + 8 * index : position + 14 + 8 * index], 16) for index in range(13)
        )
        name_at = position + HEADER_SIZE
        name = data[name_at : name_at + fields[11] - 1].decode()
        content_at = (name_at + fields[11] + 3) & ~3
        position = (content_at + fields[6] + 3) & ~3
        if name == "TRAILER!!!":
            return found, data[position:]
        found.append(Read(name, fields, data[content_at : content_at + fields[6]]))


def archive(*entries: ArchiveEntry) -> bytes:
    """What `write_archive` writes."""
    output = io.BytesIO()
    write_archive(entries, output)
    return output.getvalue()


def test_every_kind_of_entry_is_read_back_as_it_was_given(tmp_path: Path) -> None:
    """Directories, files from memory and from the host, links and nodes keep type, mode and content."""
    big = tmp_path / "big"
    big.write_bytes(bytes(range(256)) * 9001)
    members, _ = read_archive(
        archive(
            ArchiveEntry("/d", stat.S_IFDIR | 0o1777),
            ArchiveEntry("/d/file", stat.S_IFREG | 0o640, b"hello"),
            ArchiveEntry("d/big", stat.S_IFREG | 0o755, big),
            ArchiveEntry("/link", stat.S_IFLNK | 0o777, b"d/file"),
            ArchiveEntry("/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        )
    )
    assert [(member.name, member.mode, member.content) for member in members] == [
        ("d", stat.S_IFDIR | 0o1777, b""),
        ("d/file", stat.S_IFREG | 0o640, b"hello"),
        ("d/big", stat.S_IFREG | 0o755, big.read_bytes()),
        ("link", stat.S_IFLNK | 0o777, b"d/file"),
        ("console", stat.S_IFCHR | 0o600, b""),
    ]
    assert members[4].fields[9:11] == (5, 1)


def test_nothing_of_the_host_gets_into_an_archive(tmp_path: Path) -> None:
    """Owner, date and device of a host file are replaced by zero, inode numbers count from one."""
    source = tmp_path / "source"
    source.write_bytes(b"x")
    members, _ = read_archive(
        archive(ArchiveEntry("a", stat.S_IFREG | 0o644, source), ArchiveEntry("b", stat.S_IFREG | 0o644))
    )
    assert [member.fields[0] for member in members] == [1, 2]
    for member in members:
        _, _, owner, group, links, modified, _, major, minor, *_ = member.fields
        assert (owner, group, links, modified, major, minor) == (0, 0, 1, 0, 0, 0)


@given(st.lists(st.tuples(st.from_regex(r"[a-z]{1,20}", fullmatch=True), st.binary(max_size=600))))
def test_archives_are_padded_so_that_they_concatenate(files: list[tuple[str, bytes]]) -> None:
    """Whatever the entries, the length is a multiple of the segment size and only zeros follow the end."""
    data = archive(*(ArchiveEntry(name, stat.S_IFREG | 0o644, content) for name, content in files))
    members, rest = read_archive(data)
    assert [(member.name, member.content) for member in members] == files
    assert len(data) % SEGMENT_ALIGNMENT == 0
    assert not rest.strip(b"\0")
    assert len(rest) < SEGMENT_ALIGNMENT


@pytest.mark.parametrize(
    "path", ["", "/", "../escape", "/a/../b", "a//b", "/a/", "./a", "nul\0byte", "x" * 5000]
)
def test_a_path_that_the_kernel_would_misread_is_refused(path: str) -> None:
    """Empty, relative, doubled or overlong parts are an input error that names the path."""
    with pytest.raises(InputError, match="archive entry"):
        archive(ArchiveEntry(path, stat.S_IFREG | 0o644))


def test_only_files_and_links_hold_data(tmp_path: Path) -> None:
    """Content on a directory or node, and a link's target taken from a host file, are refused."""
    with pytest.raises(InputError, match="only files"):
        archive(ArchiveEntry("d", stat.S_IFDIR | 0o755, b"data"))
    with pytest.raises(InputError, match="regular file"):
        archive(ArchiveEntry("l", stat.S_IFLNK | 0o777, tmp_path))


def test_a_host_file_is_never_read_through_a_link(tmp_path: Path) -> None:
    """A symbolic link in place of the host file, or no file at all, is an error that names it."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link").symlink_to("secret")
    for name in ("link", "missing"):
        with pytest.raises(HostError, match=name):
            archive(ArchiveEntry("f", stat.S_IFREG | 0o644, tmp_path / name))
