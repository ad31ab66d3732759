"""Probes about descriptors, the environment, and the well-known ways out through /proc."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.canaries.files import DescriptorCanary
from pybench.harness.audit.core_dumps import core_pattern, is_given_to_a_program
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
from pybench.runtime.container.defaults import own_capabilities

if TYPE_CHECKING:
    from pybench.harness.audit.observation import Ground, Observation

_ABSENT: Final = frozenset({"ENOENT", "ENOTDIR"})
_BUSY: Final = "ETXTBSY"
"""It could be opened for writing, if nobody ran it."""
_CAP_SYS_RESOURCE: Final = 24


def _inherited(observation: Observation) -> Verdict:
    found = observation.sighted(
        [observation.canary(DescriptorCanary).content_token], "a file of the harness's"
    )
    if found.is_leak:
        return found
    return isolated(
        f"none of its {count(observation.number('open'), 'descriptor')} is inherited from the host"
    )


def _outside(observation: Observation) -> Verdict:
    canary = observation.canary(DescriptorCanary)
    found = [f"the harness's directory, {canary.identity}"] * (
        canary.identity in observation.texts("identities")
    )
    found += [f"outside of its root: {path}" for path in observation.texts("outside")]
    if observation.subject.own_kernel:
        return isolated("its descriptors are those of another kernel")
    if found:
        return leak("it holds a file or directory outside of its root", *evidence(found))
    return isolated("every descriptor leads to something that is within its root")


def _environment(observation: Observation) -> Verdict:
    found = observation.places(observation.canary(DescriptorCanary).variable_token)
    ours = [name for name in os.environ if name.lower().endswith("_proxy")]
    found += [f"variable {name}" for name in observation.texts("proxies") if name in ours]
    if found:
        return leak("it has the environment of whoever started it", *evidence(found))
    return isolated(f"{count(observation.number('variables'), 'variable')}, and none of the host's")


def _executables(observation: Observation) -> Verdict:
    faults = observation.table("faults")
    if observation.subject.own_kernel:
        return isolated("its programs are files of its own")
    found = [f"{path}: {fault or 'opened'}" for path, fault in faults.items() if fault in {"", _BUSY}]
    if found:
        return leak("a program of the host's can be opened for writing", *evidence(found))
    return isolated(
        f"{count(len(faults), 'program')}, each refused with {', '.join(sorted(set(faults.values())))}"
    )


def _opened(observation: Observation, yes: str) -> Verdict:
    faults = observation.table("faults")
    opened = [path for path, fault in faults.items() if not fault]
    if not opened and observation.subject.shared and set(faults.values()) <= _ABSENT:
        return not_applicable("this kernel has none of these files")
    told = ", ".join(sorted({f for f in faults.values() if f}))
    return observation.reached(opened, yes, f"none can be opened for writing: {told}")


def _helpers(observation: Observation) -> Verdict:
    return _opened(observation, "it may name a program that the kernel starts as the host's root")


def _switches(observation: Observation) -> Verdict:
    return _opened(observation, "it may reboot, stop or stall the host")


def _hardware(observation: Observation) -> Verdict:
    return _opened(observation, "it may steer the host's interrupts or memory")


def _badness(observation: Observation) -> Verdict:
    fault = observation.text("fault")
    if (
        fault
        and observation.subject.kind == "process"
        and not own_capabilities("CapEff") >> _CAP_SYS_RESOURCE & 1
    ):
        return not_applicable("the harness itself has no CAP_SYS_RESOURCE, so that nobody could")
    lowered = [] if fault else ["oom_score_adj was lowered"]
    return observation.reached(
        lowered, "it may make the kernel kill others first", f"it is refused with {fault}"
    )


def _piped(_ground: Ground) -> Parameters:
    """Whether a core goes elsewhere than into the directory of the process (core(5))."""
    return {"piped": is_given_to_a_program(core_pattern()) or core_pattern().startswith("/")}


def _core(observation: Observation) -> Verdict:
    pattern = core_pattern()
    if observation.subject.own_kernel:
        return isolated("its cores are written by a kernel of its own")
    if not observation.flag("dumped"):
        return isolated(f"no core is written; the limit is {observation.number('limit')} bytes")
    if is_given_to_a_program(pattern):
        return leak("its core is given to a program of the host's", f"core_pattern {pattern}")
    if observation.subject.shared:
        return leak("its core is written on the host", f"core_pattern {pattern}")
    return leak("its core is written without a limit", f"core_pattern {pattern}")


def _labels(observation: Observation) -> Verdict:
    if observation.subject.shared or observation.subject.own_kernel:
        return not_applicable("nobody else writes labels there on its behalf")
    wrong = observation.texts("wrong")
    if wrong or not observation.flag("proc"):
        return leak(
            "what labels its processes is not the kernel's", *evidence(wrong or ["/proc is no procfs"])
        )
    return isolated(f"{count(observation.number('found'), 'file')} of labels, as in a real /proc")


PROC_SYS: Final = "https://man7.org/linux/man-pages/man5/proc_sys_kernel.5.html"
_READ_ONLY_PROC: Final = "Mount /proc/sys read-only, and give it a user namespace of its own."

PROBES: tuple[Probe, ...] = (
    Probe(
        id="F1",
        title="Open files of the host are inherited",
        category="descriptors",
        severity="critical",
        rationale=(
            "A descriptor needs no path and no permission: whatever the starter had open, the guest has."
        ),
        handling=(
            "bwrap passes on what is inheritable; Docker starts containers from a shim that has "
            "nothing open; runc leaked one (CVE-2024-21626). Ours closes everything above 2 as "
            "the last thing before execve."
        ),
        remediation="Open everything close-on-exec, and close the rest (close_range) before execve.",
        references=(
            "https://man7.org/linux/man-pages/man2/close_range.2.html",
            "https://nvd.nist.gov/vuln/detail/CVE-2024-21626",
        ),
        expected=Expected.of("LIII", chroot="I"),
        canaries=("descriptor",),
        judge=_inherited,
    ),
    Probe(
        id="F2",
        title="A descriptor leads out of its root",
        category="descriptors",
        severity="high",
        rationale="From an open directory outside of the root, openat reaches everything beneath it.",
        handling="As for files: what is closed, or was opened close-on-exec, is not passed on.",
        remediation="Close everything before execve.",
        references=("https://man7.org/linux/man-pages/man2/openat.2.html",),
        expected=Expected.of("LIII", chroot="I"),
        canaries=("descriptor",),
        judge=_outside,
    ),
    Probe(
        id="F3",
        title="The environment of whoever started it is inherited",
        category="descriptors",
        severity="medium",
        rationale="CI systems and clouds put tokens into variables, and proxies' addresses hold passwords.",
        handling=(
            "Docker starts with a clean environment, Podman passes proxy variables on, bwrap "
            "everything. Ours has the workload's own variables."
        ),
        remediation="Clear the environment and set what is needed.",
        references=("https://man7.org/linux/man-pages/man7/environ.7.html",),
        expected=Expected.of("LIII", chroot="I"),
        canaries=("descriptor",),
        judge=_environment,
    ),
    Probe(
        id="F4",
        title="Programs of the host can be overwritten through /proc",
        category="descriptors",
        severity="critical",
        rationale=(
            "/proc/self/exe of a runtime that enters the container is the host's file: a guest "
            "that opens it for writing replaces the runtime (CVE-2019-5736)."
        ),
        handling=(
            "runc copies itself into sealed memory first. Ours runs no program of its own inside,"
            " hides its process until execve, and mounts the image read-only."
        ),
        remediation="Run nothing of the host's inside; give the container a user namespace of its own.",
        references=("https://nvd.nist.gov/vuln/detail/CVE-2019-5736",),
        expected=Expected.of("LIII"),
        judge=_executables,
    ),
    Probe(
        id="E1",
        title="It may name programs that the kernel starts",
        category="descriptors",
        severity="critical",
        rationale=(
            "core_pattern, modprobe and uevent_helper name programs that the kernel runs as root "
            "of the host, outside of every container."
        ),
        handling=(
            "Engines mount /proc/sys read-only; with a user namespace of its own a container's "
            "root may not open them either. bwrap as root leaves core_pattern open."
        ),
        remediation=_READ_ONLY_PROC,
        references=("https://man7.org/linux/man-pages/man5/core.5.html", PROC_SYS),
        expected=Expected.of("LILS"),
        judge=_helpers,
    ),
    Probe(
        id="E2",
        title="It may reboot, stop or stall the host",
        category="descriptors",
        severity="high",
        rationale=(
            "One byte to sysrq-trigger reboots the machine, and so do the settings of panic, more slowly."
        ),
        handling="As for what the kernel starts; sysrq-trigger is masked or read-only besides.",
        remediation=_READ_ONLY_PROC,
        references=("https://docs.kernel.org/admin-guide/sysrq.html",),
        expected=Expected.of("LILS"),
        judge=_switches,
    ),
    Probe(
        id="E3",
        title="It may steer interrupts and memory types",
        category="descriptors",
        severity="medium",
        rationale=(
            "All interrupts on one processor starve whoever runs there; wrong memory types stop the machine."
        ),
        handling="/proc/irq and /proc/acpi are read-only or masked in engines' containers.",
        remediation="Mount /proc/irq read-only, and mask /proc/acpi.",
        references=("https://docs.kernel.org/core-api/irq/irq-affinity.html",),
        expected=Expected.of("LILS"),
        judge=_hardware,
    ),
    Probe(
        id="E4",
        title="It may have others killed when memory runs out",
        category="descriptors",
        severity="medium",
        rationale="With oom_score_adj at -1000 the kernel kills everybody else first.",
        handling="Lowering it takes CAP_SYS_RESOURCE in the initial user namespace.",
        remediation="Drop CAP_SYS_RESOURCE.",
        references=("https://man7.org/linux/man-pages/man5/proc_pid_oom_score_adj.5.html",),
        expected=Expected.of("LILS"),
        judge=_badness,
        mutates=True,
    ),
    Probe(
        id="E5",
        title="Its cores are written outside",
        category="descriptors",
        severity="medium",
        rationale=(
            "A program of the host's that collects cores parses what a guest has written "
            "(CVE-2025-4598), and cores fill disks."
        ),
        handling=(
            "RLIMIT_CORE of 0 stops files, and a limit of 1 programs, too; a container shares the"
            " host's core_pattern."
        ),
        remediation="Set RLIMIT_CORE to 0, and a core_pattern that does not pipe.",
        references=("https://man7.org/linux/man-pages/man5/core.5.html",),
        expected=Expected.of("LIII", note="the limit of 0 holds in the privileged profile, too"),
        parameters=_piped,
        judge=_core,
        mutates=True,
    ),
    Probe(
        id="E6",
        title="What labels its processes is not the kernel's",
        category="descriptors",
        severity="medium",
        rationale=(
            "A runtime that writes a label to a file an image has put there starts the container "
            "without one (CVE-2025-52881)."
        ),
        handling=(
            "runc now verifies that it writes to a real procfs. Ours mounts /proc itself, and "
            "follows no link of the image's."
        ),
        remediation="Verify that /proc/self/attr is procfs before writing to it.",
        references=("https://nvd.nist.gov/vuln/detail/CVE-2025-52881",),
        expected=Expected.of("NIIN"),
        judge=_labels,
    ),
)
