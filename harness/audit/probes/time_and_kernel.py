"""Probes about clocks and about what of the kernel can be reached."""

from __future__ import annotations

import ctypes
import os
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.canaries.kernel_log import KernelLogCanary
from pybench.harness.audit.model import Expected, Probe, Verdict, isolated, leak, shared
from pybench.harness.audit.observation import evidence
from pybench.runtime.container.leftovers import start_ticks

if TYPE_CHECKING:
    from pybench.harness.audit.observation import Observation

_REFUSED: Final = frozenset({"EPERM", "EACCES", "ENOSYS"})
"""Nothing of the call was reached."""
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def _uptime(observation: Observation) -> Verdict:
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert observation.subject.pid is not None, "the session checks it"  # noqa: S101
    # It was asked after it was started and before now.
    started = (start_ticks(observation.subject.pid) or 0) / os.sysconf("SC_CLK_TCK")
    same = [
        f"{what}: up for {observation.real(fact):.1f} s"
        for fact, what in (("call", "CLOCK_BOOTTIME"), ("file", "/proc/uptime"))
        if started <= observation.real(fact) <= now
    ]
    if same:
        return leak("its uptime is the host's", *same)
    return isolated(f"its uptime is its own: {observation.real('call'):.1f} s, the host's {now:.1f} s")


def _setting(observation: Observation) -> Verdict:
    faults = observation.table("faults")
    reached = [f"{call}: {fault}" for call, fault in faults.items() if fault not in _REFUSED]
    return observation.reached(reached, "it may set the host's clock", f"refused with {_told(faults)}")


def _told(faults: dict[str, str]) -> str:
    return ", ".join(sorted(set(faults.values())))


def _discipline(observation: Observation) -> Verdict:
    if observation.subject.own_kernel:
        return isolated("its clock is disciplined by its own kernel")
    if fault := observation.text("fault"):
        return isolated(f"adjtimex is refused with {fault}")
    theirs = observation.number("offset"), observation.number("frequency")
    told = f"adjtimex: offset {theirs[0]}, frequency {theirs[1]}; the host's {_host_discipline()}"
    if observation.subject.shared:
        return leak("it reads how the host's clock is disciplined", told)
    return shared("no namespace holds the real-time clock: there is one for all", told)


def _host_discipline() -> str:
    buffer = ctypes.create_string_buffer(256)
    ctypes.CDLL(None).adjtimex(buffer)
    _, offset, frequency = struct.unpack_from("=I4x2q", buffer)
    return f"{offset}, {frequency}"


def _release(observation: Observation) -> Verdict:
    theirs, ours = observation.text("release"), os.uname().release
    if observation.subject.own_kernel or theirs != ours:
        return isolated(f"it runs on another kernel: {theirs}")
    if observation.subject.shared:
        return leak("it knows the host's kernel", theirs)
    return shared("the kernel is the host's, as of every container", theirs)


def _boot_id(observation: Observation) -> Verdict:
    theirs, ours = observation.text("id"), _BOOT_ID.read_text(encoding="ascii").strip()
    if theirs == ours:
        return leak("it reads the number of the host's boot", theirs)
    return isolated(
        f"the number of its boot is its own: {theirs}" if theirs else "it reads no number of a boot"
    )


def _surface(observation: Observation) -> Verdict:
    faults = observation.table("faults")
    reached = [f"{call}: {fault or 'done'}" for call, fault in faults.items() if fault not in _REFUSED]
    return observation.reached(
        reached, "rarely needed calls reach the kernel", f"refused with {_told(faults)}"
    )


def _nested(observation: Observation) -> Verdict:
    fault = observation.text("fault")
    reached = [] if fault else ["unshare(CLONE_NEWUSER)"]
    return observation.reached(
        reached, "it may make user namespaces, and be root in them", f"refused: {fault}"
    )


def _log(observation: Observation) -> Verdict:
    if places := observation.places(*observation.canary(KernelLogCanary).tokens):
        return leak("it reads the host's kernel log", *evidence(places))
    if observation.subject.own_kernel:
        return isolated("the log it reads is its own kernel's")
    return isolated(
        f"syslog is refused with {observation.text('call')}, /dev/kmsg {observation.text('device')}"
    )


def _evasion(observation: Observation) -> Verdict:
    outcomes = observation.table("outcomes")
    reached = [f"{way}: {outcome}" for way, outcome in outcomes.items() if _got_through(way, outcome)]
    told = ", ".join(f"{way} {outcome}" for way, outcome in outcomes.items())
    return observation.reached(reached, "calls get past a filter for the usual ones", told)


def _got_through(way: str, outcome: str) -> bool:
    if way == "clone3":
        return outcome not in _REFUSED
    # The number of a process; -1, or a signal, where the kernel does not have it or the filter kills.
    return outcome.isdigit()


_SECCOMP: Final = "https://man7.org/linux/man-pages/man2/seccomp.2.html"
_USE_FILTER: Final = "Refuse the calls by seccomp."
_TIME_NAMESPACES: Final = "https://man7.org/linux/man-pages/man7/time_namespaces.7.html"

PROBES: tuple[Probe, ...] = (
    Probe(
        id="T1",
        title="Its uptime is the host's",
        category="time_and_kernel",
        severity="low",
        rationale="When a host was booted identifies it among others, and tells which patches it lacks.",
        handling=(
            "A time namespace shifts the monotonic and the boot-time clock, and /proc/uptime with them; of "
            "the engines only ours makes one by default."
        ),
        remediation="Give it a time namespace whose clocks begin at zero.",
        references=(_TIME_NAMESPACES,),
        expected=Expected.of(
            "LIII", note="our privileged profile too has a time namespace, with clocks that begin at zero"
        ),
        judge=_uptime,
    ),
    Probe(
        id="T2",
        title="It may set the host's clock",
        category="time_and_kernel",
        severity="high",
        rationale="Whoever sets the clock decides which certificates, tickets and locks are still valid.",
        handling=(
            "No namespace holds the real-time clock. It takes CAP_SYS_TIME, which engines drop, outside of a "
            "user namespace, and filters refuse the calls. A guest sets its own."
        ),
        remediation="Drop CAP_SYS_TIME, and refuse the calls by seccomp.",
        references=("https://man7.org/linux/man-pages/man2/settimeofday.2.html", _TIME_NAMESPACES),
        expected=Expected.of("LILS"),
        judge=_setting,
    ),
    Probe(
        id="T3",
        title="It reads how the host's clock is disciplined",
        category="time_and_kernel",
        severity="low",
        rationale="The frequency of a clock is a fingerprint of the machine, and moves with its temperature.",
        handling=(
            "adjtimex may be read by everybody; only a filter keeps it away, as ours does. All containers "
            "share one clock. A guest's kernel has its own."
        ),
        remediation=_USE_FILTER,
        references=("https://man7.org/linux/man-pages/man2/adjtimex.2.html",),
        expected=Expected.of("LISI", note="our filter refuses adjtimex even for reading"),
        judge=_discipline,
    ),
    Probe(
        id="K1",
        title="It runs on the host's kernel",
        category="time_and_kernel",
        severity="low",
        rationale="Its release tells which faults it has; one of them is a way out of every container on it.",
        handling="Containers share the kernel by design; a virtual machine boots one of its own.",
        remediation="Run what you do not trust in a virtual machine.",
        references=("https://man7.org/linux/man-pages/man2/uname.2.html",),
        expected=Expected.of("LSSI"),
        judge=_release,
    ),
    Probe(
        id="K2",
        title="It reads the number of the host's boot",
        category="time_and_kernel",
        severity="medium",
        rationale="It is the same for all containers of a host: two of them know that they are neighbours.",
        handling=(
            "/proc/sys/kernel/random/boot_id belongs to no namespace and most engines leave it open. Our "
            "container masks it."
        ),
        remediation="Mask /proc/sys/kernel/random/boot_id.",
        references=("https://man7.org/linux/man-pages/man4/random.4.html",),
        expected=Expected.of("LILI"),
        judge=_boot_id,
    ),
    Probe(
        id="K3",
        title="Calls with a large attack surface reach the kernel",
        category="time_and_kernel",
        severity="high",
        rationale="Most ways out of containers in recent years began in bpf, io_uring, perf or modules.",
        handling=(
            "Docker's filter refuses most of them without their capability; ours refuses all, and answers "
            "EPERM. A guest calls its own kernel."
        ),
        remediation=_USE_FILTER,
        references=(_SECCOMP, "https://docs.docker.com/engine/security/seccomp/"),
        expected=Expected.of("LILS"),
        judge=_surface,
    ),
    Probe(
        id="K4",
        title="It may make user namespaces",
        category="time_and_kernel",
        severity="high",
        rationale=(
            "Root of a nested user namespace has all capabilities there, and with them reaches code that is "
            "otherwise root's: netfilter, overlayfs, mounts (CVE-2022-0185)."
        ),
        handling="Docker's filter refuses it without CAP_SYS_ADMIN, ours always; Podman's allows it.",
        remediation="Refuse unshare and clone with CLONE_NEWUSER, and clone3, by seccomp.",
        references=(
            "https://man7.org/linux/man-pages/man7/user_namespaces.7.html",
            "https://nvd.nist.gov/vuln/detail/CVE-2022-0185",
        ),
        expected=Expected.of(
            "LILS", chroot="I", note="the kernel refuses user namespaces to whoever is in a chroot"
        ),
        judge=_nested,
    ),
    Probe(
        id="K5",
        title="It reads the host's kernel log",
        category="time_and_kernel",
        severity="medium",
        rationale="The log has addresses, names of devices, and what other containers were killed for.",
        handling=(
            "There is one log for all namespaces. Reading it takes CAP_SYSLOG where dmesg_restrict is set; "
            "filters refuse the call, and /dev/kmsg and /proc/kmsg are left out or masked."
        ),
        remediation="Drop CAP_SYSLOG, set kernel.dmesg_restrict, and refuse syslog by seccomp.",
        references=("https://man7.org/linux/man-pages/man2/syslog.2.html",),
        expected=Expected.of("LILI"),
        canaries=("kernel-log",),
        judge=_log,
    ),
    Probe(
        id="K6",
        title="Calls get past a filter",
        category="time_and_kernel",
        severity="medium",
        rationale=(
            "A filter that knows only the usual numbers is evaded by those of x32 and i386; and none can "
            "look at the flags of clone3, which are behind a pointer."
        ),
        handling=(
            "libseccomp refuses unknown architectures, and engines answer ENOSYS to clone3, so that C "
            "libraries fall back to clone. Ours kills whoever tries another architecture."
        ),
        remediation="Kill foreign architectures, and answer ENOSYS to clone3.",
        references=(_SECCOMP,),
        expected=Expected.of("LILS"),
        judge=_evasion,
    ),
)
