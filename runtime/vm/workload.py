"""What a guest's init is to run: a record appended to the initramfs, so that the start needs no answer.

The record is a sequence of fields, each ended by a zero byte (no field can contain one, for all of
them end up as C strings): magic, host name, directory, `marking` or `silent`, then three counted
lists: cgroup limits as file and value in turn, arguments, environment. `runtime/vm/guest/init.c`
reads it.
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

RECORD_PATH: Final = "/.pybench/workload"
_MAGIC: Final = "pybench-workload-1"
_LARGEST: Final = 256 * 1024  # RECORD_MAXIMUM of init.c
_MOST_FIELDS: Final = 4096  # FIELDS_MAXIMUM of init.c


@dataclass(frozen=True, slots=True)
class GuestWorkload:
    """One command for a guest.

    A `marking` command pushes `exec` and a newline to file descriptor $PYBENCH_MARK_FD as its first
    act; for any other, init reports that execve succeeded. `limits` maps files of the workload's
    cgroup (v2) to what is written there, such as `pids.max` to `64`.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = "/"
    host_name: str = "pybench"
    marking: bool = False
    limits: Mapping[str, str] = field(default_factory=dict)

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
        for listed in (limits, self.command, environment):
            fields += _counted(listed)
        if any("\0" in text for text in fields):
            raise InputError("the workload's command or environment contains a zero byte")
        record = b"".join(text.encode("utf-8", "surrogateescape") + b"\0" for text in fields)
        if len(record) > _LARGEST:
            raise InputError(f"the workload's command and environment need {len(record)} bytes of {_LARGEST}")
        return record


def _counted(fields: Sequence[str]) -> list[str]:
    if len(fields) > _MOST_FIELDS:
        raise InputError(
            f"the workload has {len(fields)} arguments or variables; {_MOST_FIELDS} are possible"
        )
    return [str(len(fields)), *fields]


def write_initramfs(base: Path, workload: GuestWorkload, output: Path) -> None:
    """Write `base` with one more segment, which holds the workload's record, to the new file `output`.

    Raises:
        InputError: the workload cannot be recorded.
        HostError: `base` cannot be read or `output` not written.
    """
    record = workload.record()
    try:
        with base.open("rb") as source, output.open("xb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            write_archive([ArchiveEntry(RECORD_PATH, stat.S_IFREG | 0o400, record)], target)
    except OSError as error:
        raise HostError(f"cannot write the guest's initramfs {output}: {error.strerror}") from error
