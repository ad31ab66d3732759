"""Where libvirt's embedded driver lives: its directory, its configuration, what it needs of the host."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import platformdirs

from pybench.runtime.errors import HostError
from pybench.runtime.journal import state_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    import libvirt

    from pybench.runtime.journal import Journal

PACKAGES: Final = "libvirt-daemon-driver-qemu qemu-system-x86"
INSTALL_HINT: Final = f"sudo apt-get install --no-install-recommends {PACKAGES}"
_ACCOUNT_HINT: Final = "sudo useradd --system --user-group --shell /usr/sbin/nologin libvirt-qemu"

# The driver makes them when it is opened first, and not again when the same process reopens it.
_DRIVER_DIRECTORIES: Final = (
    "etc",
    "lib/qemu/channel/target",
    "lib/qemu/ram",
    "lib/qemu/save",
    "log/qemu",
    "run/qemu/autostarted",
    "run/qemu/dbus",
)

_directory_name = f"vm-{os.urandom(4).hex()}"
"""One per process: the embedded driver cannot change its root ("already open with path …")."""

_opened: dict[str, libvirt.virConnect] = {}


def opened(root: Path) -> libvirt.virConnect:
    """The driver's connection, which stays open as long as this process lives.

    With each opening libvirt enters the driver into its table of drivers, which has room for sixteen more,
    and never takes it out (virConnectOpenInternal and virRegisterConnectDriver in its src/libvirt.c).

    Raises:
        libvirt.libvirtError: it cannot be opened, or has been with another root.
    """
    import libvirt  # noqa: PLC0415 - a host may lack the library, and is told so by whoever needs it

    address = f"qemu:///embed?root={root}"
    if address not in _opened:
        _opened[address] = libvirt.open(address)
    return _opened[address]


def is_loaded() -> bool:
    """Whether the driver is in this process: it then takes every URI of a local daemon for its own."""
    return bool(_opened)


@contextmanager
def private_directory(journal: Journal) -> Iterator[Path]:
    """A directory for one connection at a time, with a short path; removed on leaving.

    A daemon's QEMU runs as another user and must get through it to the sockets inside, hence 0711.

    Raises:
        HostError: it cannot be made.
    """
    directory = state_directory() / _directory_name
    if directory.exists():
        directory = state_directory() / f"vm-{os.urandom(4).hex()}"
    number = journal.record("directory", path=str(directory))
    try:
        directory.mkdir(mode=0o711)
    except OSError as error:
        raise HostError(f"cannot make {directory}: {error.strerror}") from error
    try:
        yield directory
    finally:
        shutil.rmtree(directory)
        journal.forget(number)


def configure(root: Path) -> None:
    """Write the driver's configuration below `root`.

    What QEMU can do takes libvirt seconds to find out, and it checks by itself whether what it
    remembers still holds; so its memory is kept in the user's cache from one run to the next.

    Raises:
        HostError: it cannot be written.
    """
    memory = Path(platformdirs.user_cache_dir("pybench"), "libvirt")
    try:
        memory.mkdir(parents=True, exist_ok=True)
        for directory in _DRIVER_DIRECTORIES:
            (root / directory).mkdir(parents=True, mode=0o700)
        (root / "cache").symlink_to(memory)
        (root / "etc" / "qemu.conf").write_text(_configuration(), encoding="utf-8")
    except OSError as error:
        raise HostError(f"cannot configure libvirt below {root}: {error.strerror}") from error


def _configuration() -> str:
    settings = {
        # Without the daemon virtlogd QEMU's own output can only go to a file.
        "stdio_handler": '"file"',
        # No AppArmor or SELinux profile exists for QEMU run from this directory.
        "security_driver": '"none"',
        "security_default_confined": "0",
        # QEMU stays in the caller's control groups and mount namespace: nothing to leave behind.
        "cgroup_controllers": "[ ]",
        "namespaces": "[ ]",
        # The caller owns every file involved, so nothing is given away and nothing to be restored.
        # By number, since a user of a container's may have no name.
        "user": f'"+{os.geteuid()}"',
        "group": f'"+{os.getegid()}"',
        "dynamic_ownership": "0",
        "remember_owner": "0",
    }
    return "".join(f"{name} = {value}\n" for name, value in settings.items())


def hint(error: str) -> str:
    """What to do when the embedded driver refuses to open.

    Run as root it looks up the account of QEMU's default user before it reads its configuration,
    although that names another one; the account comes with Debian's libvirt-daemon-system only.
    """
    return _ACCOUNT_HINT if "Failed to parse" in error else INSTALL_HINT
