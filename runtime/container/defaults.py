"""The specification of the harness's own containers: what they have where a scenario says nothing."""

from __future__ import annotations

import os
import resource
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, get_args

from pybench.runtime.container.profiles import Profile
from pybench.runtime.container.specification.capability_names import to_names
from pybench.runtime.container.specification.linux import (
    IdMapping,
    Linux,
    Namespace,
    NamespaceType,
    TimeOffset,
)
from pybench.runtime.container.specification.model import (
    Capabilities,
    Mount,
    Process,
    ResourceLimit,
    Root,
    Specification,
    User,
)
from pybench.runtime.container.specification.namespaces import FLAGS

VERSION: Final = "1.2.0"
"""Of the runtime specification."""
TMPFS_SIZE: Final = "64m"
"""Upper bound of each in-memory file system; what is used counts against the memory limit."""
TMPFS_BYTES: Final = 64 << 20
INOTIFY_INSTANCES: Final = 64
"""Those of a user namespace count for its owner too, who may have 128: a container must not use them all up
(namespaces(7), /proc/sys/user)."""
SOFT_FILES: Final = 1024
"""What programs that use select(2) can bear, and so what they find unless they ask for more."""
MOST_FILES: Final = 65536
"""Open files of one process."""
_TMPFS: Final[Mapping[str, tuple[str, ...]]] = {
    "/dev/shm": ("nosuid", "nodev", "noexec", "mode=1777", f"size={TMPFS_SIZE}"),  # noqa: S108 - inside
    "/tmp": ("nosuid", "nodev", "mode=1777", f"size={TMPFS_SIZE}"),  # noqa: S108 - inside
    "/run": ("nosuid", "nodev", "mode=755", f"size={TMPFS_SIZE}"),
}
OWN_POINTS: Final = ("/proc", *(point for point in _TMPFS if not point.startswith("/dev/")))
"""Where an image needs directories for a container's own file systems; /dev has those that are in it."""
_DEVPTS: Final = ("nosuid", "noexec", "newinstance", "mode=620", "ptmxmode=666")
_OWN_DEV: Final = ("nosuid", "noexec", "mode=755", "size=64k")


def host_files(host_name: str) -> dict[str, bytes]:
    """Files about the container itself, read-only inside even for its root."""
    hosts = f"127.0.0.1 localhost {host_name}\n::1 localhost\n"
    # No resolver: nothing outside can be reached.
    return {
        "/etc/hosts": hosts.encode(),
        "/etc/hostname": f"{host_name}\n".encode(),
        "/etc/resolv.conf": b"",
    }


def specification(
    profile: Profile,
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    host_name: str,
    user: User,
    working_directory: str,
    own_devices: bool,
    read_only_root: bool,
    mappings: tuple[Sequence[IdMapping], Sequence[IdMapping]],
) -> Specification:
    """A container of the harness, in OCI's vocabulary.

    Args:
        profile: how far it is confined.
        command: path and arguments.
        environment: all of it.
        host_name: its own.
        user: who the command runs as, inside.
        working_directory: where.
        own_devices: /dev is a file system of its own; else it is complete in the root already.
        read_only_root: whether the root still has to be made read-only.
        mappings: of user and group ids.
    """
    kinds = [kind for kind in get_args(NamespaceType) if not profile.namespaces_left_out & FLAGS[kind]]
    files = min(MOST_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    capabilities = Capabilities()
    if not profile.confined:
        bounding, permitted = (to_names(own_capabilities(field)) for field in ("CapBnd", "CapPrm"))
        capabilities = Capabilities(bounding=bounding, effective=permitted, permitted=permitted)
    return Specification(
        oci_version=VERSION,
        process=Process(
            user=user,
            args=tuple(command),
            env=tuple(f"{name}={value}" for name, value in environment.items()),
            cwd=working_directory,
            capabilities=capabilities,
            rlimits=(
                ResourceLimit(type="RLIMIT_CORE", hard=0, soft=0),
                ResourceLimit(type="RLIMIT_NOFILE", hard=files, soft=min(SOFT_FILES, files)),
            ),
            no_new_privileges=profile.confined,
        ),
        root=Root(path="/", readonly=read_only_root),
        hostname=host_name,
        mounts=tuple(_mounts(profile, own_devices=own_devices)),
        linux=Linux(
            namespaces=tuple(Namespace(type=kind) for kind in kinds),
            uid_mappings=tuple(mappings[0]),
            gid_mappings=tuple(mappings[1]),
            time_offsets=zero_clocks(),
            sysctl=_bounds_of_users() if mappings[0] else {},
            masked_paths=tuple(
                path for path in profile.masked_paths if _can_be_opened(path, own_users=bool(mappings[0]))
            ),
            readonly_paths=tuple(path for path in profile.read_only_paths if Path(path).exists()),
        ),
    )


def _bounds_of_users() -> dict[str, str]:
    """Settings of a new user namespace; none where the kernel has none, or /proc/sys cannot be written to."""
    file = Path("/proc/sys/user/max_inotify_instances")
    try:
        read_only = os.statvfs(file).f_flag & os.ST_RDONLY
    except OSError:
        return {}
    return {} if read_only else {"user.max_inotify_instances": str(INOTIFY_INSTANCES)}


def zero_clocks() -> dict[str, TimeOffset]:
    """Offsets that start the container's clocks at zero (time_namespaces(7)), so that its uptime is its own.

    Whole seconds, rounded towards the past: a clock may not become negative.
    """
    return {
        "monotonic": TimeOffset(secs=-int(time.clock_gettime(time.CLOCK_MONOTONIC))),
        "boottime": TimeOffset(secs=-int(time.clock_gettime(time.CLOCK_BOOTTIME))),
    }


def offsets_text(offsets: Mapping[str, TimeOffset]) -> str | None:
    """As /proc/<pid>/timens_offsets takes them; None where there are none."""
    return "".join(f"{clock} {offset.secs} {offset.nanosecs}\n" for clock, offset in offsets.items()) or None


def _mounts(profile: Profile, *, own_devices: bool) -> Sequence[Mount]:
    sealed = ("nosuid", "nodev", "noexec")
    mounts = [
        Mount(destination="/proc", type="proc", source="proc", options=(*sealed, *profile.proc_options))
    ]
    if own_devices:
        mounts.append(Mount(destination="/dev", type="tmpfs", source="tmpfs", options=_OWN_DEV))
    mounts.append(Mount(destination="/dev/pts", type="devpts", source="devpts", options=_DEVPTS))
    mounts += (
        Mount(destination=path, type="tmpfs", source="tmpfs", options=options)
        for path, options in _TMPFS.items()
    )
    return mounts


def _can_be_opened(path: str, *, own_users: bool) -> bool:
    """Whether a container could open a file of /proc. Both share the kernel, and a mask costs time.

    What the host's root alone may open is out of reach of a container whose users are others.
    """
    try:
        state = Path(path).stat()
    except OSError:
        return False
    for_root_alone = stat.S_ISREG(state.st_mode) and state.st_uid == 0 and not state.st_mode & 0o077
    return not (own_users and for_root_alone)


def own_capabilities(field: str) -> int:
    """A set of this process's capabilities (proc_pid_status(5))."""
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith(field))
