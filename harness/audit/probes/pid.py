"""Probes about processes: what is seen of the host's and of a sibling's, and what can be done to them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.canaries.process import ProcessCanary
from pybench.harness.audit.guest.pid import FEWEST_FORKS
from pybench.harness.audit.model import (
    Expected,
    Parameters,
    Probe,
    Verdict,
    error,
    isolated,
    leak,
    shared,
)
from pybench.harness.audit.observation import evidence
from pybench.harness.units import count

if TYPE_CHECKING:
    from pybench.harness.audit.observation import Ground, Observation

_KERNEL_THREAD: Final = "kthreadd"
"""The host's process 2, unless the harness itself is in a container."""


def _host_processes(observation: Observation) -> Verdict:
    found = observation.sighted(observation.canary(ProcessCanary).tokens, "a process of the host")
    if found.is_leak:
        return found
    visible = count(observation.number("processes"), "visible process", "visible processes")
    return isolated(f"none of {visible} is the host's canary")


def _sibling_processes(observation: Observation) -> Verdict:
    assert observation.sibling is not None, "the session checks it"  # noqa: S101
    return observation.sighted((observation.sibling.token,), "a process of the sibling")


def _pid(ground: Ground) -> Parameters:
    return {"pid": ground.canary(ProcessCanary).pid}


def _signal(observation: Observation) -> Verdict:
    pid, fault = observation.canary(ProcessCanary).pid, observation.text("fault")
    if fault == "ESRCH":
        return isolated(f"no process {pid} exists there")
    if pid <= max(observation.number("own"), observation.number("last")) and observation.subject.own_kernel:
        return error(f"{pid} may be a process of the guest's own")
    if fault == "EPERM":
        return leak("a process of the host exists for it", f"kill({pid}, 0): EPERM")
    if fault:
        return isolated(f"kill({pid}, 0) is refused with {fault}")
    return leak("a process of the host can be signalled", f"kill({pid}, 0) succeeded")


def _namespaces(observation: Observation) -> Verdict:
    if observation.subject.own_kernel:
        return isolated("its namespaces are those of another kernel")
    theirs = observation.table("namespaces")
    ours = {name: str(Path(f"/proc/self/ns/{name}").readlink()) for name in theirs}
    same = [f"{name}: {theirs[name]}" for name in theirs if theirs[name] == ours[name]]
    if same:
        names = ", ".join(line.partition(":")[0] for line in same)
        return leak(f"it is in the host's own namespaces: {names}", *evidence(same))
    return isolated(f"{count(len(theirs), 'namespace')}, and none of the host's")


def _first_processes(observation: Observation) -> Verdict:
    if observation.subject.own_kernel:
        return isolated("process 2 is a thread of the guest's own kernel")
    first = Path("/proc/1/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    found = []
    if observation.text("second") == _KERNEL_THREAD:
        found.append(f"/proc/2/comm: {_KERNEL_THREAD}")
    # Only where the host shows no threads of the kernel: in a time namespace, a process 1 of its own may by
    # chance have started as soon after its boot as the host's did.
    second = Path("/proc/2/comm")
    has_threads = second.exists() and second.read_text(encoding="utf-8").strip() == _KERNEL_THREAD
    if not has_threads and observation.text("first_started") == first and observation.number("depth") <= 1:
        found.append(f"/proc/1/stat: started at tick {first}, as the host's")
    if found:
        return leak("it sees the host's first processes", *found)
    return isolated("the first processes it sees are its own")


def _memory_of(ground: Ground) -> Parameters:
    canary = ground.canary(ProcessCanary)
    address, length = canary.environment_block
    return {"pid": canary.pid, "address": address, "length": length}


def _memory(observation: Observation) -> Verdict:
    canary = observation.canary(ProcessCanary)
    if places := observation.places(*canary.tokens):
        return leak("the memory of a process of the host was read", *evidence(places))
    if observation.flag("descriptor") and not observation.subject.own_kernel:
        return leak("a process of the host can be held on to", f"pidfd_open({canary.pid}) succeeded")
    faults = f"{observation.text('read_fault')}, {observation.text('open_fault')}"
    return isolated(f"process_vm_readv and pidfd_open are refused with {faults}")


def _reverse(observation: Observation) -> Verdict:
    token = observation.subject.token.encode()
    seen = []
    for pid in observation.subject.processes:
        for file in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                if token in Path(f"/proc/{pid}/{file}").read_bytes():
                    seen.append(f"/proc/{pid}/{file}")
    if not seen:
        return isolated("the host sees no process of the guest's")
    if observation.subject.shared:
        return leak("the host sees its processes, as it sees its own", *evidence(seen))
    return shared("the host's kernel runs its processes, and shows them to the host", *evidence(seen))


def _moving_numbers(observation: Observation) -> Verdict:
    if not observation.flag("readable"):
        return isolated("/proc/sys/kernel/ns_last_pid cannot be read")
    moved = observation.number("moved")
    if observation.subject.own_kernel:
        return isolated("the number is that of the guest's own kernel")
    if abs(moved) >= FEWEST_FORKS:
        return leak("it sees how many processes the host starts", f"ns_last_pid moved by {moved}")
    return isolated(f"the last process number moved by {moved}, whatever the host starts")


PROC = "https://man7.org/linux/man-pages/man5/proc.5.html"
PID_NAMESPACES = "https://man7.org/linux/man-pages/man7/pid_namespaces.7.html"
_OWN_PID_NAMESPACE = "Give it a pid namespace of its own, with a /proc that was mounted inside of it."

PROBES: tuple[Probe, ...] = (
    Probe(
        id="P1",
        title="Processes of the host are visible",
        category="pid",
        severity="high",
        rationale=(
            "Command lines and environments hold passwords and keys, and name every service that "
            "runs beside it."
        ),
        handling=(
            "A pid namespace hides processes, if /proc was mounted inside of it: one that was "
            "bind-mounted from the host shows everything. `docker run --pid=host` gives it up. A "
            "virtual machine has its own kernel."
        ),
        remediation=_OWN_PID_NAMESPACE,
        references=(PROC, PID_NAMESPACES),
        expected=Expected.of("LIII"),
        canaries=("process",),
        judge=_host_processes,
    ),
    Probe(
        id="P2",
        title="Processes of the host can be signalled, or found by trying numbers",
        category="pid",
        severity="high",
        rationale=(
            "Who may signal can end others; and EPERM instead of ESRCH tells that a number is "
            "taken, which is enough to count and follow the host's processes."
        ),
        handling=(
            "Inside a pid namespace the host's numbers do not exist (ESRCH). Landlock's signal "
            "scope holds even where the namespace is shared. A guest's kernel knows only its own "
            "processes."
        ),
        remediation=_OWN_PID_NAMESPACE,
        references=("https://man7.org/linux/man-pages/man2/kill.2.html", PID_NAMESPACES),
        expected=Expected.of("LIII"),
        canaries=("process",),
        parameters=_pid,
        judge=_signal,
    ),
    Probe(
        id="P3",
        title="A namespace is the host's own",
        category="pid",
        severity="medium",
        rationale="Each namespace that is shared gives up one kind of isolation as a whole.",
        handling=(
            "Container engines make pid, mount, network, uts and ipc namespaces by default; user,"
            " cgroup and time namespaces often only when asked. A virtual machine shares none."
        ),
        remediation="Start it with namespaces of its own of every kind.",
        references=("https://man7.org/linux/man-pages/man7/namespaces.7.html",),
        expected=Expected.of(
            "LILI", note="a privileged container has the host's user namespace, by definition"
        ),
        judge=_namespaces,
    ),
    Probe(
        id="P4",
        title="The host's first processes are visible",
        category="pid",
        severity="low",
        rationale="Kernel threads and the host's init give away that, and which, host it is on.",
        handling="A pid namespace begins with a process 1 of its own. A guest's kernel has its own threads.",
        remediation=_OWN_PID_NAMESPACE,
        references=(PID_NAMESPACES,),
        expected=Expected.of("LIII"),
        judge=_first_processes,
    ),
    Probe(
        id="P5",
        title="The memory of a process of the host can be read",
        category="pid",
        severity="high",
        rationale="Memory holds whatever a process decrypted; a pidfd is a lasting handle on it.",
        handling=(
            "A pid namespace takes the numbers away; seccomp filters refuse the calls besides; "
            "Yama restricts ptrace. A guest's memory is the hypervisor's to give."
        ),
        remediation=f"{_OWN_PID_NAMESPACE} Refuse process_vm_readv, ptrace and pidfd_getfd by seccomp.",
        references=("https://man7.org/linux/man-pages/man2/process_vm_readv.2.html",),
        expected=Expected.of("LIII"),
        canaries=("process",),
        parameters=_memory_of,
        judge=_memory,
    ),
    Probe(
        id="P6",
        title="Processes of a sibling are visible",
        category="pid",
        severity="high",
        rationale="Tenants beside one another must not read each other's command lines and environments.",
        handling=(
            "As for the host's processes. Pods that share a pid namespace "
            "(`shareProcessNamespace`) see each other."
        ),
        remediation=_OWN_PID_NAMESPACE,
        references=(PID_NAMESPACES,),
        expected=Expected.of("LIII"),
        sibling=True,
        judge=_sibling_processes,
    ),
    Probe(
        id="P7",
        title="The host sees the guest's processes",
        category="pid",
        severity="low",
        rationale=(
            "Whoever runs on the host reads command lines and environments of its containers; a "
            "monitor of the host's can do the same, which is often wanted."
        ),
        handling=(
            "The host's kernel runs a container's processes, so its root sees them. Of a virtual "
            "machine it sees one process, the monitor, and memory without structure."
        ),
        remediation="Run what the host's operator must not see in a virtual machine, with encrypted memory.",
        references=(PID_NAMESPACES,),
        expected=Expected.of("LSSI"),
        guest=False,
        judge=_reverse,
    ),
    Probe(
        id="P8",
        title="The rate at which the host starts processes can be read",
        category="pid",
        severity="low",
        rationale=(
            "A counter that moves with the host's work is a side channel, and tells tenants of each other."
        ),
        handling="/proc/sys/kernel/ns_last_pid belongs to the pid namespace of whoever reads it.",
        remediation=_OWN_PID_NAMESPACE,
        references=(PID_NAMESPACES,),
        expected=Expected.of("LIII"),
        canaries=("forking",),
        watches=True,
        judge=_moving_numbers,
    ),
)
