"""What a guest's memory costs, out of smaps and of what the guest says."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from pybench.runtime.errors import InstanceError
from pybench.runtime.vm.memory import HostMemory, parse_guest_memory, read_host_memory

MEBIBYTE = 1 << 20
MEMINFO = b"""MemTotal:         200000 kB
MemFree:          150000 kB
MemAvailable:     180000 kB
Slab:               8000 kB
KernelStack:        1000 kB
PageTables:          500 kB
Percpu:              100 kB
HugePages_Total:       0
"""


def read_own_memory() -> HostMemory:
    """This process's memory, with a mapping in it that stands for a guest's."""
    length = 77 * MEBIBYTE
    with mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as guest:
        # Unlike its neighbours, which the kernel would otherwise merge with it.
        guest.madvise(mmap.MADV_NOHUGEPAGE)
        return read_host_memory(os.getpid(), length)


def test_guests_memory_is_told_from_the_rest() -> None:
    """A mapping of the guest's length counts as touched; everything else private is the monitor's."""
    length = 77 * MEBIBYTE
    with mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as guest:
        guest.madvise(mmap.MADV_NOHUGEPAGE)
        guest[: 10 * MEBIBYTE] = b"x" * (10 * MEBIBYTE)
        memory = read_host_memory(os.getpid(), length)
    assert 10 * MEBIBYTE <= memory.guest <= 12 * MEBIBYTE
    assert memory.monitor > 5 * MEBIBYTE
    assert 0 <= memory.monitor_files < memory.monitor
    assert memory.merged >= 0


def test_translated_code_is_told_from_the_rest_of_the_monitor() -> None:
    """Private pages that are writable and executable at once are code that TCG has translated."""
    before = read_own_memory()
    executable = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mmap.mmap(-1, 4 * MEBIBYTE, flags=flags, prot=executable) as code:
        code.madvise(mmap.MADV_NOHUGEPAGE)
        code[: 2 * MEBIBYTE] = b"x" * (2 * MEBIBYTE)
        after = read_own_memory()
    assert after.monitor_code - before.monitor_code == 2 * MEBIBYTE
    assert after.monitor_code <= after.monitor


def test_pages_of_a_file_are_told_from_copies_of_them(tmp_path: Path) -> None:
    """What was only read of a file is the file's; what was written to a private mapping of it is a copy."""
    # Large beside what the interpreter may take meanwhile: its heap grows by pages of 2 MiB.
    size = 64 * MEBIBYTE
    near = size // 8
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    content = bytes(size)
    with path.open("rb") as file:
        before = read_own_memory()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
            assert mapped.find(b"y") == -1
            only_read = read_own_memory()
            mapped[:] = content
            written = read_own_memory()
    assert only_read.monitor_files - before.monitor_files == pytest.approx(size, abs=near)
    assert written.monitor_files - before.monitor_files == pytest.approx(0, abs=near)
    assert written.monitor - before.monitor == pytest.approx(size, abs=near)


def test_process_without_such_a_mapping_is_refused() -> None:
    """No figure is made up for a process that has no memory of that size, or that has ended."""
    with pytest.raises(InstanceError, match="no mapping of 12945381654528"):
        read_host_memory(os.getpid(), 12345678 * MEBIBYTE)
    with pytest.raises(InstanceError, match="cannot read the memory of process 4194305"):
        read_host_memory(4194305, MEBIBYTE)


def test_guests_words_are_understood() -> None:
    """Used is what cannot be given out at once; the kernel's is its image and what it keeps."""
    memory = parse_guest_memory(MEMINFO, 256 * MEBIBYTE)
    assert memory.total == 200000 * 1024
    assert memory.used == 20000 * 1024
    assert memory.kernel == 256 * MEBIBYTE - 200000 * 1024 + 9600 * 1024


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (b"", "no MemTotal"),
        (b"\xff\x00MemTotal: 1 kB", "no MemTotal"),
        (MEMINFO.replace(b"180000", b"280000"), "cannot be"),
        (MEMINFO.replace(b"200000", b"900000"), "cannot be"),
        (MEMINFO.replace(b"8000 kB", b"99999999999999999999 kB"), "cannot be"),
    ],
)
def test_impossible_words_are_refused(words: bytes, named: str) -> None:
    """A guest may say anything; what cannot be is no sample."""
    with pytest.raises(InstanceError, match=named):
        parse_guest_memory(words, 256 * MEBIBYTE)
