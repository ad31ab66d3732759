"""What a document must satisfy beyond the types of its fields, each rule named by the path it is about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from pybench.runtime.container.specification.capability_names import capability_sets
from pybench.runtime.container.specification.decode import show
from pybench.runtime.container.specification.linux_rules import check_linux
from pybench.runtime.container.specification.model import (
    Hooks,
    Mount,
    Process,
    ResourceLimit,
    Scheduler,
    Specification,
)
from pybench.runtime.container.specification.mounts import parse_options
from pybench.runtime.container.specification.namespaces import sysctl_path
from pybench.runtime.container.specification.rlimit_names import RLIMITS
from pybench.runtime.container.specification.value_rules import (
    HIGHEST_ID,
    check_absolute,
    check_cpus,
    check_environment,
    check_mappings,
)
from pybench.runtime.errors import InputError

_VERSION: Final = re.compile(r"1\.\d+\.\d+([-+].*)?", re.ASCII)


def check_rules(specification: Specification) -> tuple[str, ...]:
    """Check a whole document.

    Returns:
        Warnings, each starting with the path it is about.

    Raises:
        InputError: a rule is broken; starts with the path.
    """
    if not _VERSION.fullmatch(specification.oci_version):
        raise InputError(
            f"ociVersion: {show(specification.oci_version)} is not version 1 of the specification"
        )
    if specification.root is None:
        raise InputError("root: is required and not given")
    if not specification.root.path:
        raise InputError("root.path: is empty")
    _check_names(specification)
    for number, mount in enumerate(specification.mounts):
        _check_mount(mount, f"mounts[{number}]")
    _check_hooks(specification.hooks)
    warnings = check_linux(specification.linux)
    if specification.process:
        warnings += check_process(specification.process)
    return warnings


def _check_names(specification: Specification) -> None:
    kinds = {namespace.type for namespace in specification.linux.namespaces}
    for field, name in (("hostname", specification.hostname), ("domainname", specification.domainname)):
        if name and "uts" not in kinds:
            raise InputError(f"{field}: needs the namespace 'uts', or it would change the host's")
        for sysctl in specification.linux.sysctl:
            if name and sysctl_path(sysctl) == f"kernel/{field}":
                raise InputError(f"linux.sysctl[{show(sysctl)}]: {field} says it already")


def check_process(process: Process) -> tuple[str, ...]:
    """Check a process, that of the document or one that joins the container.

    Returns:
        Warnings.

    Raises:
        InputError: a rule is broken; starts with the path.
    """
    check_absolute(process.cwd, "process.cwd")
    if not process.args or not process.args[0]:
        raise InputError("process.args: the program to run is missing")
    check_environment(process.env, "process.env")
    _check_ids(process)
    _check_limits(process.rlimits)
    if process.scheduler:
        _check_scheduler(process.scheduler)
    if process.exec_cpu_affinity:
        check_cpus(process.exec_cpu_affinity.initial, "process.execCPUAffinity.initial")
        check_cpus(process.exec_cpu_affinity.final, "process.execCPUAffinity.final")
    return capability_sets(process.capabilities)[1] if process.capabilities else ()


def _check_limits(limits: Sequence[ResourceLimit]) -> None:
    limited: set[str] = set()
    for number, limit in enumerate(limits):
        path = f"process.rlimits[{number}]"
        if limit.type not in RLIMITS:
            raise InputError(f"{path}.type: {show(limit.type)} is not a limit", "getrlimit(2) lists them")
        if limit.type in limited:
            raise InputError(f"{path}.type: {limit.type} is given twice")
        if limit.soft > limit.hard:
            raise InputError(f"{path}.soft: {limit.soft} is above the hard limit {limit.hard}")
        limited.add(limit.type)


def _check_ids(process: Process) -> None:
    user = process.user
    ids = [("uid", user.uid), ("gid", user.gid)]
    ids += [(f"additionalGids[{number}]", gid) for number, gid in enumerate(user.additional_gids)]
    for name, value in ids:
        if value > HIGHEST_ID:
            raise InputError(f"process.user.{name}: {value} is above the highest id, {HIGHEST_ID}")


def _check_scheduler(scheduler: Scheduler) -> None:
    path = "process.scheduler"
    if scheduler.policy == "SCHED_ISO":
        raise InputError(f"{path}.policy: SCHED_ISO was never part of Linux")
    real_time = scheduler.policy in {"SCHED_FIFO", "SCHED_RR"}
    if real_time != bool(scheduler.priority):
        wanted = "from 1 to 99" if real_time else "0"
        raise InputError(f"{path}.priority: must be {wanted} for {scheduler.policy}")
    if scheduler.nice and scheduler.policy not in {"SCHED_OTHER", "SCHED_BATCH"}:
        raise InputError(f"{path}.nice: has no meaning for {scheduler.policy}")
    times = (scheduler.runtime, scheduler.deadline, scheduler.period)
    if scheduler.policy == "SCHED_DEADLINE":
        # A period of 0 stands for the deadline (sched(7)).
        if not 0 < scheduler.runtime <= scheduler.deadline <= (scheduler.period or scheduler.deadline):
            raise InputError(f"{path}.runtime: runtime <= deadline <= period must hold, and runtime > 0")
    elif any(times):
        raise InputError(f"{path}.runtime: runtime, deadline and period are for SCHED_DEADLINE")
    for number, flag in enumerate(scheduler.flags):
        if flag.startswith("SCHED_FLAG_UTIL_CLAMP"):
            raise InputError(f"{path}.flags[{number}]: {flag} needs a value, which no field gives")


def _check_mount(mount: Mount, path: str) -> None:
    check_absolute(mount.destination, f"{path}.destination")
    options = parse_options(mount.type, mount.options, f"{path}.options")
    if options.bind != "no":
        if not mount.source:
            raise InputError(f"{path}.source: a bind mount needs one")
    elif not mount.type:
        raise InputError(f"{path}.type: is required, except for a bind mount")
    if bool(mount.uid_mappings) != bool(mount.gid_mappings):
        absent = "gidMappings" if mount.uid_mappings else "uidMappings"
        raise InputError(f"{path}.{absent}: must be given together with the other")
    check_mappings(mount.uid_mappings, f"{path}.uidMappings")
    check_mappings(mount.gid_mappings, f"{path}.gidMappings")


def _check_hooks(hooks: Hooks) -> None:
    for point, entries in (
        ("prestart", hooks.prestart),
        ("createRuntime", hooks.create_runtime),
        ("createContainer", hooks.create_container),
        ("startContainer", hooks.start_container),
        ("poststart", hooks.poststart),
        ("poststop", hooks.poststop),
    ):
        for number, hook in enumerate(entries):
            path = f"hooks.{point}[{number}]"
            check_absolute(hook.path, f"{path}.path")
            check_environment(hook.env, f"{path}.env")
