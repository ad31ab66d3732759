"""Three degrees of confinement: what a container may do, see and ask of the kernel.

`default` is for services; `strict` gives up the parts of /proc that describe the machine;
`privileged` keeps the namespaces and gives up everything else, for comparison and for tests of
what the other two prevent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from pybench.runtime.container.seccomp.policy import Policy
from pybench.runtime.container.seccomp.profiles import DEFAULT, STRICT, refusing, with_listener
from pybench.runtime.container.system_calls import CLONE_NEWUSER
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
    # The same in all containers of a host, and in no other.
    "/proc/sys/kernel/random/boot_id",
)
"""Unreadable inside; those the running kernel does not have are left out."""

READ_ONLY_PATHS: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""Visible but not writable inside, as in runc."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a container's confinement is made of."""

    name: ProfileName
    namespaces_left_out: int = 0
    """CLONE_NEW… flags that are not used."""
    proc_options: tuple[str, ...] = ()
    masked_paths: tuple[str, ...] = ()
    read_only_paths: tuple[str, ...] = ()
    confined: bool = True
    """No capability, no way to gain one, a keyring of its own, a filter on its system calls."""


PROFILES: Final[dict[ProfileName, Profile]] = {
    "default": Profile("default", 0, ("hidepid=invisible",), MASKED_PATHS, READ_ONLY_PATHS),
    # Without the files that are not a process's nothing is left to mask, /proc/sys among them.
    "strict": Profile("strict", 0, ("hidepid=invisible", "subset=pid")),
    # Without a user namespace the container's root is the host's.
    "privileged": Profile("privileged", CLONE_NEWUSER, confined=False),
}


def policy_of(profile: Profile, *, supervised: bool) -> Policy | None:
    """The filter on system calls; None where nothing is filtered.

    If `supervised`, the calls of `ANSWERED_CALLS` are handed over. Otherwise `default` leaves them to the
    kernel, whose answers are the host's, and `strict` refuses them.
    """
    if not profile.confined:
        return None
    policy = STRICT if profile.name == "strict" else DEFAULT
    if supervised:
        return with_listener(policy, ANSWERED_CALLS)
    if profile.name == "strict":
        return refusing(policy, ANSWERED_CALLS)
    return policy
