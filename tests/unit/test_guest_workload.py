"""The record that tells a guest's init what to run."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybench.runtime.errors import HostError, InputError
from pybench.runtime.vm.workload import GuestWorkload, write_initramfs
from pybench.runtime.workload_files import WorkloadFile


def test_record_holds_every_field_in_order() -> None:
    """Fields end with a zero byte, and lists are counted."""
    workload = GuestWorkload(
        command=("/bin/sh", "-c", "true"),
        environment={"A": "b c"},
        directory="/tmp",
        host_name="guest",
        marking=True,
        limits={"pids.max": "8"},
        identity=(33, 44, 55),
        files=(WorkloadFile("/etc/a", b"text", 0o600),),
    )
    fields = workload.record().split(b"\0")
    assert fields == [
        b"pybench-workload-2", b"guest", b"/tmp", b"marking",
        b"2", b"pids.max", b"8",
        b"3", b"33", b"44", b"55",
        b"2", b"/etc/a", b"600",
        b"3", b"/bin/sh", b"-c", b"true",
        b"1", b"A=b c",
        b"",
    ]  # fmt: skip


def test_bytes_of_any_encoding_survive() -> None:
    """An argument that is no UTF-8 reaches the guest as the bytes it was."""
    argument = b"\xff\xfe".decode("utf-8", "surrogateescape")
    assert b"\0\xff\xfe\0" in GuestWorkload(command=("/bin/echo", argument)).record()


@pytest.mark.parametrize(
    ("workload", "named"),
    [
        (GuestWorkload(command=()), "empty"),
        (GuestWorkload(command=("/bin/echo", "a\0b")), "zero byte"),
        (GuestWorkload(command=("/bin/echo", "x" * 300_000)), "262144"),
        (GuestWorkload(command=("/bin/echo",) * 4097), "4096"),
    ],
)
def test_impossible_workload_is_refused(workload: GuestWorkload, named: str) -> None:
    """What init could not read back is named before any guest is started."""
    with pytest.raises(InputError, match=named):
        workload.record()


def test_initramfs_keeps_the_image_and_adds_the_record(tmp_path: Path) -> None:
    """The image's archive comes first, unchanged; record and files are a segment after it."""
    base = tmp_path / "base.cpio"
    base.write_bytes(b"image" * 1024)
    output = tmp_path / "guest.cpio"
    files = (WorkloadFile("/a", b"the first"), WorkloadFile("/b", b"the second"))
    workload = GuestWorkload(command=("/bin/true",), files=files)
    write_initramfs(base, workload, output)
    written = output.read_bytes()
    assert written.startswith(base.read_bytes())
    added = written[base.stat().st_size :]
    assert workload.record() in added
    for number, file in enumerate(files):
        assert file.content in added[added.index(b".pybench/files/%d\0" % number) :]


def test_missing_image_is_named(tmp_path: Path) -> None:
    """A base archive that cannot be read is a one-line error."""
    with pytest.raises(HostError, match=r"guest\.cpio"):
        write_initramfs(tmp_path / "none", GuestWorkload(command=("/bin/true",)), tmp_path / "guest.cpio")
