"""Whether guests run under KVM: decided by a test boot, for a device that opens proves nothing.

The verdict on a kernel is remembered for as long as the host is not rebooted and QEMU stays the same.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, get_args

import platformdirs

from pybench.runtime.errors import HostError, InputError, InstanceError
from pybench.runtime.vm.command_line import COMMAND_LINE
from pybench.runtime.vm.domain import Acceleration, Processor
from pybench.runtime.vm.machine import VirtualMachine
from pybench.runtime.vm.progress import MachineSpec

if TYPE_CHECKING:
    from pybench.runtime.vm.connection import Connection

Choice = Literal["auto", "kvm", "tcg"]

KVM_DEVICE: Final = Path("/dev/kvm")
BOOT_SECONDS: Final = 6.0
"""Under real KVM the kernel gets to init in well under a second."""
_PROBE_MEMORY: Final = 256 << 20
_STOP_SECONDS: Final = 0.0
_REMEMBERED: Final = 64


class GuestImage(Protocol):
    """What a test boot needs of an image."""

    @property
    def kernel(self) -> Path:
        """The guest's kernel: an ELF with a PVH entry."""
        ...

    @property
    def initramfs(self) -> Path:
        """An archive with the guest's init."""
        ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """How guests of an image run on this host, and why."""

    acceleration: Acceleration
    reason: str
    processor: Processor = "host"

    @property
    def label(self) -> str:
        """What is said beside every number."""
        return "KVM" if self.acceleration == "kvm" else "TCG emulation"


def decide(choice: Choice, image: GuestImage, connection: Connection) -> Verdict:
    """KVM or emulation for this image; `auto` and `kvm` may cost a test boot of some seconds, once.

    Raises:
        HostError: KVM is demanded and does not boot the image; the message holds the evidence.
    """
    if choice == "tcg":
        return Verdict("tcg", "asked for")
    verdict = _remembered_verdict(image, connection)
    if choice == "kvm" and verdict.acceleration != "kvm":
        raise HostError(
            f"KVM cannot run this image here: {verdict.reason}",
            "take --accel tcg, or a host with hardware virtualisation and /dev/kvm open to you",
        )
    return verdict


def _remembered_verdict(image: GuestImage, connection: Connection) -> Verdict:
    if problem := _device_problem():
        return Verdict("tcg", problem)
    memory = Path(platformdirs.user_cache_dir("pybench"), "acceleration.json")
    key = _key(image, connection)
    known = _read(memory)
    with contextlib.suppress(KeyError, TypeError):
        return Verdict(**known[key])
    verdict = _test_boot(image, connection)
    known[key] = asdict(verdict)
    _write(memory, dict(list(known.items())[-_REMEMBERED:]))
    return verdict


def _device_problem() -> str:
    try:
        os.close(os.open(KVM_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{KVM_DEVICE}: {error.strerror}"
    return ""


def _test_boot(image: GuestImage, connection: Connection) -> Verdict:
    """Boot the image under KVM until the first instruction of its init, with either processor model."""
    problems = []
    for processor in get_args(Processor):
        spec = MachineSpec(
            kernel=image.kernel,
            initramfs=image.initramfs,
            command_line=COMMAND_LINE,
            memory=_PROBE_MEMORY,
            acceleration="kvm",
            processor=processor,
            probe=True,
        )
        machine = VirtualMachine(connection, spec)
        try:
            machine.start(BOOT_SECONDS)
        except InstanceError as error:
            problems.append(f"{processor} processor: {error.message}")
            continue
        seconds = (machine.marks[-1].at - machine.marks[1].at) / 1e9
        machine.stop(_STOP_SECONDS)
        reason = f"a test boot under KVM reached the guest's init in {seconds:.2f} s"
        return Verdict("kvm", reason, processor)
    return Verdict("tcg", f"test boots under KVM failed ({'; '.join(problems)})")


def _key(image: GuestImage, connection: Connection) -> str:
    """What the verdict depends on: the kernel's file, this boot of the host, QEMU, and where it runs."""
    try:
        kernel = image.kernel.stat()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror}") from error
    where = "embedded" if connection.root else connection.uri
    parts = (image.kernel, kernel.st_size, kernel.st_mtime_ns, boot, connection.emulator_version, where)
    return "|".join(str(part) for part in parts)


def _read(memory: Path) -> dict[str, Any]:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(memory: Path, known: dict[str, Any]) -> None:
    """A verdict that cannot be remembered costs the next run a test boot, no more."""
    unfinished = memory.with_suffix(f".{os.getpid()}")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(known, indent=2), encoding="utf-8")
        unfinished.replace(memory)
    except OSError:
        unfinished.unlink(missing_ok=True)
