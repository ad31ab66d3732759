"""What is known of a machine's way from the request to its workload being ready."""

from __future__ import annotations

import contextlib
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pybench.runtime.marks import Mark
from pybench.runtime.output import READ_BYTES
from pybench.runtime.vm.channels import SERIAL_RESOLUTION
from pybench.runtime.vm.domain import Acceleration, Disk, Interface, Processor

if TYPE_CHECKING:
    from pathlib import Path

_LACKING: Final = {
    "mount /.pybench/lower: No such device": "its kernel does not know the file system of the image's disk",
    "mount /.pybench/lower: No such file or directory": "its kernel has no driver for the image's disk: "
    "virtio_pci, virtio_blk",
    "mount /.pybench/merged: No such device": "its kernel has no overlayfs, to write above the image's disk",
}
"""What init says where a kernel of the user's own lacks what its options did not tell → what it means."""

CLOCK_RESOLUTION: Final = time.get_clock_info("monotonic").resolution


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """What to boot and when it counts as ready; `memory` in bytes.

    `initramfs` holds the workload's record already. A `marking` workload pushes `exec` itself. Ready is
    the workload's first instruction, or the first line of its output that contains `line`. With `probe`
    the machine is ready with the first instruction of its init: a test of whether the kernel boots.
    `virtio_port` offers the guest a virtio port for commands beside the serial line. A `bare_metal` guest
    has no init, and takes the first word from the host for the order to end. A machine that is to be
    saved must be `savable`. QEMU runs on these `processors` of the host; on all, if none are named.
    """

    kernel: Path
    initramfs: Path
    command_line: str
    memory: int
    vcpus: int = 1
    acceleration: Acceleration = "tcg"
    processor: Processor = "host"
    machine: str = "q35"
    marking: bool = False
    line: str | None = None
    probe: bool = False
    disks: tuple[Disk, ...] = ()
    virtio_port: bool = False
    bare_metal: bool = False
    interface: Interface | None = None
    savable: bool = False
    processors: tuple[int, ...] = ()


@dataclass(slots=True)
class Progress:
    """Collects what the guest says; nothing here waits."""

    spec: MachineSpec
    restored: bool = False
    """Whether the machine comes from a saved state, its workload running already."""
    frozen: bool = False
    """Whether init has made the workload stand still."""
    exit_status: str = ""
    """What init said of the workload's end: `exit 0`, `signal 15`; empty while it runs."""
    failure: str = ""
    """What init said of its own failure."""
    answered: bool = False
    """Whether init has heard that it is to stop."""
    command_channel: str = ""
    """What init said of the channel for commands when it was asked: its name, or `none` and why."""
    _printed: bytes = b""
    _seen: dict[str, tuple[int, str]] = field(default_factory=dict)

    def create(self, at: int) -> None:
        """Libvirt has created the domain."""
        self._seen.setdefault("vmm", (at, "libvirt-call"))

    def hear(self, text: str, at: int) -> None:
        """One line from the guest's init or from a marking workload; both may be hostile by now."""
        word, _, rest = text.partition(" ")
        if word in {"kernel", "sandbox", "exec"}:
            self._seen.setdefault(word, (at, "isa-serial:tty" if rest == "tty" else "isa-serial"))
        elif word == "execve":
            self._seen.setdefault("exec", (at, "isa-serial:execve"))
        elif word in {"exit", "signal"} and not self.exit_status:
            self.exit_status = f"{word} {rest[:8]}"
        elif word in {"restored", "renewed"} and self.restored:
            self._seen.setdefault(word, (at, "isa-serial"))
        elif word == "frozen":
            self.frozen = True
        elif word == "stopping":
            self.answered = True
        elif word == "commands":
            self.command_channel = rest
        elif word == "error" and not self.failure:
            self.failure = rest

    def print(self, data: bytes, at: int) -> None:
        """The workload has printed something; a line counts at the instant it is complete."""
        if not data or self.spec.line is None or "line" in self._seen:
            return
        *lines, rest = (self._printed + data).split(b"\n")
        if any(self.spec.line.encode() in line for line in lines):
            self._seen["line"] = at, "isa-serial"
        self._printed = rest[-READ_BYTES:]

    @property
    def created(self) -> bool:
        """Whether libvirt has created the domain."""
        return "vmm" in self._seen

    @property
    def ready(self) -> bool:
        """Whether everything that was waited for has been seen."""
        if self.spec.probe:
            return "kernel" in self._seen
        if self.restored:
            return {"vmm", "restored", "renewed"} <= self._seen.keys()
        return {"vmm", "exec"} <= self._seen.keys() and (self.spec.line is None or "line" in self._seen)

    @property
    def ended(self) -> str:
        """Why it will not become ready, by init's own words; empty while it may."""
        if self.failure:
            meaning = _LACKING.get(self.failure)
            return f"the guest's init failed: {self.failure}" + (f" ({meaning})" if meaning else "")
        if self.exit_status:
            return f"the workload ended before it was ready ({_describe(self.exit_status)})"
        return ""

    @property
    def awaited(self) -> str:
        """What has not been seen yet, for an error message."""
        if self.restored:
            return "the restored guest's init did not answer"
        if self.spec.probe or "kernel" not in self._seen:
            return "the guest's init did not start"
        if "exec" not in self._seen:
            return "the workload's first instruction was not seen"
        return f"it printed no line with {self.spec.line!r}"

    def marks(self, request: int) -> list[Mark]:
        """What was seen, in order; a later step is never earlier than the one that led to it."""
        marks: list[Mark] = []
        at = request
        for name in ("vmm", "restored") if self.restored else ("vmm", "kernel", "sandbox", "exec"):
            if name in self._seen:
                seen_at, channel = self._seen[name]
                at = max(at, seen_at)
                resolution = CLOCK_RESOLUTION if name == "vmm" else SERIAL_RESOLUTION
                marks.append(Mark(name, at, channel, resolution))
        if not self.spec.probe:
            last = "renewed" if self.restored else "exec" if self.spec.line is None else "line"
            ready_at, channel = self._seen[last]
            marks.append(Mark("ready", max(at, ready_at), channel, SERIAL_RESOLUTION))
        return marks


def _describe(status: str) -> str:
    """`exit 3` as `exit code 3`, `signal 9` as `signal SIGKILL`; the text comes from the guest."""
    word, _, number = status.partition(" ")
    if word == "exit":
        return f"exit code {number}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(int(number)).name}"
    return status
