"""Tar archives of every format, and malformed ones."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oci_archives import directory, entry, hard_link, symlink, tar

from pybench.runtime.container.image.limits import Limits
from pybench.runtime.container.image.tar import FILE, Entry, TarReader
from pybench.runtime.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def read(content: bytes, limits: Limits | None = None) -> list[tuple[Entry, bytes]]:
    """All entries with their data, holes filled in."""
    reader = TarReader(io.BytesIO(content), "archive", limits or Limits())
    found = []
    for item in reader:
        data = bytearray(min(item.size, 1 << 26))
        for offset, piece in reader.content(item):
            data[offset : offset + len(piece)] = piece
        found.append((item, bytes(data)))
    return found


def outcome(content: bytes) -> str:
    """The names in an archive, or why it is refused."""
    try:
        return " ".join(item.name.decode("utf-8", "replace") for item, _ in read(content))
    except InputError as error:
        return error.message


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format_of_the_standard_library_is_read(format_: int) -> None:
    """Names, types, owners, modes, dates, links and contents are those that were written."""
    name = "deep/" * 30 + "file"
    content = tar(
        entry(name, data=b"x" * 1000, mode=0o4755, uid=1234, gid=99, mtime=1_577_836_800),
        directory("etc/"),
        symlink("etc/link", "../target"),
        hard_link("other", name[:90]),
        format=format_,
    )
    (file, data), (folder, _), (link, _), (other, _) = read(content)
    assert (file.name, file.type, file.mode, file.uid, file.gid) == (name.encode(), FILE, 0o4755, 1234, 99)
    assert (file.modified, data) == (1_577_836_800 * 10**9, b"x" * 1000)
    assert (folder.name.rstrip(b"/"), folder.type) == (b"etc", b"5")
    assert (link.link, other.link) == (b"../target", name[:90].encode())


@pytest.mark.parametrize("format_", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_a_plain_header_cannot_hold_is_read_too(format_: int) -> None:
    """Long names and link targets, large and negative numbers, and bytes that are no UTF-8."""
    strange = os.fsdecode(b"caf\xe9/" + b"n" * 200)
    (item, _), (link, _) = read(
        tar(
            entry(strange, uid=4_000_000_000, mtime=-5),
            symlink("link", "t" * 300),
            format=format_,
        )
    )
    assert (item.name, item.uid, item.modified) == (os.fsencode(strange), 4_000_000_000, -5 * 10**9)
    assert link.link == b"t" * 300


def test_attributes_and_fractions_of_seconds_come_from_pax_headers() -> None:
    """Values may hold any byte; an empty value is one, too."""
    value = bytes(range(256)).decode("utf-8", "surrogateescape")
    headers = {"SCHILY.xattr.user.all": value, "SCHILY.xattr.user.none": "", "mtime": "12.000000345"}
    ((item, _),) = read(tar(entry("file", pax_headers=headers)))
    assert item.attributes == {b"user.all": bytes(range(256)), b"user.none": b""}
    assert item.modified == 12_000_000_345


@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--format=posix", "--sparse-version=0.0"],
        ["--format=posix", "--sparse-version=0.1"],
        ["--format=posix", "--sparse-version=1.0"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("pieces", [0, 1, 3, 60])
def test_sparse_files_of_gnu_tar_are_read(tmp_path: Path, options: list[str], pieces: int) -> None:
    """All four ways in which GNU tar writes holes, with as many as need more than one block of map."""
    if shutil.which("tar") is None:
        pytest.skip("GNU tar is not installed")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate((pieces + 1) << 17)
        for number in range(pieces):
            os.pwrite(file.fileno(), b"%d" % number * 700, (number << 17) + 65536)
    (tmp_path / "after").write_bytes(b"after")
    archive = tmp_path / "archive.tar"
    subprocess.run(
        ["tar", "-C", tmp_path, *options, "--hole-detection=raw", "-S", "-cf", archive, "sparse", "after"],
        check=True,
    )
    (sparse, data), (_, after) = read(archive.read_bytes())
    assert (sparse.name, data) == (b"sparse", (tmp_path / "sparse").read_bytes())
    assert archive.stat().st_size < sparse.size or pieces == 60
    assert after == b"after"


def test_an_archive_that_ends_anywhere_is_refused_or_complete() -> None:
    """A cut in the middle of an entry is an error; a cut between two entries is an end."""
    content = tar(entry("one", data=b"1" * 600, pax_headers={"comment": "c" * 600}), entry("two"))
    outcomes = {outcome(content[:end]) for end in range(0, len(content), 64)}
    assert outcomes == {"", "one", "one two", "archive: it ends in the middle of an entry"}


def _header(content: bytes, start: int, value: bytes) -> bytes:
    """Change a header and mend its checksum."""
    block = bytearray(content[:512])
    block[start : start + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + content[512:]


PLAIN = tar(entry("file", data=b"x" * 512), format=tarfile.USTAR_FORMAT)
SPARSE_ROW = b"%011o\0%011o\0"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"this is no archive" * 100, "is no octal number|no tar header"),
        (b"PK\x03\x04" + bytes(508) + b"\1" * 512, "no tar header"),
        (PLAIN[:200] + b"\1" + PLAIN[201:], "no tar header"),
        (_header(PLAIN, 124, b"notanumber\0"), "is no octal number"),
        (_header(PLAIN, 124, b"\xff" * 12), "a negative size"),
        (_header(PLAIN, 156, b"Z"), "of unknown type"),
        (_header(PLAIN, 156, b"M"), "of unknown type"),
        (_header(PLAIN, 156, b"x"), "malformed pax header"),
        (_header(PLAIN, 156, b"g"), "malformed pax header"),
        (_header(_header(PLAIN, 156, b"L"), 124, b"\x80" + b"\x7f" * 11), "bytes of headers"),
        (_header(_header(PLAIN, 156, b"K"), 124, b"\xff" * 12), "negative size"),
        (tar(entry("f", pax_headers={"GNU.sparse.map": "5,1,0,1", "GNU.sparse.size": "9"})), "contradicts"),
        (tar(entry("f", pax_headers={"GNU.sparse.map": "0,4", "GNU.sparse.size": "9"})), "does not cover"),
        (tar(entry("f", pax_headers={"GNU.sparse.map": "0,x", "GNU.sparse.size": "9"})), "no decimal"),
        (tar(entry("f", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.realsize": "9"})), "longer than"),
        (tar(entry("f", pax_headers={"mtime": "yesterday"})), "is no date"),
        (tar(entry("f", pax_headers={"size": "9" * 30})), "no decimal number"),
        (_header(_header(PLAIN, 156, b"S"), 386, SPARSE_ROW % (0, 100)), "contradicts"),
    ],
)
def test_a_malformed_archive_is_refused(content: bytes, message: str) -> None:
    """The error names the archive and what is wrong with it."""
    with pytest.raises(InputError, match=f"archive: .*({message})"):
        read(content)


def test_a_global_header_may_only_comment() -> None:
    """What git archive writes is fine; anything that changes all entries is refused by name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", pax_headers={"comment": "a commit"}) as archive:
        archive.addfile(tarfile.TarInfo("file"))
    assert [item.name for item, _ in read(buffer.getvalue())] == [b"file"]
    hostile = buffer.getvalue().replace(b"comment=", b"gname=x=")
    with pytest.raises(InputError, match="global pax header sets 'gname'"):
        read(hostile)


def test_more_entries_than_allowed_are_refused() -> None:
    """The limit itself is allowed."""
    content = tar(*(entry(str(number)) for number in range(5)))
    assert len(read(content, Limits(entries=5))) == 5
    with pytest.raises(InputError, match="more than 4 entries"):
        read(content, Limits(entries=4))


def test_a_chain_of_headers_is_bounded_without_recursion() -> None:
    """A hundred thousand pax headers in a row end in an error, not in a full memory or stack."""
    one = _header(_header(PLAIN, 156, b"x"), 124, b"00000000012\0")[:512] + b"10 comm=x\n".ljust(512, b"\0")
    with pytest.raises(InputError, match="bytes of headers"):
        read(one * 100_000)


def test_a_long_run_of_digits_costs_no_time() -> None:
    """A megabyte of digits in a pax header, which takes regular expressions hours, is refused at once."""
    size = (1 << 20) - 4096
    bomb = _header(_header(PLAIN, 156, b"x"), 124, b"%011o\0" % size)[:512] + b"1" * size + bytes(4096)
    with pytest.raises(InputError, match="malformed pax header"):
        read(bomb)


@given(st.binary(max_size=2048), st.integers(0, 2048))
def test_any_damage_is_an_input_error(noise: bytes, position: int) -> None:
    """Whatever bytes are written over an archive, it is read or refused, and nothing else happens."""
    content = bytearray(tar(entry("one", data=b"1" * 600, pax_headers={"a": "b"}), entry("two")))
    content[position : position + len(noise)] = noise
    assert isinstance(outcome(bytes(content)), str)
