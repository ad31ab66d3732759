"""Probes about IPC objects, keys, locks and the host name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.canaries.ipc import KeyCanary, LockCanary, PosixCanary, SystemVCanary
from pybench.harness.audit.canaries.place import WRITABLE
from pybench.harness.audit.model import Expected, Parameters, Probe, Verdict, isolated, leak, shared
from pybench.harness.audit.observation import evidence
from pybench.harness.units import count

if TYPE_CHECKING:
    from pybench.harness.audit.observation import Ground, Observation


def _system_v_keys(ground: Ground) -> Parameters:
    canary = ground.canary(SystemVCanary)
    return {**canary.keys, "identifier": canary.identifiers["segment"]}


def _system_v(observation: Observation) -> Verdict:
    canary, faults = observation.canary(SystemVCanary), observation.table("faults")
    found = observation.places(*canary.tokens)
    # An identifier is a small number that a guest's own kernel may have given to another segment.
    found += [f"{kind} {key}" for kind, key in canary.keys.items() if faults.get(_BY_KEY[kind]) == ""]
    if found:
        return leak("it reaches System V objects of the host", *evidence(found))
    return isolated(f"no System V object of the host's is there ({_told(faults)})")


_BY_KEY: Final = {"segment": "segment by key", "semaphore": "semaphore", "queue": "queue"}


def _told(faults: dict[str, str]) -> str:
    return ", ".join(sorted({fault for fault in faults.values() if fault}))


def _queue_name(ground: Ground) -> Parameters:
    return {"queue": ground.canary(PosixCanary).queue}


def _posix(observation: Observation) -> Verdict:
    canary, fault = observation.canary(PosixCanary), observation.text("fault")
    found = observation.places(*canary.tokens)
    if not fault:
        found.append(f"mq_open({canary.queue})")
    if found:
        return leak("it reaches POSIX shared memory or queues of the host", *evidence(found))
    return isolated(
        f"none of {count(observation.number('files'), 'shared file')} is the host's; "
        f"its queue answers {fault}"
    )


def _serial(ground: Ground) -> Parameters:
    return {"serial": ground.canary(KeyCanary).serial}


def _key(observation: Observation) -> Verdict:
    canary = observation.canary(KeyCanary)
    if places := observation.places(canary.payload_token):
        return leak("it reads a key of the host's", *evidence(places))
    return isolated(f"the host's key cannot be read: {observation.text('fault')}")


def _key_list(observation: Observation) -> Verdict:
    canary = observation.canary(KeyCanary)
    if places := observation.places(canary.description_token):
        return leak("it lists keys of the host's", *evidence(places + observation.texts("users")))
    return isolated(f"none of {count(observation.number('keys'), 'key')} that it lists is the host's")


def _key_calls(observation: Observation) -> Verdict:
    faults = observation.table("faults")
    reached = [call for call, fault in faults.items() if not fault]
    return observation.reached(
        reached, "the calls for keys, which many faults were found in, are open", f"refused: {_told(faults)}"
    )


def _locked_path(ground: Ground) -> Parameters:
    folder = ground.subject.volumes.get(WRITABLE)
    return {"path": f"{folder}/{LockCanary.file}" if folder else ""}


def _locks(observation: Observation) -> Verdict:
    identity, fault = observation.canary(LockCanary).identity, observation.text("fault")
    found = [f"/proc/locks: {identity}"] if identity in observation.texts("identities") else []
    if observation.subject.own_kernel:
        return isolated("locks are those of the guest's own kernel")
    if fault == "EAGAIN":
        found.append(f"flock({LockCanary.file}): {fault}")
    if not found:
        return isolated("no lock of the host's is seen")
    if observation.subject.shared:
        return leak("it sees which files the host has locked", *evidence(found))
    return shared("a lock on a file of a shared volume holds for all who share it", *evidence(found))


def _host_name(observation: Observation) -> Verdict:
    theirs, ours = observation.text("name"), os.uname().nodename
    if theirs == ours:
        return leak("its host name is the host's", f"uname: {theirs}")
    return isolated(f"its host name is its own: {theirs}")


def _naming(observation: Observation) -> Verdict:
    if observation.subject.own_kernel:
        return isolated("its names are those of its own kernel")
    faults = observation.table("faults")
    # The length is looked at after the right to set it (kernel/sys.c), so that EINVAL means yes.
    allowed = [f"{call}: {fault}" for call, fault in faults.items() if fault == "EINVAL"]
    if not allowed:
        return isolated(f"the calls are refused with {_told(faults)}")
    if observation.text("namespace") == str(Path("/proc/self/ns/uts").readlink()):
        return leak("it may change the host's name", *evidence(allowed))
    return isolated("it may change the name of its own uts namespace alone")


IPC_NAMESPACES: Final = "https://man7.org/linux/man-pages/man7/ipc_namespaces.7.html"
UTS_NAMESPACES: Final = "https://man7.org/linux/man-pages/man7/uts_namespaces.7.html"
KEYRINGS: Final = "https://man7.org/linux/man-pages/man7/keyrings.7.html"
_OWN_IPC: Final = "Give it an IPC namespace of its own."
_REFUSE_KEYS: Final = "Refuse add_key, keyctl and request_key by seccomp."

PROBES: tuple[Probe, ...] = (
    Probe(
        id="I1",
        title="System V objects of the host can be reached",
        category="ipc",
        severity="high",
        rationale=(
            "Databases keep their buffers in System V shared memory; whoever has the same user id, or finds "
            "an open mode, reads and writes them."
        ),
        handling=(
            "They belong to an IPC namespace, which every engine makes by default. `--ipc=host` gives it up."
        ),
        remediation=_OWN_IPC,
        references=(IPC_NAMESPACES, "https://man7.org/linux/man-pages/man7/sysvipc.7.html"),
        expected=Expected.of("LIII"),
        canaries=("system-v",),
        parameters=_system_v_keys,
        judge=_system_v,
    ),
    Probe(
        id="I2",
        title="POSIX shared memory or queues of the host can be reached",
        category="ipc",
        severity="high",
        rationale="Browsers, databases and audio servers pass data through /dev/shm.",
        handling=(
            "Queues belong to the IPC namespace. Shared memory is a file in /dev/shm, and so depends on what "
            "is mounted there: containers get a tmpfs of their own."
        ),
        remediation=f"{_OWN_IPC} Mount a new tmpfs on /dev/shm.",
        references=(IPC_NAMESPACES, "https://man7.org/linux/man-pages/man7/shm_overview.7.html"),
        expected=Expected.of("LIII", chroot="L"),
        canaries=("posix-ipc",),
        parameters=_queue_name,
        judge=_posix,
    ),
    Probe(
        id="I3",
        title="A key of the host's can be read by its number",
        category="ipc",
        severity="high",
        rationale="The kernel's keyrings hold Kerberos tickets, and keys of disks and network mounts.",
        handling=(
            "No namespace holds keys back: a key's number works everywhere, and only its permissions decide. "
            "A user namespace maps the owner away, but a key that everybody may read stays readable. So "
            "Docker's filter refuses the calls; Podman's allows them."
        ),
        remediation=_REFUSE_KEYS,
        references=(KEYRINGS, "https://man7.org/linux/man-pages/man2/keyctl.2.html"),
        expected=Expected.of("LILI"),
        canaries=("key",),
        parameters=_serial,
        judge=_key,
    ),
    Probe(
        id="I4",
        title="Keys of the host are listed",
        category="ipc",
        severity="medium",
        rationale="/proc/keys names keys and their owners, and gives the numbers by which they are read.",
        handling=(
            "Engines mask /proc/keys. The kernel lists only keys whose owner the reader's user namespace "
            "knows; /proc/key-users tells of all those users, and is often left open."
        ),
        remediation="Mask /proc/keys and /proc/key-users.",
        references=(KEYRINGS,),
        expected=Expected.of("LILI"),
        canaries=("key",),
        judge=_key_list,
    ),
    Probe(
        id="I5",
        title="The calls for keys are open",
        category="ipc",
        severity="medium",
        rationale=(
            "Several ways to become root led through them (CVE-2016-0728), and they use up a quota that is "
            "kept by user."
        ),
        handling="Docker's and our filter refuse them; Podman's does not. A guest calls its own kernel.",
        remediation=_REFUSE_KEYS,
        references=(KEYRINGS, "https://nvd.nist.gov/vuln/detail/CVE-2016-0728"),
        expected=Expected.of("LILS"),
        judge=_key_calls,
    ),
    Probe(
        id="I6",
        title="The host's locks on files are seen",
        category="ipc",
        severity="low",
        rationale="Locks on a shared file can be taken and held, which stops whoever else needs them.",
        handling=(
            "A lock belongs to the file, so all who share a volume share its locks. /proc/locks lists those "
            "of the reader's pid namespace."
        ),
        remediation="Do not share writable files whose locks matter.",
        references=(
            "https://man7.org/linux/man-pages/man2/flock.2.html",
            "https://man7.org/linux/man-pages/man5/proc_locks.5.html",
        ),
        expected=Expected.of("LSSI"),
        canaries=("lock",),
        parameters=_locked_path,
        judge=_locks,
    ),
    Probe(
        id="I7",
        title="The host's name is known",
        category="ipc",
        severity="low",
        rationale="It names the machine, its site and often its purpose.",
        handling="A uts namespace begins with the host's name: one that is not set anew is leaked.",
        remediation="Give it a uts namespace, and a name, of its own.",
        references=(UTS_NAMESPACES,),
        expected=Expected.of("LIII"),
        judge=_host_name,
    ),
    Probe(
        id="I8",
        title="The host's name can be changed",
        category="ipc",
        severity="medium",
        rationale="Certificates, logs, licences and clusters go by it.",
        handling=(
            "A uts namespace confines the change to itself, and it takes CAP_SYS_ADMIN there. Our filter "
            "refuses the calls as well."
        ),
        remediation="Give it a uts namespace of its own.",
        references=(UTS_NAMESPACES, "https://man7.org/linux/man-pages/man2/sethostname.2.html"),
        expected=Expected.of("LIII"),
        judge=_naming,
    ),
)
