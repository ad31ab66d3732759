"""Probes about users: who the guest's root is on the host, and what that user may."""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pybench.harness.audit.canaries.files import SecretFileCanary, SetuidFileCanary
from pybench.harness.audit.canaries.place import READ_ONLY, WRITABLE
from pybench.harness.audit.guest.beacon import PENDING
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

if TYPE_CHECKING:
    from pybench.harness.audit.observation import Ground, Observation
    from pybench.harness.audit.subjects.base import Subject

_NO_VOLUME: Final = "it has no volume, so no file of the host's is inside"
_MOST_USERS: Final = 64


def _host_ids(pid: int) -> tuple[int, ...]:
    """Real, effective, saved and file system user of a process, as the host counts."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("Uid:"):
            return tuple(int(word) for word in line.split()[1:])
    return ()


def _root_is(observation: Observation) -> Verdict:
    if observation.subject.own_kernel:
        return isolated("its root is one of another kernel")
    if observation.number("uid") != 0:
        return not_applicable("it does not run as root inside")
    ids = _host_ids(observation.subject.pid or 0)
    if 0 in ids:
        return leak("its root is the host's root", f"Uid: {' '.join(map(str, ids))}")
    return isolated(f"its root is user {ids[0]} of the host, who owns nothing there")


def _ranges(subject: Subject) -> list[tuple[int, int]]:
    """First and last of each range of the host's user ids that an instance has."""
    lines = Path(f"/proc/{subject.pid}/uid_map").read_text(encoding="ascii").splitlines()
    fields = [tuple(map(int, line.split())) for line in lines]
    return [(first, first + size - 1) for _, first, size in fields]


def _disjoint(observation: Observation) -> Verdict:
    sibling = observation.sibling
    assert sibling is not None, "the session checks it"  # noqa: S101
    if observation.subject.own_kernel:
        return isolated("each has the users of a kernel of its own")
    own, other = _ranges(observation.subject), _ranges(sibling)
    for first, last in own:
        for their_first, their_last in other:
            if first <= their_last and their_first <= last:
                low, high = max(first, their_first), min(last, their_last)
                return leak("it has user ids in common with its sibling", f"the host's ids {low} to {high}")
    return isolated(f"its ids begin at {own[0][0]}, those of its sibling at {other[0][0]}")


def _volume_path(ground: Ground, volume: str, name: str) -> str:
    directory = ground.subject.volumes.get(volume)
    return f"{directory}/{name}" if directory else ""


def _secret_path(ground: Ground) -> Parameters:
    return {"path": _volume_path(ground, READ_ONLY, SecretFileCanary.file)}


def _secret(observation: Observation) -> Verdict:
    if not observation.flag("given"):
        return not_applicable(_NO_VOLUME)
    if places := observation.places(*observation.canary(SecretFileCanary).tokens):
        return leak("it reads a file that only the host's root may read", *evidence(places))
    return isolated(f"a file of the host's root is refused with {observation.text('fault')}")


def _made_file(subject: Subject) -> str:
    return f"made-by-{subject.kind}-{subject.pid}"


def _made_path(ground: Ground) -> Parameters:
    return {"path": _volume_path(ground, WRITABLE, _made_file(ground.subject))}


def _owner(observation: Observation) -> Verdict:
    if not observation.flag("given"):
        return not_applicable(_NO_VOLUME)
    if fault := observation.text("fault"):
        return isolated(f"it cannot make a file in the volume: {fault}")
    place = observation.place.volumes / WRITABLE / _made_file(observation.subject)
    owner = place.lstat().st_uid
    place.unlink()
    if owner == 0:
        return leak("a file that it makes belongs to the host's root", f"owner {owner}")
    return isolated(f"a file that it makes belongs to user {owner} of the host")


def _host_users(ground: Ground) -> Parameters:
    """Names of the host that the image does not have."""
    image = {line.partition(":")[0] for line in _image_users(ground)}
    users = [entry for entry in pwd.getpwall() if entry.pw_name not in image]
    return {"users": [f"{entry.pw_name}:{entry.pw_uid}" for entry in users[:_MOST_USERS]]}


def _image_users(ground: Ground) -> list[str]:
    try:
        return (ground.rootfs / "etc/passwd").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _users(observation: Observation) -> Verdict:
    if not observation.number("asked"):
        return not_applicable("the host has no user that the image does not have as well")
    known = observation.texts("known")
    if known:
        return leak("user names of the host are known inside", ", ".join(known))
    return isolated("no user name of the host is known inside")


def _setuid_paths(ground: Ground) -> Parameters:
    program = ground.canary(SetuidFileCanary).program.hex()
    return {"path": _volume_path(ground, READ_ONLY, SetuidFileCanary.file), "program": program}


def _setuid(observation: Observation) -> Verdict:
    raised = []
    if not observation.text("planted_fault") and observation.number("planted") == 0:
        raised.append("a setuid file of the host's root gave the effective user 0")
    if not observation.text("own_fault") and observation.number("own") == 0:
        raised.append("a setuid file that it made in its own /tmp gave the effective user 0")
    reason = "no setuid file changes the effective user"
    return observation.reached(raised, "the setuid bit works", reason)


def _quota(observation: Observation) -> Verdict:
    queued = observation.number("queued")
    if observation.subject.own_kernel:
        return isolated("each is counted by a kernel of its own")
    # Its own first process has queued as many: from the sibling come those beyond.
    if queued >= 2 * PENDING:
        return leak(
            "what a sibling's user uses is counted against its own",
            f"{queued} signals are queued for the user, {PENDING} of them by the sibling",
        )
    if queued < 0:
        return not_applicable("the kernel does not tell how many signals are queued")
    return isolated(f"{queued} queued signals are counted, none of them by the sibling")


USER_NAMESPACES = "https://man7.org/linux/man-pages/man7/user_namespaces.7.html"
_OWN_USERS = "Give it a user namespace with a range of ids that no other container has."
_VOLUME_NOTE = (
    "The audited volumes are shared without mapped ids. One that is mapped, as with "
    "`pybench shell --volume`, gives the files of the host's root to the container's root: that is what "
    "mapping is for."
)

PROBES: tuple[Probe, ...] = (
    Probe(
        id="U1",
        title="Its root is the host's root",
        category="uid",
        severity="high",
        rationale="Whatever gets out of a sandbox whose root is the host's root has the host.",
        handling=(
            "Docker and runc map no users unless told to (`userns-remap`); rootless engines map "
            "their root to the user. Our container has 65536 ids of its own. The users of a "
            "virtual machine are its kernel's."
        ),
        remediation=_OWN_USERS,
        references=(USER_NAMESPACES,),
        expected=Expected.of("LILI"),
        judge=_root_is,
    ),
    Probe(
        id="U2",
        title="Siblings have user ids in common",
        category="uid",
        severity="high",
        rationale=(
            "One tenant that gets out of its mount namespace can read the files of another, "
            "signal its processes, and use up what the kernel counts by user."
        ),
        handling=(
            "`userns-remap` and rootless engines give all containers the same range; "
            "`--userns=auto` and LXC can keep them apart. Ours reserves a range for each prepared"
            " sandbox."
        ),
        remediation=_OWN_USERS,
        references=(USER_NAMESPACES, "https://docs.podman.io/en/latest/markdown/podman-run.1.html"),
        expected=Expected.of("LILI"),
        guest=False,
        sibling=True,
        judge=_disjoint,
    ),
    Probe(
        id="U3",
        title="A secret of the host's root in a volume can be read",
        category="uid",
        severity="high",
        rationale="Directories are shared with containers as they are, with files in them nobody thought of.",
        handling=f"Ids decide: a container whose root is the host's root reads everything. {_VOLUME_NOTE}",
        remediation=f"{_OWN_USERS} Share directories that hold nothing else.",
        references=(USER_NAMESPACES, "https://man7.org/linux/man-pages/man2/mount_setattr.2.html"),
        expected=Expected.of("LILN", chroot="N"),
        canaries=("secret-file",),
        parameters=_secret_path,
        judge=_secret,
    ),
    Probe(
        id="U4",
        title="A file that it makes in a volume belongs to the host's root",
        category="uid",
        severity="medium",
        rationale=(
            "Together with the setuid bit, a user of the host who may start the file becomes "
            "root; and nobody else can remove it."
        ),
        handling=f"As above. {_VOLUME_NOTE}",
        remediation=_OWN_USERS,
        references=(USER_NAMESPACES,),
        expected=Expected.of("LILN", chroot="N"),
        parameters=_made_path,
        judge=_owner,
    ),
    Probe(
        id="U5",
        title="The host's user names are known",
        category="uid",
        severity="low",
        rationale="Names of accounts tell which services and people a host has.",
        handling=(
            "A root filesystem of its own has an /etc/passwd of its own. nss sockets must not be mounted."
        ),
        remediation="Do not mount the host's /etc, nor the sockets of nscd or sssd.",
        references=("https://man7.org/linux/man-pages/man5/nss.5.html",),
        expected=Expected.of("LIII", chroot="I"),
        parameters=_host_users,
        judge=_users,
    ),
    Probe(
        id="U6",
        title="Setuid files raise the effective user",
        category="uid",
        severity="high",
        rationale=(
            "A service that runs as an ordinary user becomes root through any setuid file within its reach."
        ),
        handling=(
            "`no_new_privs` and `nosuid` switch the bit off; Docker sets neither by default. In a"
            " virtual machine the bit works, for the guest's own users."
        ),
        remediation="Set no_new_privs, and mount everything nosuid.",
        references=("https://docs.kernel.org/userspace-api/no_new_privs.html",),
        expected=Expected.of(
            "LIII",
            chroot="I",
            note="all that our containers mount is nosuid, in every profile; so is a guest's /tmp",
        ),
        canaries=("setuid-file",),
        parameters=_setuid_paths,
        judge=_setuid,
    ),
    Probe(
        id="U7",
        title="Quotas that the kernel keeps by user are shared with a sibling",
        category="uid",
        severity="medium",
        rationale=(
            "Processes, queued signals, locked memory, inotify watches and keys are limited by "
            "user: one tenant can use up what another needs."
        ),
        handling=(
            "Since Linux 5.14 such counts are kept for each user of each user namespace. "
            "Containers in the host's user namespace, or with one range for all, share them."
        ),
        remediation=_OWN_USERS,
        references=(USER_NAMESPACES, "https://man7.org/linux/man-pages/man2/getrlimit.2.html"),
        expected=Expected.of("LILI"),
        sibling=True,
        judge=_quota,
    ),
)
