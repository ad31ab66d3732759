"""Rules about `linux`: namespaces, devices, paths and sysctls."""

from __future__ import annotations

from typing import Final

from pybench.runtime.container.specification.decode import show
from pybench.runtime.container.specification.linux import Device, Linux, Namespace
from pybench.runtime.container.specification.mounts import parse_propagation
from pybench.runtime.container.specification.namespaces import check_sysctl
from pybench.runtime.container.specification.resource_rules import check_resources
from pybench.runtime.container.specification.seccomp_rules import check_profile
from pybench.runtime.container.specification.value_rules import check_absolute, check_mappings
from pybench.runtime.errors import InputError

CLOCKS: Final = frozenset({"monotonic", "boottime"})


def check_linux(linux: Linux) -> tuple[str, ...]:
    """Check the whole object.

    Returns:
        Warnings.

    Raises:
        InputError: starts with the path.
    """
    _check_namespaces(linux.namespaces)
    _check_user_namespace(linux)
    _check_time(linux)
    for number, device in enumerate(linux.devices):
        _check_device(device, f"linux.devices[{number}]")
    if ".." in linux.cgroups_path.split("/"):
        raise InputError(f"linux.cgroupsPath: {show(linux.cgroups_path)} leads upwards")
    check_resources(linux.resources)
    if linux.rootfs_propagation and parse_propagation(linux.rootfs_propagation) is None:
        raise InputError(f"linux.rootfsPropagation: {show(linux.rootfs_propagation)} is not a propagation")
    for name in linux.sysctl:
        check_sysctl(name, linux.namespaces, f"linux.sysctl[{show(name)}]")
    for key, paths in (("maskedPaths", linux.masked_paths), ("readonlyPaths", linux.readonly_paths)):
        for number, path in enumerate(paths):
            check_absolute(path, f"linux.{key}[{number}]")
    if linux.personality and linux.personality.flags:
        raise InputError(f"linux.personality.flags[0]: {show(linux.personality.flags[0])} is not defined")
    return check_profile(linux.seccomp) if linux.seccomp else ()


def _check_namespaces(namespaces: tuple[Namespace, ...]) -> None:
    seen: set[str] = set()
    for number, namespace in enumerate(namespaces):
        if namespace.type in seen:
            raise InputError(f"linux.namespaces[{number}].type: {namespace.type!r} is given twice")
        if namespace.path:
            check_absolute(namespace.path, f"linux.namespaces[{number}].path")
        seen.add(namespace.type)


def _check_time(linux: Linux) -> None:
    if linux.time_offsets and all(namespace.type != "time" for namespace in linux.namespaces):
        raise InputError("linux.timeOffsets: needs the namespace 'time'")
    for clock in linux.time_offsets:
        if clock not in CLOCKS:
            raise InputError(f"linux.timeOffsets: {show(clock)} is not one of {', '.join(sorted(CLOCKS))}")


def _check_user_namespace(linux: Linux) -> None:
    user = next((namespace for namespace in linux.namespaces if namespace.type == "user"), None)
    for key, mappings in (("uidMappings", linux.uid_mappings), ("gidMappings", linux.gid_mappings)):
        check_mappings(mappings, f"linux.{key}")
        if mappings and user is None:
            raise InputError(f"linux.{key}: needs the namespace 'user'")
        if user and not user.path and not mappings:
            raise InputError(f"linux.{key}: a new namespace 'user' needs it")


def _check_device(device: Device, path: str) -> None:
    check_absolute(device.path, f"{path}.path")
    if device.type != "p":
        for name, value in (("major", device.major), ("minor", device.minor)):
            if value < 0:
                raise InputError(f"{path}.{name}: {value} is not the number of a device")
