"""What a guest's init is to run: a record appended to the initramfs, so that the start needs no answer.

The record is a sequence of fields, each ended by a zero byte (no field can contain one, for all of
them end up as C strings): magic, host name, directory, `marking` or `silent`, then five counted
lists: cgroup limits as file and value in turn; user, group and further groups; paths and modes of files;
arguments; environment. `runtime/vm/guest/init.c` reads it.
"""

from __future__ import annotations

import shutil
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pybench.runtime.errors import HostError, InputError
from pybench.runtime.vm.initramfs import ArchiveEntry, write_archive

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pybench.runtime.workload_files import WorkloadFile

RECORD_PATH: Final = "/.pybench/workload"
FILES_PATH: Final = "/.pybench/files"
_MAGIC: Final = "pybench-workload-2"
_LARGEST: Final = 256 * 1024  # RECORD_MAXIMUM of init.c
_MOST_FIELDS: Final = 4096  # FIELDS_MAXIMUM of init.c


@dataclass(frozen=True, slots=True)
class GuestWorkload:
    """One command for a guest.

    A `marking` command pushes `exec` and a newline to file descriptor $PYBENCH_MARK_FD as its first
    act; for any other, init reports that execve succeeded. `limits` maps files of the workload's
    cgroup (v2) to what is written there, such as `pids.max` to `64`. `identity` is its user, its group
    and further groups; root where it is empty.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = "/"
    host_name: str = "pybench"
    marking: bool = False
    limits: Mapping[str, str] = field(default_factory=dict)
    identity: tuple[int, ...] = ()
    files: tuple[WorkloadFile, ...] = ()

    def record(self) -> bytes:
        """The record as init reads it.

        Raises:
            InputError: a field holds a zero byte, the command is empty, or the whole is too large.
        """
        if not self.command:
            raise InputError("the workload's command is empty")
        marking = "marking" if self.marking else "silent"
        limits = [part for limit in self.limits.items() for part in limit]
        environment = [f"{name}={value}" for name, value in self.environment.items()]
        fields = [_MAGIC, self.host_name, self.directory, marking]
        identity = [str(number) for number in self.identity]
        files = [part for file in self.files for part in (file.path, f"{file.mode:o}")]
        for listed in (limits, identity, files, self.command, environment):
            fields += _counted(listed)
        if any("\0" in text for text in fields):
            raise InputError("the workload's command, environment or files contain a zero byte")
        record = b"".join(text.encode("utf-8", "surrogateescape") + b"\0" for text in fields)
        if len(record) > _LARGEST:
            raise InputError(f"the workload's command and environment need {len(record)} bytes of {_LARGEST}")
        return record


def _counted(fields: Sequence[str]) -> list[str]:
    if len(fields) > _MOST_FIELDS:
        raise InputError(
            f"the workload has a list of {len(fields)} arguments or others; {_MOST_FIELDS} are possible"
        )
    return [str(len(fields)), *fields]


def write_initramfs(base: Path, workload: GuestWorkload, output: Path) -> None:
    """Write `base` and one more segment, with the workload's record and files, to the new file `output`.

    Raises:
        InputError: the workload cannot be recorded.
        HostError: `base` cannot be read or `output` not written.
    """
    entries = [ArchiveEntry(RECORD_PATH, stat.S_IFREG | 0o400, workload.record())]
    if workload.files:
        entries.append(ArchiveEntry(FILES_PATH, stat.S_IFDIR | 0o700))
    entries += (
        ArchiveEntry(f"{FILES_PATH}/{number}", stat.S_IFREG | 0o400, file.content)
        for number, file in enumerate(workload.files)
    )
    try:
        with base.open("rb") as source, output.open("xb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            write_archive(entries, target)
    except OSError as error:
        raise HostError(f"cannot write the guest's initramfs {output}: {error.strerror}") from error
