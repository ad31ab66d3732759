"""Probes about file systems: what of the host's files is within reach, and what can be mounted or changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.canaries.files import TEMPORARY, TemporaryFileCanary
from pybench.harness.audit.canaries.mounts import MountingCanary
from pybench.harness.audit.canaries.process import ProcessCanary
from pybench.harness.audit.model import (
    Expected,
    Parameters,
    Probe,
    Verdict,
    isolated,
    leak,
    not_applicable,
)
from pybench.harness.audit.observation import evidence
from pybench.harness.units import count
from pybench.runtime.container.profiles import MASKED_PATHS
from pybench.runtime.container.system_calls import MNT_DETACH, umount

if TYPE_CHECKING:
    from pybench.harness.audit.observation import Ground, Observation

_REFUSED: Final = frozenset({"EPERM", "EACCES", "ENOSYS", "EROFS"})
"""What a caller without the right gets, whatever the arguments."""
_MOUNT_SOURCE: Final = "pybench-audit-mount"
_NODES: Final = frozenset(f"/dev/{name}" for name in ("full", "null", "random", "tty", "urandom", "zero"))
"""Devices that an ordinary user's containers have as mounts: a device has no setuid bit to honour."""
_NO_DEVICES: Final = frozenset({"proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts"})
"""File systems on which no device node can be made."""


def _directory(_ground: Ground) -> Parameters:
    return {"directory": str(TEMPORARY)}


def _temporary(observation: Observation) -> Verdict:
    tokens = observation.canary(TemporaryFileCanary).tokens
    found = observation.sighted(tokens, f"a file in the host's {TEMPORARY}")
    return found if found.is_leak else isolated(f"its own {TEMPORARY} holds none of the host's files")


def _process(ground: Ground) -> Parameters:
    return {"pid": ground.canary(ProcessCanary).pid}


def _identity(path: str) -> str:
    found = Path(path).stat()
    return f"{found.st_dev}:{found.st_ino}"


def _root(observation: Observation) -> Verdict:
    if observation.subject.own_kernel:
        return isolated("its root is on a disk or in memory of its own")
    host = _identity("/")
    found = []
    if observation.text("root") == host:
        found.append(f"/ is {host}, the host's root")
    if host in observation.texts("others"):
        found.append(f"/proc/<pid>/root is {host}, the host's root")
    if found:
        return leak("the host's root directory is within reach", *found)
    return isolated(f"its root is {observation.text('root')}, the host's {host}")


def _climbing(observation: Observation) -> Verdict:
    if observation.subject.own_kernel:
        return isolated("there is no directory of the host's to climb to")
    host, own = _identity("/"), observation.text("root")
    rows = [row for row in observation.rows("reached") if len(row) == 2]  # noqa: PLR2004
    found = [f"from the {start}: {top}" for start, top in rows if top == host or top not in {"", own}]
    if found:
        return leak("climbing leads out of its root", *evidence(found))
    return isolated(f"climbing from {count(len(rows), 'directory', 'directories')} ends at its own root")


def _writable_root(observation: Observation) -> Verdict:
    fault = observation.text("fault")
    return observation.reached(
        [] if fault else ["a file can be made in /"],
        "its root filesystem can be written to",
        f"its root filesystem is refused with {fault}",
    )


def _host_files(observation: Observation) -> Verdict:
    faults = observation.table("faults")
    if not faults:
        return not_applicable("it has none of these files")
    done = [what for what, fault in faults.items() if not fault]
    return observation.reached(
        done, "files that the host wrote for it can be changed", "they can be neither written nor renamed"
    )


def _mount_paths(observation: Observation) -> Verdict:
    place = observation.place
    places = observation.places(place.token, place.volume_token)
    if places:
        return leak("a path of the host's is in its list of mounts", *evidence(places))
    return isolated(f"none of its {count(observation.number('mounts'), 'mount')} tells a path of the host's")


def _flags(observation: Observation) -> Verdict:
    wrong = []
    for row in observation.rows("mounts"):
        if len(row) != 3:  # noqa: PLR2004
            continue
        point, kind, flags = row[0], row[1], row[2].split(",")
        if "nosuid" not in flags and point not in _NODES and point not in MASKED_PATHS:
            wrong.append(f"{point} ({kind}) without nosuid")
        if "nodev" not in flags and kind not in _NO_DEVICES and point != "/dev" and not _is_device(point):
            wrong.append(f"{point} ({kind}) without nodev")
    return observation.reached(
        wrong, "mounts honour setuid bits or device nodes", "every mount is nosuid, and nodev but for /dev"
    )


def _is_device(point: str) -> bool:
    """A single device that is mounted over a path: its mount has to honour it."""
    return point.startswith("/dev/") or point in MASKED_PATHS


def _source(ground: Ground) -> Parameters:
    return {"source": f"{_MOUNT_SOURCE}-{ground.subject.pid}"}


def _propagation(observation: Observation) -> Verdict:
    found = [
        f"the host's: {place}" for place in observation.places(*observation.canary(MountingCanary).tokens)
    ]
    source = f"{_MOUNT_SOURCE}-{observation.subject.pid}"
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if f" {source} " in line:
            point = line.split(" ")[4]
            umount(point, MNT_DETACH)
            found.append(f"its own appeared on the host at {point}")
    if found:
        return leak("mounts spread between the host and it", *evidence(found))
    return isolated("neither sees what the other mounts")


def _mounting(observation: Observation) -> Verdict:
    faults = observation.table("faults")
    allowed = [f"{name}: {fault or 'succeeded'}" for name, fault in faults.items() if fault not in _REFUSED]
    return observation.reached(
        allowed, "it may mount", f"all are refused: {', '.join(f'{name} {faults[name]}' for name in faults)}"
    )


def _handle(observation: Observation) -> Verdict:
    fault = observation.text("fault")
    allowed = [] if fault in _REFUSED else [f"open_by_handle_at: {fault or 'succeeded'}"]
    return observation.reached(
        allowed, "files can be opened by their number, past every directory", f"it is refused with {fault}"
    )


def _masked(_ground: Ground) -> Parameters:
    return {"paths": list(MASKED_PATHS)}


def _removal_of_masks(observation: Observation) -> Verdict:
    faults = observation.table("faults")
    if not faults:
        return not_applicable("it has no masks")
    done = [what for what, fault in faults.items() if not fault]
    if done:
        return leak("masks can be taken away", *evidence(done))
    return isolated(
        f"{count(len(faults), 'attempt')}, refused each time: {', '.join(sorted(set(faults.values())))}"
    )


def _masks(observation: Observation) -> Verdict:
    masks, wrong = observation.texts("masks"), observation.texts("wrong")
    if not masks:
        return not_applicable("it has no masks")
    if wrong:
        return leak("a mask is not what it should be", *evidence(wrong))
    return isolated(f"{count(len(masks), 'mask')}: the null device, or empty read-only directories")


MOUNT_NAMESPACES: Final = "https://man7.org/linux/man-pages/man7/mount_namespaces.7.html"
_OWN_MOUNTS: Final = (
    "Give it a mount namespace of its own with private propagation, and change its root by pivot_root."
)
_NO_CAPABILITY: Final = "Drop all capabilities, and refuse the calls by seccomp."

PROBES: tuple[Probe, ...] = (
    Probe(
        id="M1",
        title="Files in the host's /tmp can be read",
        category="filesystem",
        severity="high",
        rationale="Temporary files hold session keys, sockets and uploads, and any program may use them.",
        handling="A root filesystem of its own has a /tmp of its own; a chroot's is that of its directory.",
        remediation="Mount a tmpfs at /tmp.",
        references=(MOUNT_NAMESPACES,),
        expected=Expected.of("LIII", chroot="I"),
        canaries=("temporary-file",),
        parameters=_directory,
        judge=_temporary,
    ),
    Probe(
        id="M2",
        title="The host's root directory is within reach",
        category="filesystem",
        severity="high",
        rationale=(
            "Whoever reaches the host's root directory has every file of the host's that its user may open."
        ),
        handling=(
            "pivot_root takes the old root out of the mount namespace. A chroot leaves it there, "
            "and /proc/1/root leads to it."
        ),
        remediation=_OWN_MOUNTS,
        references=("https://man7.org/linux/man-pages/man2/pivot_root.2.html",),
        expected=Expected.of("LIII"),
        canaries=("process",),
        parameters=_process,
        judge=_root,
    ),
    Probe(
        id="M3",
        title="Climbing up from an open directory leaves its root",
        category="filesystem",
        severity="critical",
        rationale=(
            "runc left a descriptor of the host's cgroup directory open, and a working directory "
            "beneath /proc/self/fd led out of the container (CVE-2024-21626)."
        ),
        handling=(
            "With pivot_root there is nothing above the root. chroot(2) stops `..` only at the "
            "root itself: a directory that was opened before a second chroot leads past it."
        ),
        remediation=f"{_OWN_MOUNTS} Close all descriptors, and take CAP_SYS_CHROOT away.",
        references=(
            "https://nvd.nist.gov/vuln/detail/CVE-2024-21626",
            "https://man7.org/linux/man-pages/man2/chroot.2.html",
        ),
        expected=Expected.of("LIII"),
        judge=_climbing,
        mutates=True,
    ),
    Probe(
        id="M4",
        title="Its root filesystem can be written to",
        category="filesystem",
        severity="medium",
        rationale="Whoever breaks into the service can then replace its programs, and stays.",
        handling=(
            "Docker's default is a writable layer; `--read-only` must be asked for. Ours is "
            "read-only unless a size is given. Our guests mount their disk read-only, too."
        ),
        remediation="Mount the root read-only; give a bounded writable layer only where one is needed.",
        references=("https://docs.docker.com/reference/cli/docker/container/run/",),
        expected=Expected.of(
            "LIII",
            chroot="I",
            note="all our containers and guests have a read-only root unless they ask for a writable one",
        ),
        judge=_writable_root,
    ),
    Probe(
        id="M5",
        title="Its hosts, resolv.conf and hostname can be changed",
        category="filesystem",
        severity="medium",
        rationale="They decide whom a name leads to, for every program inside.",
        handling=(
            "Docker mounts files of its own over them, which the container's root may write. Ours"
            " are read-only mounts that cannot be renamed, removed or remounted without "
            "CAP_SYS_ADMIN."
        ),
        remediation="Mount them read-only, and drop CAP_SYS_ADMIN.",
        references=("https://man7.org/linux/man-pages/man5/hosts.5.html",),
        expected=Expected.of("LILI", chroot="I", note="in our guests they are on a disk that is read-only"),
        judge=_host_files,
        mutates=True,
    ),
    Probe(
        id="M6",
        title="Paths of the host are in the list of mounts",
        category="filesystem",
        severity="low",
        rationale=(
            "Paths tell the engine, its storage driver and the ids of its containers, which other"
            " attacks need."
        ),
        handling=(
            "A bind mount shows its path within its own file system; runc's containers show their"
            " overlay's directories too. Ours show those of volumes alone."
        ),
        remediation=(
            "Nothing hides them but a mount of a whole file system; give volumes paths that tell nothing."
        ),
        references=("https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html",),
        expected=Expected.of("LLLI", chroot="I"),
        judge=_mount_paths,
    ),
    Probe(
        id="M7",
        title="Mounts honour setuid bits and device nodes",
        category="filesystem",
        severity="medium",
        rationale="A setuid file or a device node in an image or a volume then works.",
        handling=(
            "Docker mounts neither its root nor its volumes nosuid; ours mounts everything "
            "nosuid, and nodev but for /dev."
        ),
        remediation="Mount everything nosuid and nodev.",
        references=("https://man7.org/linux/man-pages/man8/mount.8.html",),
        expected=Expected.of(
            "LIII",
            note="our containers keep these flags in every profile, and our guests have them, too",
        ),
        judge=_flags,
    ),
    Probe(
        id="M8",
        title="Mounts spread to the host or from it",
        category="filesystem",
        severity="high",
        rationale=(
            "A mount that spreads to the host covers a directory of the host's; one from the host"
            " shows what was not meant to be shared."
        ),
        handling=(
            "Private propagation keeps them apart. `--mount bind-propagation=shared`, as storage "
            "drivers in containers ask for, does not."
        ),
        remediation=_OWN_MOUNTS,
        references=("https://docs.kernel.org/filesystems/sharedsubtree.html",),
        expected=Expected.of(
            "LIII",
            chroot="I",
            note="our mounts are private in every profile; our chroot has a mount namespace of its own",
        ),
        canaries=("mounting",),
        parameters=_source,
        judge=_propagation,
        mutates=True,
        watches=True,
    ),
    Probe(
        id="M9",
        title="It may mount file systems",
        category="filesystem",
        severity="high",
        rationale=(
            "Parsers of file systems, overlay and mount code have had many holes; and what is "
            "masked can be covered or shown again."
        ),
        handling=(
            "It takes CAP_SYS_ADMIN over the mount namespace, which a root in a nested user "
            "namespace has: so engines refuse the calls by seccomp."
        ),
        remediation=_NO_CAPABILITY,
        references=(
            "https://man7.org/linux/man-pages/man2/mount.2.html",
            "https://man7.org/linux/man-pages/man2/fsopen.2.html",
        ),
        expected=Expected.of("LILS"),
        judge=_mounting,
        mutates=True,
    ),
    Probe(
        id="M10",
        title="Files can be opened by their number",
        category="filesystem",
        severity="high",
        rationale=(
            "With open_by_handle_at any file of the same file system can be opened, whatever the "
            "root: the “shocker” escape from Docker."
        ),
        handling=(
            "It takes CAP_DAC_READ_SEARCH in the initial user namespace; engines refuse the call by seccomp."
        ),
        remediation="Drop CAP_DAC_READ_SEARCH, and refuse open_by_handle_at by seccomp.",
        references=("https://man7.org/linux/man-pages/man2/open_by_handle_at.2.html",),
        expected=Expected.of("LILS"),
        judge=_handle,
    ),
    Probe(
        id="M11",
        title="Masks can be taken away",
        category="filesystem",
        severity="high",
        rationale=(
            "A mask over /proc/kcore that can be unmounted is none. runc could be made to mount "
            "something else instead (CVE-2025-31133)."
        ),
        handling=(
            "Masks are mounts: without CAP_SYS_ADMIN they stay, and those that came with a less "
            "privileged mount namespace are locked."
        ),
        remediation=_NO_CAPABILITY,
        references=("https://nvd.nist.gov/vuln/detail/CVE-2025-31133", MOUNT_NAMESPACES),
        expected=Expected.of(
            "NINN",
            strict="N",
            note="`strict` has nothing to mask, and `privileged` masks nothing",
        ),
        parameters=_masked,
        judge=_removal_of_masks,
        mutates=True,
    ),
    Probe(
        id="M12",
        title="A mask is something else than it should be",
        category="filesystem",
        severity="medium",
        rationale=(
            "If the image can replace /dev/null before it is used as a mask, it decides what is "
            "mounted there (CVE-2025-31133)."
        ),
        handling=(
            "runc now verifies that its source is the null device. Ours come from a /dev that no "
            "image has touched."
        ),
        remediation="Verify the source of every mask by its device number.",
        references=("https://nvd.nist.gov/vuln/detail/CVE-2025-31133",),
        expected=Expected.of("NINN", strict="N"),
        parameters=_masked,
        judge=_masks,
    ),
)
