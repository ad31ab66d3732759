"""What this host can do, found out by trying, with the consequence and the remedy of what it cannot."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pybench.harness.errors import HostError, PybenchError
from pybench.harness.nano import nano_image
from pybench.runtime.container import trial
from pybench.runtime.container.cgroup.base import Limits
from pybench.runtime.container.cgroup.detect import NoGroups, detect
from pybench.runtime.container.identity import reserve
from pybench.runtime.journal import Journal

State = Literal["ok", "degraded", "missing"]

EVERY_LIMIT = Limits(memory=2**20, cpus=1.0, pids=1)
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "musl-gcc": "musl-tools",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "lz4": "lz4",
    "zstd": "zstd",
}
"""Program → the Debian package that brings it."""
INSTALL = ("apt-get", "install", "--no-install-recommends")
_AS_ROOT = frozenset({"modprobe"})


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor's finding."""

    name: str
    state: State
    finding: str
    consequence: str = ""
    """What pybench cannot do, or does less well, because of it."""
    fix: str = ""
    """What to do about it."""
    packages: tuple[str, ...] = ()
    """The Debian packages that mend it."""
    commands: tuple[tuple[str, ...], ...] = ()
    """Other commands that mend it."""


def examine(journal: Journal) -> Iterator[Check]:
    """Every check, cheapest first; each is carried out when it is asked for."""
    checks: tuple[Callable[[], Check], ...] = (
        check_user,
        check_tools,
        lambda: check_namespaces(journal),
        check_identities,
        lambda: check_mapped_mounts(journal),
        check_cgroups,
        check_overlay,
        check_seccomp,
        check_landlock,
        check_supervision,
        lambda: check_libvirt(journal),
        check_image,
        lambda: check_kvm(journal),
    )
    for check in checks:
        yield check()


def remedies(checks: Iterable[Check]) -> list[tuple[str, ...]]:
    """The commands that mend what can be mended by one, packages first and all at once."""
    broken = [check for check in checks if check.state != "ok"]
    as_root = () if os.geteuid() == 0 else ("sudo",)
    packages = sorted({package for check in broken for package in check.packages})
    found = [(*as_root, *INSTALL, *packages)] if packages else []
    for command in dict.fromkeys(command for check in broken for command in check.commands):
        found.append((*as_root, *command) if command[0] in _AS_ROOT else command)
    return found


def check_user() -> Check:
    """Root or an ordinary user."""
    if os.geteuid() == 0:
        return Check("user", "ok", "root")
    return Check(
        "user",
        "degraded",
        f"uid {os.geteuid()}",
        "containers get no id-mapped image and, without delegation, no limits; samples say so",
        "run as root to measure with limits",
    )


def check_tools() -> Check:
    """Programs that images and virtual machines need."""
    missing = {program: package for program, package in TOOLS.items() if shutil.which(program) is None}
    if not missing:
        return Check("tools", "ok", ", ".join(TOOLS))
    packages = tuple(sorted(set(missing.values())))
    return Check(
        "tools",
        "missing",
        f"not installed: {', '.join(missing)}",
        "images cannot be built or virtual machines not started",
        f"sudo {' '.join((*INSTALL, *packages))}",
        packages,
    )


def check_namespaces(journal: Journal) -> Check:
    """All eight, by starting a program in them."""
    tried = trial.try_namespaces(journal)
    fix = "sysctl user.max_user_namespaces and kernel.unprivileged_userns_clone must not be 0"
    return _from_trial(tried, "the container cannot be started", fix, state="missing")


def check_identities() -> Check:
    """A range of ids for every container, or one id only."""
    with reserve() as identity:
        if identity.label == "range":
            return Check("ids", "ok", "a range of 65536 for each container")
    return Check(
        "ids",
        "degraded",
        "a single id",
        "the container's root is you, and every other user inside is nobody",
        "sudo apt-get install uidmap, and a line for you in /etc/subuid and /etc/subgid",
        () if shutil.which("newuidmap") else ("uidmap",),
    )


def check_mapped_mounts(journal: Journal) -> Check:
    """Sharing one image among containers with different ids."""
    # What holds for one file system does not hold for another: try where the images are.
    from pybench.vm_images import cache  # noqa: PLC0415 - only this check needs it

    directory = cache.cache_directory()
    if not directory.is_dir():
        directory = Path(tempfile.gettempdir())
    tried = trial.try_mapped_mounts(journal, directory)
    consequence = "the image's files belong to nobody inside containers"
    return _from_trial(tried, consequence, "keep the cache ($PYBENCH_CACHE) on ext4, xfs or btrfs")


def check_cgroups() -> Check:
    """Which limits can be held."""
    controller = detect()
    missing = controller.unavailable(EVERY_LIMIT)
    if isinstance(controller, NoGroups):
        finding = controller.reason
    else:
        held = [name for name in ("memory", "cpu", "pids") if name not in missing]
        finding = f"{controller.label}, with {', '.join(held)}"
    if not missing:
        return Check("control groups", "ok", finding)
    return Check(
        "control groups",
        "degraded",
        finding,
        f"no limit on {', '.join(missing)}; samples say so",
        "run as root, or as a user with delegation: systemd-run --user --scope -p Delegate=yes pybench …",
    )


def check_overlay() -> Check:
    """Whether the kernel can merge image layers."""
    command = ("modprobe", "overlay")
    tried = trial.try_filesystem("overlay")
    check = _from_trial(tried, "image layers cannot be merged", " ".join(command))
    return check if check.state == "ok" else replace(check, commands=(command,))


def check_seccomp() -> Check:
    """Whether the kernel can filter system calls."""
    fix = "a kernel with CONFIG_SECCOMP_FILTER"
    return _from_trial(trial.try_seccomp(), "system calls cannot be filtered", fix)


def check_landlock() -> Check:
    """Whether the kernel offers Landlock."""
    fix = "boot with landlock in the kernel's lsm= list"
    return _from_trial(trial.try_landlock(), "one layer of defence less", fix)


def check_supervision() -> Check:
    """Whether system calls can be answered for the kernel."""
    consequence = "containers hear of the host's memory and load from sysinfo(2); strict ones are refused it"
    fix = "run pybench outside of a container whose runtime has a listener of its own"
    return _from_trial(trial.try_supervision(), consequence, fix)


def check_libvirt(journal: Journal) -> Check:
    """Opening the embedded driver."""
    from pybench.runtime.vm.connection import open_connection  # noqa: PLC0415 - imports libvirt
    from pybench.runtime.vm.embedded import PACKAGES  # noqa: PLC0415

    try:
        with open_connection(journal) as connection:
            finding = f"embedded driver, QEMU {connection.emulator_version}"
    except HostError as error:
        packages = tuple(PACKAGES.split()) if PACKAGES in error.hint else ()
        return Check(
            "libvirt", "missing", error.message, "no virtual machine can be started", error.hint, packages
        )
    return Check("libvirt", "ok", finding)


def check_image() -> Check:
    """Whether the image that the scenarios use is built."""
    from pybench.vm_images import find  # noqa: PLC0415 - only this check needs it

    try:
        image = find("minimal")
    except PybenchError as error:
        build = ("pybench", "images", "build", "minimal")
        return Check(
            "image minimal",
            "degraded",
            error.message,
            "the first run builds it",
            error.hint,
            commands=(build,),
        )
    return Check("image minimal", "ok", f"{image.content_hash[:12]}, kernel {image.kernel_release}")


def check_kvm(journal: Journal) -> Check:
    """A test boot of the image under KVM: a device that opens proves nothing."""
    from pybench.runtime.vm.acceleration import decide  # noqa: PLC0415 - imports libvirt
    from pybench.runtime.vm.connection import open_connection  # noqa: PLC0415
    from pybench.vm_images import find  # noqa: PLC0415

    consequence = "virtual machines run under TCG emulation, many times slower than under KVM"
    try:
        image = find("minimal")
        with open_connection(journal) as connection:
            verdict = decide("auto", image, connection, nano_image())
    except PybenchError as error:
        return Check("kvm", "degraded", f"not tried: {error.message}", consequence, error.hint)
    if verdict.acceleration == "kvm":
        return Check("kvm", "ok", verdict.reason)
    return Check(
        "kvm",
        "degraded",
        verdict.reason,
        consequence,
        "a host with hardware virtualisation, /dev/kvm open to you",
    )


def _from_trial(tried: trial.Trial, consequence: str, fix: str, state: State = "degraded") -> Check:
    if tried.problem:
        return Check(tried.subject, state, f"{tried.finding} ({tried.problem})", consequence, fix)
    return Check(tried.subject, "ok", tried.finding)
