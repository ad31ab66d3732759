"""Three degrees of confinement: what a container may do, see and ask of the kernel.

`default` is for services; `strict` gives up the parts of /proc that describe the machine;
`privileged` keeps the namespaces and gives up everything else, for comparison and for tests of
what the other two prevent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pybench.runtime.container.landlock import scope_steps
from pybench.runtime.container.steps import (
    Attach,
    BoundingSet,
    Capabilities,
    CopyTree,
    Filter,
    MakeFilesystem,
    NewSessionKeyring,
    NoNewPrivileges,
    SetMountAttributes,
    Step,
)
from pybench.runtime.container.system_calls import (
    CLONE_NEWUSER,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
)
from pybench.runtime.container.system_information import ANSWERED_CALLS

ProfileName = Literal["default", "strict", "privileged"]

MASKED_PATHS: Final = (
    # What runc, Docker and Podman mask.
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    # What they leave open although it tells of the machine or of its other users.
    "/proc/bootconfig",
    "/proc/cmdline",
    "/proc/config.gz",
    "/proc/kallsyms",
    "/proc/key-users",
    "/proc/kmsg",
    "/proc/modules",
)
"""Unreadable inside; those the running kernel does not have are left out."""

READ_ONLY_PATHS: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""Visible but not writable inside, as in runc."""

_LINK: Final = "/"
"""The vocabulary names a socket that the listener is sent to; ours goes the way that every child has."""
_SEALED: Final = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC


@dataclass(frozen=True, slots=True)
class Profile:
    """What a container's confinement is made of."""

    name: ProfileName
    namespaces_left_out: int = 0
    """CLONE_NEW… flags that are not used."""
    proc_options: str = ""
    masked_paths: tuple[str, ...] = ()
    read_only_paths: tuple[str, ...] = ()
    confined: bool = True
    """No capability, no way to gain one, a keyring of its own, a filter on its system calls."""


PROFILES: Final[dict[ProfileName, Profile]] = {
    "default": Profile("default", 0, "hidepid=invisible", MASKED_PATHS, READ_ONLY_PATHS),
    # Without the files that are not a process's nothing is left to mask, /proc/sys among them.
    "strict": Profile("strict", 0, "hidepid=invisible,subset=pid"),
    # Without a user namespace the container's root is the host's.
    "privileged": Profile("privileged", CLONE_NEWUSER, confined=False),
}


def mask_steps(profile: Profile, slot: int) -> tuple[Step, ...]:
    """Hide and protect paths, once /proc and /dev are in place.

    A file is covered by the null device, a directory by an empty, read-only file system, which is
    made once and copied. `slot` is used for each in turn.
    """
    steps: list[Step] = []
    empty = ""
    for path in _existing(profile.masked_paths):
        if not Path(path).is_dir():
            steps.append(CopyTree(slot, "/dev/null"))
        elif empty:
            steps.append(CopyTree(slot, empty))
        else:
            empty = path
            steps.append(MakeFilesystem(slot, "tmpfs", "mode=555,size=4k", _SEALED | MOUNT_ATTR_RDONLY))
        steps.append(Attach(slot, path))
    for path in _existing(profile.read_only_paths):
        steps += (
            CopyTree(slot, path),
            Attach(slot, path),
            SetMountAttributes(path, _SEALED | MOUNT_ATTR_RDONLY),
        )
    return tuple(steps)


def _existing(paths: Sequence[str]) -> tuple[str, ...]:
    """Those that the running kernel has; host and container share it."""
    return tuple(path for path in paths if Path(path).exists())


def confinement_steps(profile: Profile) -> tuple[Step, ...]:
    """Give up privileges; the filter comes with `filter_steps`, after everything it would forbid."""
    if not profile.confined:
        return ()
    return (NewSessionKeyring(), BoundingSet(), Capabilities(), NoNewPrivileges(), *scope_steps())


def filter_steps(profile: Profile, *, supervised: bool) -> tuple[Step, ...]:
    """The filter on system calls, compiled once and cached; the last step before execve.

    If `supervised`, the calls of `ANSWERED_CALLS` are handed over. Otherwise `default` leaves them to the
    kernel, whose answers are the host's, and `strict` refuses them.

    Raises:
        HostError: libseccomp is missing or too old.
    """
    if not profile.confined:
        return ()
    # Imported here: what is cached needs no libseccomp, and `privileged` needs none of it.
    from pybench.runtime.container.seccomp.compile import compile_filter, filter_flags  # noqa: PLC0415
    from pybench.runtime.container.seccomp.profiles import (  # noqa: PLC0415
        DEFAULT,
        STRICT,
        refusing,
        with_listener,
    )

    rules = STRICT if profile.name == "strict" else DEFAULT
    if supervised:
        rules = with_listener(rules, ANSWERED_CALLS)
    elif profile.name == "strict":
        rules = refusing(rules, ANSWERED_CALLS)
    return (Filter(compile_filter(rules), filter_flags(rules)),)
