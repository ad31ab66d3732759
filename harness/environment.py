"""The fingerprint: what a number depends on beside the thing that is measured.

A field is left out where the host does not tell; it is never guessed.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Final, Protocol

import psutil

from pybench.harness.model import Environment

MUST_MATCH: Final = (
    "host.machine",
    "host.kernel",
    "host.cpu.model",
    "host.cpu.count",
    "host.cgroup",
    "host.virtualization",
    "host.governor",
    "host.smt",
    "host.thp",
    "software.qemu",
    "software.libvirt",
)
"""Fields, and prefixes of fields, that must be equal before two runs may be compared.

Each of them moves start-up times or memory by more than the differences people look for. Left out on
purpose are those that tell hosts apart without making them unlike (`host.name`, `host.boot`), memory that
is not under pressure (`host.memory`), and what is usually the very thing compared (`software.commit`,
`image.*`).
"""

_QEMU: Final = "qemu-system-x86_64"
_VM_KINDS: Final = frozenset({"vm", "vm-restore"})
_VERSION_TIMEOUT: Final = 10.0


class ImageFacts(Protocol):
    """What the fingerprint tells of an image."""

    @property
    def content_hash(self) -> str:
        """SHA-256 of the root filesystem."""
        ...

    @property
    def kernel_release(self) -> str:
        """What the guest's `uname -r` says; may be empty."""
        ...


def capture(kinds: Iterable[str], images: Mapping[str, ImageFacts]) -> Environment:
    """The fingerprint of this host, of the software that takes part, and of the images.

    Args:
        kinds: the kinds of the run's targets; what only a virtual machine needs is told only if one runs.
        images: the images by name.
    """
    fields: dict[str, str | None] = {**_host(), **_software(with_vm=not _VM_KINDS.isdisjoint(kinds))}
    for name, image in images.items():
        fields[f"image.{name}.hash"] = image.content_hash
        fields[f"image.{name}.kernel"] = image.kernel_release or None
    return Environment({name: value for name, value in fields.items() if value})


def mismatches(one: Environment, other: Environment) -> dict[str, tuple[str | None, str | None]]:
    """The fields of `MUST_MATCH` in which two fingerprints differ, with both values."""
    pairs = {name: (one.fields.get(name), other.fields.get(name)) for name in MUST_MATCH}
    return {name: (left, right) for name, (left, right) in pairs.items() if left != right}


def _host() -> dict[str, str | None]:
    return {
        "host.name": platform.node(),
        "host.boot": _text("/proc/sys/kernel/random/boot_id"),
        "host.machine": platform.machine(),
        "host.kernel": platform.release(),
        "host.distribution": _distribution(),
        "host.cpu.model": _cpuinfo("model name"),
        "host.cpu.count": str(len(os.sched_getaffinity(0))),
        "host.memory": str(psutil.virtual_memory().total),
        "host.cgroup": cgroup_version(Path("/proc/self/mountinfo").read_text(encoding="utf-8")),
        "host.virtualization": _virtualization(),
        "host.governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "host.smt": _text("/sys/devices/system/cpu/smt/control"),
        "host.thp": _chosen(_text("/sys/kernel/mm/transparent_hugepage/enabled")),
        "host.user": "root" if os.geteuid() == 0 else "rootless",
    }


def _software(*, with_vm: bool) -> dict[str, str | None]:
    fields: dict[str, str | None] = {
        "software.pybench": _distribution_version("pybench-harness"),
        "software.commit": commit(Path(__file__).resolve().parent.parent),
        "software.python": platform.python_version(),
    }
    if with_vm:
        fields["software.libvirt"] = _libvirt_version()
        fields["software.qemu"] = _qemu_version()
    return fields


def cgroup_version(mountinfo: str) -> str:
    """`v2`, `v1` or `hybrid` (controllers on v1, with a v2 hierarchy beside them), from a mountinfo file."""
    # The type follows the separator " - " (proc_pid_mountinfo(5)).
    types = {line.partition(" - ")[2].split(" ")[0] for line in mountinfo.splitlines() if " - " in line}
    if "cgroup" in types:
        return "hybrid" if "cgroup2" in types else "v1"
    return "v2" if "cgroup2" in types else "none"


def commit(folder: Path) -> str | None:
    """The commit checked out in the repository at `folder`, or None where there is none."""
    repository = folder / ".git"
    if repository.is_file():
        # A linked work tree: "gitdir: <path>" (gitrepository-layout(5)).
        repository = folder / (_text(str(repository)) or "").removeprefix("gitdir:").strip()
    head = _text(str(repository / "HEAD"))
    if head is None or not head.startswith("ref: "):
        return head
    reference = head.removeprefix("ref: ")
    shared = _text(str(repository / "commondir"))
    for place in (repository, *([repository / shared] if shared else [])):
        if found := _text(str(place / reference)):
            return found
        for line in (_text(str(place / "packed-refs")) or "").splitlines():
            if line.endswith(f" {reference}"):
                return line.split(" ", 1)[0]
    return None


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _chosen(line: str | None) -> str | None:
    """`madvise` from `always [madvise] never`."""
    match = re.search(r"\[(\w+)\]", line or "")
    return match[1] if match else None


def _cpuinfo(key: str) -> str | None:
    for line in (_text("/proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def _virtualization() -> str:
    """`none`, or that the CPU tells of a hypervisor, with the machine's name where the firmware gives one."""
    if "hypervisor" not in (_cpuinfo("flags") or "").split():
        return "none"
    names = [_text(f"/sys/class/dmi/id/{entry}") for entry in ("sys_vendor", "product_name")]
    return " ".join(["hypervisor", *(name for name in names if name)])


def _distribution() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None


def _distribution_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _libvirt_version() -> str | None:
    try:
        # Loads a C library that only a virtual machine needs.
        from pybench.runtime.vm.event_loop import library_version  # noqa: PLC0415
    except ImportError:
        return None
    return library_version()


def _qemu_version() -> str | None:
    program = shutil.which(_QEMU)
    if program is None:
        return None
    try:
        output = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"version (\S+(?: \([^)]{1,80}\))?)", output)
    return match[1] if match else None
