"""What the kernel lets this process do, found out by doing it; nothing is concluded from a version."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from pybench.runtime.container import landlock, notify, system_calls
from pybench.runtime.container.identity import reserve
from pybench.runtime.container.instance import Readiness, launch
from pybench.runtime.container.sandbox import stdio_steps
from pybench.runtime.container.spawn.spawner import Program, Spawner
from pybench.runtime.container.spawn.steps import WaitForMaps
from pybench.runtime.container.user_namespace import user_namespace
from pybench.runtime.errors import PybenchError
from pybench.runtime.journal import Journal

NAMESPACE_FLAGS = {
    "user": system_calls.CLONE_NEWUSER,
    "pid": system_calls.CLONE_NEWPID,
    "mount": system_calls.CLONE_NEWNS,
    "network": system_calls.CLONE_NEWNET,
    "uts": system_calls.CLONE_NEWUTS,
    "ipc": system_calls.CLONE_NEWIPC,
    "cgroup": system_calls.CLONE_NEWCGROUP,
    "time": system_calls.CLONE_NEWTIME,
}
PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Trial:
    """What was tried and what came of it; `problem` is empty when it worked."""

    subject: str
    finding: str
    problem: str = ""


def try_namespaces(journal: Journal) -> Trial:
    """Start a program in all eight namespaces; if that fails, find out which one is refused."""
    with Spawner(journal) as spawner:
        refused = {}
        if _refusal(spawner, sum(NAMESPACE_FLAGS.values())):
            user = NAMESPACE_FLAGS["user"]
            for name, flag in NAMESPACE_FLAGS.items():
                if problem := _refusal(spawner, flag | user):
                    refused[name] = problem
    works = [name for name in NAMESPACE_FLAGS if name not in refused]
    problem = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
    return Trial("namespaces", ", ".join(works) or "none", problem)


def _refusal(spawner: Spawner, flags: int) -> str:
    with reserve() as identity:
        program = Program.compile((WaitForMaps(), *stdio_steps(marking=False)), ("/bin/true",), {}, flags)
        readiness = Readiness(marking=False, line=None)
        try:
            instance = spawner.call(lambda: launch(spawner, program, readiness, PATIENCE, identity=identity))
        except PybenchError as error:
            return error.message
        try:
            instance.kill()
        finally:
            instance.release()
    return ""


def try_mapped_mounts(journal: Journal, directory: Path) -> Trial:
    """Mount a directory with mapped ids, as the container does with its image."""
    subject = "id-mapped mounts"
    with Spawner(journal) as spawner, reserve() as identity:
        stage = spawner.stage
        if stage is None:
            return Trial(subject, "not for an ordinary user", "this takes CAP_SYS_ADMIN")

        def attempt() -> bool:
            with user_namespace(spawner, identity) as namespace:
                place, mapped = stage.add_image(directory, namespace)
                stage.remove_place(place)
            return mapped

        try:
            mapped = spawner.call(attempt)
        except PybenchError as error:
            return Trial(subject, "refused", error.message)
    problem = "" if mapped else f"the file system of {directory} does not support them"
    return Trial(subject, "work" if mapped else "refused", problem)


def try_filesystem(kind: str) -> Trial:
    """Ask the kernel for a file system type; a missing module is loaded by that."""
    try:
        os.close(system_calls.fsopen(kind))
    except OSError as error:
        if error.errno == errno.EPERM:
            return Trial(kind, "unknown", "asking takes CAP_SYS_ADMIN")
        return Trial(kind, "missing", error.strerror or str(error))
    return Trial(kind, "available")


def try_landlock() -> Trial:
    """Ask for Landlock's interface version, and try its scopes."""
    try:
        version = landlock.interface_version()
    except OSError as error:
        return Trial("landlock", "missing", os.strerror(error.errno or 0))
    scopes = landlock.available_scopes()
    problem = "" if scopes else "no scopes: containers are held by their namespaces alone"
    return Trial("landlock", f"interface version {version}; scopes: {', '.join(scopes) or 'none'}", problem)


def try_supervision() -> Trial:
    """Make a listener for system calls, as every container does whose sysinfo(2) tells its own limits."""
    problem = notify.unavailable()
    return Trial("system calls answered", "no" if problem else "sysinfo", problem)


def try_seccomp() -> Trial:
    """Which filter actions the kernel knows."""
    try:
        actions = Path("/proc/sys/kernel/seccomp/actions_avail").read_text(encoding="ascii").split()
    except OSError as error:
        return Trial("seccomp", "missing", error.strerror or str(error))
    return Trial("seccomp", ", ".join(actions))
