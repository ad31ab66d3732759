"""What the runtime can do, as the specification's `features` structure, and an example configuration.

https://github.com/opencontainers/runtime-spec/blob/v1.2.0/features.md
"""

from __future__ import annotations

import os
from typing import Any, Final

from pybench.runtime.container.defaults import VERSION
from pybench.runtime.container.profiles import MASKED_PATHS, READ_ONLY_PATHS
from pybench.runtime.container.specification.capability_names import to_names
from pybench.runtime.container.specification.mounts import known_options
from pybench.runtime.container.specification.namespaces import FLAGS

OLDEST_VERSION: Final = "1.0.0"
_HOOKS: Final = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
_OPERATORS: Final = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")
_ACTIONS: Final = (
    "ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "KILL_THREAD", "LOG", "TRACE", "TRAP",
)  # fmt: skip


def features() -> dict[str, Any]:
    """The structure that `pybench-oci features` prints."""
    return {
        "ociVersionMin": OLDEST_VERSION,
        "ociVersionMax": VERSION,
        "hooks": list(_HOOKS),
        "mountOptions": list(known_options()),
        "linux": {
            "namespaces": list(FLAGS),
            "capabilities": list(to_names(2**64 - 1)),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": False},
            "seccomp": {
                "enabled": True,
                "actions": [f"SCMP_ACT_{name}" for name in _ACTIONS],
                "operators": [f"SCMP_CMP_{name}" for name in _OPERATORS],
                "archs": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            },
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
        },
    }


def example() -> dict[str, Any]:
    """A `config.json` for a shell in `rootfs`, confined as the harness's own containers are."""
    capabilities: list[str] = []
    linux: dict[str, Any] = {
        "namespaces": [{"type": kind} for kind in FLAGS if kind != "user" or os.geteuid() != 0],
        "maskedPaths": list(MASKED_PATHS),
        "readonlyPaths": list(READ_ONLY_PATHS),
        "resources": {"devices": [{"allow": False, "access": "rwm"}], "pids": {"limit": 256}},
    }
    if os.geteuid() != 0:
        own = {"uidMappings": os.geteuid(), "gidMappings": os.getegid()}
        linux |= {key: [{"containerID": 0, "hostID": number, "size": 1}] for key, number in own.items()}
        del linux["resources"]
    tmpfs = {"type": "tmpfs", "source": "tmpfs"}
    sealed = ["nosuid", "noexec", "nodev"]
    return {
        "ociVersion": VERSION,
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "pybench",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": sealed},
            {"destination": "/dev", **tmpfs, "options": ["nosuid", "strictatime", "mode=755", "size=64k"]},
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
            {"destination": "/dev/shm", **tmpfs, "options": [*sealed, "mode=1777", "size=64m"]},  # noqa: S108
            {"destination": "/tmp", **tmpfs, "options": ["nosuid", "nodev", "mode=1777", "size=64m"]},  # noqa: S108
        ],
        "linux": linux,
    }
