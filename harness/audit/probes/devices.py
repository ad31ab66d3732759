"""Probes about devices and privilege: what could be opened, and what holds a process that breaks loose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.canaries.terminal import TerminalCanary
from pybench.harness.audit.model import (
    Expected,
    Parameters,
    Probe,
    Verdict,
    error,
    isolated,
    leak,
    not_applicable,
    shared,
)
from pybench.harness.audit.observation import evidence
from pybench.harness.units import count

if TYPE_CHECKING:
    from pybench.harness.audit.observation import Ground, Observation

_ALLOWED: Final = frozenset({"1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:1", "5:2"})
"""null, zero, full, random, urandom, tty, console and ptmx (Documentation/admin-guide/devices.txt)."""
_TERMINALS: Final = range(136, 144)
"""Major numbers of pseudo-terminals' slaves."""
_LOOP: Final = (7, 0)
_FILTERED: Final = "2"
"""SECCOMP_MODE_FILTER, as /proc/self/status tells it."""
_UNLABELLED: Final = frozenset({"", "unconfined", "kernel"})


def _is_allowed(numbers: str) -> bool:
    major = numbers.partition(":")[0]
    return numbers in _ALLOWED or (major.isdigit() and int(major) in _TERMINALS)


def _devices(observation: Observation) -> Verdict:
    rows = [row for row in observation.rows("devices") if len(row) == 3]  # noqa: PLR2004
    others = [
        f"{path} ({kind} {numbers})"
        for path, kind, numbers in rows
        if kind == "b" or not _is_allowed(numbers)
    ]
    return observation.reached(
        others,
        "it has devices that a service does not need",
        f"{count(observation.number('count'), 'device')}, and harmless ones alone",
    )


def _disk(_ground: Ground) -> Parameters:
    """A block device of the host's; the first loop device where it has no other."""
    for path in sorted(Path("/sys/class/block").glob("*/dev")):
        try:
            major, minor = path.read_text(encoding="ascii").split(":")
        except OSError:
            continue
        return {"major": int(major), "minor": int(minor)}
    return {"major": _LOOP[0], "minor": _LOOP[1]}


def _block_device(observation: Observation) -> Verdict:
    faults = observation.table("faults")
    opened = [
        f"{place}: a node of a disk was made and opened" for place, fault in faults.items() if not fault
    ]
    told = ", ".join(f"{place} {fault}" for place, fault in faults.items())
    return observation.reached(opened, "it reads the host's disks", told)


def _kernel_devices(observation: Observation) -> Verdict:
    faults = observation.table("faults")
    opened = [path for path, fault in faults.items() if not fault]
    return observation.reached(
        opened, "devices that lead into the kernel can be opened", "none of them can be opened"
    )


def _terminal(observation: Observation) -> Verdict:
    canary = observation.canary(TerminalCanary)
    echoed = canary.echoed()
    rows = [row for row in observation.rows("terminals") if len(row) == 2]  # noqa: PLR2004
    found = [
        f"descriptor of the terminal, TIOCSTI {fault or 'succeeded'}"
        for own, fault in rows
        if own == canary.identity
    ]
    if echoed:
        found.append(f"the terminal was given {echoed!r}")
    if found and not observation.subject.own_kernel:
        return leak("it has the operator's terminal", *evidence(found))
    return isolated(
        f"it has no terminal of the host's; opening one of its own: {observation.text('controlling')}"
    )


def _capabilities(observation: Observation) -> Verdict:
    sets = observation.table("sets")
    held = [f"{name} {value}" for name, value in sets.items() if value.strip("0")]
    return observation.reached(held, "it has capabilities, or may get them", "all five sets are empty")


def _no_new_privileges(observation: Observation) -> Verdict:
    missing = [] if observation.flag("set") else ["no_new_privs is not set"]
    return observation.reached(missing, "execve may give it rights", "no_new_privs is set")


def _filter(observation: Observation) -> Verdict:
    if observation.subject.own_kernel:
        return not_applicable(
            "its calls go to a kernel of its own; what the monitor may ask is V1's question"
        )
    mode, fault = observation.text("mode"), observation.text("fault")
    if not mode.isdigit():
        return error("it has no /proc that tells whether its calls are filtered")
    told = (
        f"mode {mode}, {observation.text('filters')} filters, process_vm_readv answered {fault or 'success'}"
    )
    if mode == _FILTERED and fault in {"EPERM", "ENOSYS"}:
        return isolated(f"its system calls are filtered: {told}")
    return leak("no filter stands between it and the kernel's calls", told)


def _beacon_port(ground: Ground) -> Parameters:
    return {"udp": ground.subject.ports.udp if ground.subject.ports else 0}


def _security_module(observation: Observation) -> Verdict:
    if observation.subject.own_kernel:
        return not_applicable("the modules of its kernel are its own affair")
    label, answer = observation.text("label"), observation.text("answer")
    if answer == "EPERM":
        return isolated("Landlock keeps its first process from an abstract socket outside of its domain")
    if label not in _UNLABELLED:
        return isolated(f"it runs under the label {label}")
    if not answer:
        return error("its first process did not answer")
    told = f"label {label or 'none'!r}; a socket outside of its domain: {answer}"
    return leak("no security module stands behind the namespaces", told)


def _writable_code(observation: Observation) -> Verdict:
    fault = observation.text("fault")
    if fault:
        return isolated(f"memory that is writable and executable is refused with {fault}")
    return shared("memory may be writable and executable: interpreters with compilers need it")


CAPABILITIES: Final = "https://man7.org/linux/man-pages/man7/capabilities.7.html"
SECCOMP: Final = "https://man7.org/linux/man-pages/man2/seccomp.2.html"
_OWN_DEVICES: Final = "Give it a /dev of its own with null, zero, full, random, urandom, tty and a devpts."

PROBES: tuple[Probe, ...] = (
    Probe(
        id="D1",
        title="Devices beyond the harmless ones are in its /dev",
        category="devices",
        severity="high",
        rationale=(
            "Each device is a driver in the kernel that can be talked to, and some are disks or memory."
        ),
        handling=(
            "Engines make a /dev of their own with half a dozen nodes; `--privileged` gives all "
            "of the host's. A guest's devices are emulated."
        ),
        remediation=_OWN_DEVICES,
        references=("https://docs.kernel.org/admin-guide/devices.html",),
        expected=Expected.of(
            "LIIS",
            chroot="I",
            note="the privileged profile has the same small /dev as the others",
        ),
        judge=_devices,
    ),
    Probe(
        id="D2",
        title="A node for a disk can be made and opened",
        category="devices",
        severity="high",
        rationale="Who opens the host's disk reads and writes every file on it, past all permissions.",
        handling=(
            "mknod takes CAP_MKNOD, which Docker grants; its devices cgroup refuses the open. "
            "Ours has no capability, and nodev besides."
        ),
        remediation="Drop CAP_MKNOD, mount nodev, and set a devices cgroup.",
        references=(
            "https://man7.org/linux/man-pages/man2/mknod.2.html",
            "https://docs.kernel.org/admin-guide/cgroup-v1/devices.html",
        ),
        expected=Expected.of(
            "LIII",
            chroot="I",
            note="everything that our privileged profile and our guests mount is nodev, too",
        ),
        parameters=_disk,
        judge=_block_device,
    ),
    Probe(
        id="D3",
        title="Devices that lead into the kernel can be opened",
        category="devices",
        severity="high",
        rationale=(
            "/dev/kmsg tells addresses and lets one write into the log, /dev/mem is the memory, "
            "/dev/kvm and /dev/fuse are large interfaces."
        ),
        handling="They are not in a container's own /dev. In a guest they belong to its kernel.",
        remediation=_OWN_DEVICES,
        references=("https://man7.org/linux/man-pages/man4/mem.4.html",),
        expected=Expected.of(
            "LIIS",
            chroot="I",
            note="the privileged profile has the same small /dev as the others",
        ),
        judge=_kernel_devices,
    ),
    Probe(
        id="D4",
        title="It has the terminal it was started from",
        category="devices",
        severity="high",
        rationale=(
            "With TIOCSTI it types commands into the operator's shell, which runs them when the "
            "container has ended."
        ),
        handling=(
            "A new session and a terminal of its own keep it out; `bwrap` needs `--new-session` "
            "for that. Since Linux 6.2 the ioctl can be switched off."
        ),
        remediation="Start it in a new session with a pseudo-terminal of its own; refuse TIOCSTI by seccomp.",
        references=(
            "https://man7.org/linux/man-pages/man2/TIOCSTI.2const.html",
            "https://nvd.nist.gov/vuln/detail/CVE-2017-5226",
        ),
        expected=Expected.of("LIII", chroot="I"),
        canaries=("terminal",),
        judge=_terminal,
    ),
    Probe(
        id="C1",
        title="It has capabilities, or may get them",
        category="devices",
        severity="high",
        rationale="Each capability is a part of root's power, and many of them are enough to get the rest.",
        handling=(
            "Docker leaves 14, Podman 11. Ours leaves none in any of the five sets; the image's "
            "files cannot give any either."
        ),
        remediation="Drop all, the bounding set included, and add back only what the service needs.",
        references=(CAPABILITIES,),
        expected=Expected.of("LILS"),
        judge=_capabilities,
    ),
    Probe(
        id="C2",
        title="It may gain rights by execve",
        category="devices",
        severity="medium",
        rationale="Setuid files and file capabilities are the usual way from a service's user to root.",
        handling="Docker and Podman leave the flag off unless asked (`no-new-privileges`). Ours sets it.",
        remediation="Set no_new_privs before execve, for good.",
        references=("https://docs.kernel.org/userspace-api/no_new_privs.html",),
        expected=Expected.of("LILS"),
        judge=_no_new_privileges,
    ),
    Probe(
        id="C3",
        title="No filter stands between it and the kernel's calls",
        category="devices",
        severity="high",
        rationale="A kernel has some 350 calls, a service needs some 80, and holes are mostly in the others.",
        handling=(
            "Docker's filter allows about 377 calls, with arguments; runc alone filters nothing "
            "unless told. Ours allows fewer. A guest's calls never reach the host."
        ),
        remediation="Install a seccomp filter that allows what is needed.",
        references=(SECCOMP,),
        expected=Expected.of("LILN"),
        judge=_filter,
    ),
    Probe(
        id="C4",
        title="No security module stands behind the namespaces",
        category="devices",
        severity="medium",
        rationale=(
            "If a namespace is shared by mistake, or left through a hole, a module is what still holds."
        ),
        handling=(
            "Docker loads an AppArmor profile or an SELinux label where the host has one. Ours "
            "enters a Landlock domain that keeps abstract sockets and signals inside, whatever "
            "namespaces are shared; commands that are run in it later are held by the filter "
            "alone."
        ),
        remediation="Use AppArmor or SELinux, or a Landlock domain.",
        references=("https://docs.kernel.org/userspace-api/landlock.html",),
        expected=Expected.of("LILN"),
        parameters=_beacon_port,
        judge=_security_module,
    ),
    Probe(
        id="C5",
        title="Memory may be writable and executable",
        category="devices",
        severity="low",
        rationale="Injected code needs such memory; so do the compilers of Java, JavaScript and Lua.",
        handling="All kinds of sandboxes allow it by default; SELinux and PR_SET_MDWE can refuse it.",
        remediation="Set PR_SET_MDWE for services without such a compiler.",
        references=("https://man7.org/linux/man-pages/man2/PR_SET_MDWE.2const.html",),
        expected=Expected.of("SSSS"),
        judge=_writable_code,
    ),
)
