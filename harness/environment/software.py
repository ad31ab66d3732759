"""The software's part of the fingerprint: versions and hashes of everything that takes part."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
from importlib import metadata, resources
from pathlib import Path
from typing import Final

from pybench.harness.environment.reading import file_hash, text

_QEMU: Final = "qemu-system-x86_64"
_VERSION_TIMEOUT: Final = 10.0
_PACKAGES: Final = ("harness", "runtime", "reports", "scenarios", "vm_images")


def software_fields(*, with_vm: bool) -> dict[str, str | None]:
    """Every field of the group `software`; those of libvirt and QEMU only where a virtual machine runs."""
    fields: dict[str, str | None] = {
        "software.pybench": _distribution_version("pybench-harness"),
        "software.pybench.hash": code_hash(),
        "software.commit": commit(Path(str(resources.files("pybench.harness"))).resolve().parent),
        "software.python": platform.python_version(),
    }
    if with_vm:
        program = shutil.which(_QEMU)
        fields["software.libvirt"] = _libvirt_version()
        fields["software.libvirt.hash"] = _libvirt_hash()
        fields["software.qemu"] = _qemu_version(program)
        fields["software.qemu.hash"] = file_hash(program) if program else None
    return fields


def code_hash() -> str:
    """SHA-256 over pybench's own code as it is installed: what a commit does not tell of a changed tree."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        folder = Path(str(resources.files(f"pybench.{package}")))
        for file in sorted([*folder.rglob("*.py"), *folder.rglob("*.so"), *folder.rglob("*.c")]):
            digest.update(f"{package}/{file.relative_to(folder)}\0{file_hash(file)}\n".encode())
    return digest.hexdigest()


def commit(folder: Path) -> str | None:
    """The commit checked out in the repository at `folder`, or None where there is none."""
    repository = folder / ".git"
    if repository.is_file():
        # A linked work tree: "gitdir: <path>" (gitrepository-layout(5)).
        repository = folder / (text(str(repository)) or "").removeprefix("gitdir:").strip()
    head = text(str(repository / "HEAD"))
    if head is None or not head.startswith("ref: "):
        return head
    reference = head.removeprefix("ref: ")
    shared = text(str(repository / "commondir"))
    for place in (repository, *([repository / shared] if shared else [])):
        if found := text(str(place / reference)):
            return found
        for line in (text(str(place / "packed-refs")) or "").splitlines():
            if line.endswith(f" {reference}"):
                return line.split(" ", 1)[0]
    return None


def _distribution_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _libvirt_version() -> str | None:
    try:
        # Loads a C library that only a virtual machine needs.
        from pybench.runtime.vm.event_loop import library_version  # noqa: PLC0415
    except ImportError:
        return None
    return library_version()


def _libvirt_hash() -> str | None:
    """SHA-256 of the C library that is loaded by now; its file is found where the kernel maps it."""
    for line in (text("/proc/self/maps") or "").splitlines():
        path = line.partition("/")[2]
        if re.search(r"/libvirt\.so\.[\d.]+$", path):
            return file_hash(f"/{path}")
    return None


def _qemu_version(program: str | None) -> str | None:
    if program is None:
        return None
    try:
        output = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"version (\S+(?: \([^)]{1,80}\))?)", output)
    return match[1] if match else None
