"""The host's part of the fingerprint: processor, kernel, memory, storage, and what surrounds the harness."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Final

import psutil

from pybench.harness.environment.reading import LARGEST_FIELD, chosen, text

_INITIAL_PID_NAMESPACE: Final = 0xEFFFFFFC
"""PROC_PID_INIT_INO (include/linux/proc_ns.h): the inode of the host's own pid namespace."""
_CPU: Final = "/sys/devices/system/cpu"


def host_fields() -> dict[str, str | None]:
    """Every field of the groups `host` and `storage`; None where the host does not tell."""
    return {
        "host.name": platform.node(),
        "host.boot": text("/proc/sys/kernel/random/boot_id"),
        "host.machine": platform.machine(),
        "host.kernel": platform.release(),
        "host.kernel.build": platform.version(),
        "host.kernel.command_line": (text("/proc/cmdline") or "")[:LARGEST_FIELD] or None,
        **_mitigations(),
        "host.distribution": _distribution(),
        "host.cpu.model": _cpuinfo("model name"),
        "host.cpu.microcode": _cpuinfo("microcode"),
        "host.cpu.count": str(len(os.sched_getaffinity(0))),
        "host.cpu.online": text(f"{_CPU}/online"),
        "host.numa": text("/sys/devices/system/node/online"),
        "host.governor": text(f"{_CPU}/cpu0/cpufreq/scaling_governor"),
        "host.smt": text(f"{_CPU}/smt/control"),
        "host.memory": str(psutil.virtual_memory().total),
        "host.swap": str(psutil.swap_memory().total),
        "host.thp": chosen(text("/sys/kernel/mm/transparent_hugepage/enabled")),
        "host.ksm": text("/sys/kernel/mm/ksm/run"),
        "host.cgroup": cgroup_version(Path("/proc/self/mountinfo").read_text(encoding="utf-8")),
        "host.virtualization": _virtualization(),
        "host.nesting": _nesting(),
        "host.clocksource": text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "host.container": _container(),
        "host.user": "root" if os.geteuid() == 0 else "rootless",
        **_storage(),
    }


def cgroup_version(mountinfo: str) -> str:
    """`v2`, `v1` or `hybrid` (controllers on v1, with a v2 hierarchy beside them), from a mountinfo file."""
    # The type follows the separator " - " (proc_pid_mountinfo(5)).
    types = {line.partition(" - ")[2].split(" ")[0] for line in mountinfo.splitlines() if " - " in line}
    if "cgroup" in types:
        return "hybrid" if "cgroup2" in types else "v1"
    return "v2" if "cgroup2" in types else "none"


def storage_of(path: Path, mountinfo: str) -> str | None:
    """`ext4 on vda, rotating: no` for the file system that holds a path, from a mountinfo file."""
    try:
        device = path.stat().st_dev
    except OSError:
        return None
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if before.split(" ")[2:3] == [number] and after:
            kind, source = after.split(" ")[:2]
            name = "" if not source.startswith("/dev/") else f" on {source.removeprefix('/dev/')}"
            return f"{kind}{name}{_rotating(number)}"
    return None


def _rotating(number: str) -> str:
    """What the disk says of itself; a partition has the file in its parent's directory."""
    device = Path("/sys/dev/block", number)
    for place in (device, device / ".."):
        if (flag := text(place / "queue/rotational")) is not None:
            return f", rotating: {'yes' if flag == '1' else 'no'}"
    return ""


def _storage() -> dict[str, str | None]:
    # The builder's cache is where the images are; nothing else of it is needed here.
    from pybench.vm_images import cache  # noqa: PLC0415

    directory = cache.cache_directory()
    while not directory.exists():
        directory = directory.parent
    mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    return {"storage.images": storage_of(directory, mountinfo)}


def _mitigations() -> dict[str, str | None]:
    try:
        files = sorted(Path(_CPU, "vulnerabilities").iterdir())
    except OSError:
        return {}
    return {f"host.mitigation.{file.name}": text(file) for file in files}


def _cpuinfo(key: str) -> str | None:
    for line in (text("/proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def _virtualization() -> str:
    """`none`, or that the CPU tells of a hypervisor, with the machine's name where the firmware gives one."""
    if "hypervisor" not in (_cpuinfo("flags") or "").split():
        return "none"
    names = [text(f"/sys/class/dmi/id/{entry}") for entry in ("sys_vendor", "product_name")]
    return " ".join(["hypervisor", *(name for name in names if name)])


def _nesting() -> str:
    """Whether guests of this host may run guests: what the KVM module says, if there is one."""
    for module in ("kvm_intel", "kvm_amd"):
        if (nested := text(f"/sys/module/{module}/parameters/nested")) is not None:
            return "yes" if nested in {"1", "Y"} else "no"
    return "not told" if Path("/dev/kvm").exists() else "no KVM"


def _container() -> str:
    """What the harness itself runs in, by the files that container managers leave."""
    if manager := text("/run/systemd/container"):
        return manager[:LARGEST_FIELD]
    for file, manager in (("/.dockerenv", "docker"), ("/run/.containerenv", "podman")):
        if Path(file).exists():
            return manager
    try:
        initial = Path("/proc/self/ns/pid").stat().st_ino == _INITIAL_PID_NAMESPACE
    except OSError:
        return "not told"
    return "none" if initial else "a pid namespace of its own"


def _distribution() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None
