"""What a guest's memory costs: as the host pays for it, and as the guest itself counts it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.runtime.errors import InstanceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

KIBIBYTE: Final = 1024
_SLACK: Final = 4 << 20
"""Bytes by which the mapping of a guest's memory may be longer: neighbours of the same kind are merged."""
_MAPPING: Final = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S{4}) [0-9a-f]+ \S+ \d+ *(.*)$")
_COUNTED: Final = ("Rss:", "Private_Clean:", "Private_Dirty:", "Anonymous:", "KSM:")
"""Of some 25 lines of smaps about each mapping those that are read: reading all takes four times as long."""
_FIELD: Final = re.compile(r"^(\w+): +(\d+)(?: kB)?$")
_KSM: Final = Path("/sys/kernel/mm/ksm/run")
_GUEST_KERNEL: Final = ("Slab", "KernelStack", "PageTables", "SecPageTables", "Percpu")
MEMINFO_MAXIMUM: Final = 64 * KIBIBYTE


@dataclass(frozen=True, slots=True)
class HostMemory:
    """What QEMU takes of the host, in bytes, split into the guest's memory and all else.

    Private pages are those that would be free if this QEMU ended: together they are its unique set size.
    """

    guest: int
    """Of the guest's memory, resident: touched by the guest, and not given back."""
    monitor: int
    """Private pages beside the guest's memory: QEMU's own, its devices', its translated code under TCG."""
    monitor_files: int
    """The part of `monitor` that is unchanged pages of files: guest's kernel and initramfs, QEMU's program.

    They are QEMU's own only while nobody else maps the files: beside a sibling they are shared. What is
    left of `monitor` without them is what each further guest costs.
    """
    monitor_code: int
    """The part of `monitor` that is translated code: TCG's cache of it, which KVM does without."""
    merged: int
    """Pages that KSM has merged with others (proc_pid_smaps(5), `KSM`)."""


@dataclass(frozen=True, slots=True)
class GuestMemory:
    """What the guest says of its memory, in bytes (proc_meminfo(5)); a guest can say anything."""

    total: int
    """What the kernel has to give out: the machine's memory without its own image and page structures."""
    used: int
    """`total` without what could be given out at once (MemAvailable)."""
    kernel: int
    """What the kernel keeps for itself: the rest of the machine's memory, slabs, stacks, page tables."""


def read_host_memory(pid: int, guest_bytes: int) -> HostMemory:
    """Read /proc/PID/smaps of a QEMU whose guest has `guest_bytes` of memory.

    The guest's memory is the anonymous, writable, not executable mapping of just that length.

    Raises:
        InstanceError: the process has ended, may not be read, or has no such mapping.
    """
    try:
        text = Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InstanceError(f"cannot read the memory of process {pid}: {error.strerror}") from error
    mappings = list(_mappings(text.splitlines()))
    guests = [each for each in mappings if each.holds(guest_bytes)]
    if not guests:
        raise InstanceError(f"process {pid} has no mapping of {guest_bytes} bytes for the guest's memory")
    guest = min(guests, key=lambda each: each.length)
    others = [each for each in mappings if each is not guest]
    return HostMemory(
        guest=guest.resident,
        monitor=sum(each.private for each in others),
        monitor_files=sum(each.unchanged for each in others if each.name.startswith("/")),
        monitor_code=sum(each.private for each in others if each.is_translated_code),
        merged=sum(each.merged for each in mappings),
    )


def parse_guest_memory(meminfo: bytes, guest_bytes: int) -> GuestMemory:
    """Understand a guest's /proc/meminfo; what is missing or impossible is refused.

    Raises:
        InstanceError: it is not what a kernel writes.
    """
    found: dict[str, int] = {}
    for line in meminfo.decode("ascii", errors="replace").splitlines():
        if match := _FIELD.match(line):
            found[match[1]] = int(match[2]) * KIBIBYTE
    try:
        total, available = found["MemTotal"], found["MemAvailable"]
        kernel = guest_bytes - total + sum(found.get(name, 0) for name in _GUEST_KERNEL)
    except KeyError as error:
        raise InstanceError(f"the guest's /proc/meminfo has no {error.args[0]}") from error
    if not 0 <= available <= total <= guest_bytes or kernel > guest_bytes:
        raise InstanceError("the guest's /proc/meminfo says what cannot be")
    return GuestMemory(total, total - available, kernel)


def merging_state() -> str:
    """Whether the host's KSM merges equal pages of guests: `on`, `off`, or `unknown`."""
    try:
        return "on" if _KSM.read_text(encoding="ascii").strip() == "1" else "off"
    except OSError:
        return "unknown"


@dataclass(slots=True)
class _Mapping:
    """One mapping of smaps; sizes in bytes."""

    length: int
    permissions: str
    name: str
    resident: int = 0
    clean: int = 0
    dirty: int = 0
    anonymous: int = 0
    merged: int = 0

    @property
    def private(self) -> int:
        return self.clean + self.dirty

    @property
    def unchanged(self) -> int:
        """Private pages of the file itself, not copies (proc_pid_smaps(5)); dirty where it is on a tmpfs."""
        return max(0, self.private - self.anonymous)

    @property
    def is_translated_code(self) -> bool:
        """Of all that QEMU has only TCG's buffer is writable and executable at once."""
        return not self.name and self.permissions == "rwxp"

    def holds(self, guest_bytes: int) -> bool:
        anonymous = not self.name and self.permissions == "rw-p"
        return anonymous and guest_bytes <= self.length <= guest_bytes + _SLACK

    def count(self, name: str, size: int) -> None:
        match name:
            case "Rss:":
                self.resident = size
            case "Private_Clean:":
                self.clean = size
            case "Private_Dirty:":
                self.dirty = size
            case "Anonymous:":
                self.anonymous = size
            case "KSM:":
                self.merged = size


def _mappings(lines: Iterable[str]) -> Iterator[_Mapping]:
    mapping: _Mapping | None = None
    for line in lines:
        if line.startswith(_COUNTED):
            if mapping is not None:
                name, size, _ = line.split()
                mapping.count(name, int(size) * KIBIBYTE)
        # The names of fields begin with a capital letter, addresses with a digit or a small one.
        elif not line[:1].isupper() and (match := _MAPPING.match(line)):
            if mapping is not None:
                yield mapping
            mapping = _Mapping(int(match[2], 16) - int(match[1], 16), match[3], match[4])
    if mapping is not None:
        yield mapping
