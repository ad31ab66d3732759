"""Probes about control groups: whether they can be seen, named and changed from inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.model import Expected, Probe, Verdict, isolated, leak, not_applicable
from pybench.harness.audit.observation import evidence
from pybench.harness.units import count

if TYPE_CHECKING:
    from pybench.harness.audit.observation import Observation
    from pybench.harness.audit.subjects.base import Subject


def _own_paths() -> set[str]:
    lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    return {path for line in lines if (path := line.split(":", 2)[2]) != "/"}


def _group_names(subject: Subject | None) -> set[str]:
    return {directory.name for directory in subject.group.directories} if subject and subject.group else set()


def _paths(observation: Observation) -> Verdict:
    ours = _own_paths()
    names = _group_names(observation.subject)
    told = [*observation.texts("own"), *observation.texts("roots")]
    found = sorted({path for path in told if path in ours or Path(path).name in names})
    if found and not observation.subject.own_kernel:
        return leak("it reads where in the host's control groups it is", *evidence(found))
    return isolated(
        "its control groups are called by paths of its own: " + ", ".join(sorted(set(told)) or ["none"])
    )


def _writing(observation: Observation) -> Verdict:
    return _opened(observation, "it may change control groups", "no control group is mounted or can be")


def _release_agent(observation: Observation) -> Verdict:
    faults = observation.table("faults")
    if observation.subject.own_kernel:
        return isolated("a program so named would be the guest's own kernel's to start")
    if observation.subject.shared and not faults:
        return not_applicable("the host has no hierarchy of version 1, and so no release_agent")
    return _opened(
        observation, "it may name a program that the host starts as root", "no release_agent is there"
    )


def _opened(observation: Observation, yes: str, nothing: str) -> Verdict:
    faults = observation.table("faults")
    opened = [path for path, fault in faults.items() if not fault]
    refused = f"refused with {', '.join(sorted(set(faults.values())))}" if faults else nothing
    return observation.reached(opened, yes, refused)


def _sibling_group(observation: Observation) -> Verdict:
    names = _group_names(observation.sibling)
    if observation.subject.own_kernel:
        return isolated("the control groups it sees are its own kernel's")
    if not names:
        return not_applicable("the sibling has no control group")
    seen = observation.table("names")
    if found := [path for name, path in seen.items() if name in names]:
        return leak("it sees its sibling's control group", *evidence(found))
    groups = count(observation.number("looked_at"), "control group")
    return isolated(f"none of {groups} that it sees is its sibling's")


CGROUP_NAMESPACES: Final = "https://man7.org/linux/man-pages/man7/cgroup_namespaces.7.html"
_CGROUPS: Final = "https://man7.org/linux/man-pages/man7/cgroups.7.html"
_OWN_NAMESPACE: Final = (
    "Give it a cgroup namespace of its own, and mount no control groups that can be written to."
)
_IN_NAMESPACE: Final = (
    "a cgroup namespace, which our privileged profile has too, shows nothing above its own group"
)

PROBES: tuple[Probe, ...] = (
    Probe(
        id="G1",
        title="Its place among the host's control groups is known",
        category="limits",
        severity="low",
        rationale="The path names the engine, and often the pod, the container and its owner.",
        handling=(
            "A cgroup namespace makes the own group the root. Docker and Podman make one on version 2 "
            "only; ours always."
        ),
        remediation=_OWN_NAMESPACE,
        references=(CGROUP_NAMESPACES,),
        expected=Expected.of("LIII", note=_IN_NAMESPACE),
        judge=_paths,
    ),
    Probe(
        id="G2",
        title="Control groups can be changed",
        category="limits",
        severity="high",
        rationale="Whoever writes there lifts its own limits, and freezes or kills others.",
        handling=(
            "Engines mount /sys/fs/cgroup read-only; mounting it anew takes CAP_SYS_ADMIN. Our container "
            "has no /sys at all. A guest's control groups are its own."
        ),
        remediation=_OWN_NAMESPACE,
        references=(_CGROUPS,),
        expected=Expected.of("LILS"),
        seconds=20.0,
        mutates=True,
        judge=_writing,
    ),
    Probe(
        id="G3",
        title="It may name a program that the host starts as root",
        category="limits",
        severity="critical",
        rationale=(
            "When a group of version 1 becomes empty, the kernel runs its hierarchy's release_agent with "
            "all rights of the host's root: a way out in two writes (CVE-2022-0492)."
        ),
        handling=(
            "It is in the uppermost group alone, and so out of sight in a cgroup namespace; since Linux "
            "5.17 writing it takes CAP_SYS_ADMIN of the host's. Version 2 has none."
        ),
        remediation=f"{_OWN_NAMESPACE} Drop CAP_SYS_ADMIN.",
        references=(_CGROUPS, "https://nvd.nist.gov/vuln/detail/CVE-2022-0492"),
        expected=Expected.of(
            "LILI",
            note=(
                "where a container has no group in some hierarchy of version 1, its cgroup namespace "
                "begins at that hierarchy's root, and a privileged one can mount it"
            ),
        ),
        seconds=20.0,
        mutates=True,
        judge=_release_agent,
    ),
    Probe(
        id="G4",
        title="A sibling's control group is visible",
        category="limits",
        severity="medium",
        rationale="Its counters tell what a neighbour does, second by second.",
        handling="A cgroup namespace shows the own group and those beneath it; ours always has one.",
        remediation=_OWN_NAMESPACE,
        references=(CGROUP_NAMESPACES,),
        expected=Expected.of("LIII", chroot="N", note=_IN_NAMESPACE),
        sibling=True,
        seconds=20.0,
        mutates=True,
        judge=_sibling_group,
    ),
)
