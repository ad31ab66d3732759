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


def decide(
    choice: Choice, image: GuestImage, connection: Connection, nano: GuestImage | None = None
) -> Verdict:
    """KVM or emulation for this image; `auto` and `kvm` may cost test boots of some seconds, once.

    Args:
        choice: what the user asked for.
        image: what is to be booted.
        connection: where.
        nano: a bare-metal guest, which boots in no time where KVM works at all; without it the image
            itself has to show that.

    Raises:
        HostError: KVM is demanded and does not boot the image; the message holds the evidence.
    """
    if choice == "tcg":
        return Verdict("tcg", "asked for")
    verdict = _remembered_verdict(image, connection, nano)
    if choice == "kvm" and verdict.acceleration != "kvm":
        raise HostError(
            f"KVM cannot run this image here: {verdict.reason}",
            "take --accel tcg, or a host with hardware virtualisation and /dev/kvm open to you",
        )
    return verdict


def _remembered_verdict(image: GuestImage, connection: Connection, nano: GuestImage | None) -> Verdict:
    if problem := _device_problem():
        return Verdict("tcg", problem)
    memory = Path(platformdirs.user_cache_dir("pybench"), "acceleration.json")
    key = _key(image, connection)
    known = _read(memory)
    with contextlib.suppress(KeyError, TypeError):
        return Verdict(**known[key])
    verdict = _try(image, connection, nano)
    known[key] = asdict(verdict)
    _write(memory, dict(list(known.items())[-_REMEMBERED:]))
    return verdict


def _device_problem() -> str:
    try:
        os.close(os.open(KVM_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{KVM_DEVICE}: {error.strerror}"
    return ""


def _try(image: GuestImage, connection: Connection, nano: GuestImage | None) -> Verdict:
    """The nano guest first: where even that does not run, no time is spent on the image."""
    preface = ""
    if nano is not None:
        tried = _boot_under_kvm(connection, nano)
        if not tried.seconds:
            return Verdict("tcg", f"not even a bare-metal guest runs under KVM ({tried.problems})")
        preface = f"a bare-metal guest runs under KVM ({tried.seconds:.2f} s); "
    tried = _boot_under_kvm(connection, image)
    if tried.seconds:
        reason = f"{preface}a test boot under KVM reached the guest's init in {tried.seconds:.2f} s"
        return Verdict("kvm", reason, tried.processor)
    return Verdict("tcg", f"{preface}test boots of the image under KVM failed ({tried.problems})")


@dataclass(frozen=True, slots=True)
class _Trial:
    """What came of it: the seconds from QEMU's start to the guest's first word, or 0 and the problems."""

    seconds: float
    processor: Processor = "host"
    problems: str = ""


def _boot_under_kvm(connection: Connection, image: GuestImage) -> _Trial:
    """Boot a guest under KVM until it says its first word, with either processor model, in bounded time."""
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
        return _Trial(seconds, processor)
    return _Trial(0.0, problems="; ".join(problems))


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
