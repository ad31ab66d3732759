"""The steps a child carries out between clone3 and execve, as values that can be shown and encoded.

A step is data: Python decides the list before any clock starts, the C extension carries it out
without running any Python, and a failure is reported by the index of the step, which is then
described by the same value (see docs/adr/0003).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, get_args

from pybench.runtime.container.spawn import _spawn

EncodedStep = tuple[int | bytes, ...]


class Step(Protocol):
    """One thing the child does to itself."""

    def encode(self) -> EncodedStep:
        """The form the C extension takes: code, numbers and texts."""
        ...

    def describe(self) -> str:
        """What it does, for an error message; names the system call."""
        ...


@dataclass(frozen=True, slots=True)
class _Bare:
    code: ClassVar[int]

    def encode(self) -> EncodedStep:
        return (self.code,)


class WaitForMaps(_Bare):
    """Wait until the parent has written the id maps; steps before this one overlap with that."""

    code = _spawn.WAIT_FOR_MAPS

    def describe(self) -> str:
        return "wait for the id maps"


class NewSession(_Bare):
    """Leave the harness's session and with it its terminal."""

    code = _spawn.SESSION

    def describe(self) -> str:
        return "setsid"


class LoopbackUp(_Bare):
    """Bring `lo` up in the new network namespace."""

    code = _spawn.LOOPBACK

    def describe(self) -> str:
        return "ioctl(SIOCSIFFLAGS) of lo"


class NewSessionKeyring(_Bare):
    """Join an empty session keyring: a user namespace alone does not take the host's away."""

    code = _spawn.KEYRING

    def describe(self) -> str:
        return "keyctl(KEYCTL_JOIN_SESSION_KEYRING)"


class NoNewPrivileges(_Bare):
    """No execve may gain privileges from here on."""

    code = _spawn.NO_NEW_PRIVILEGES

    def describe(self) -> str:
        return "prctl(PR_SET_NO_NEW_PRIVS)"


class HideExecutable(_Bare):
    """Let nobody open this process's `/proc/<pid>/exe` until it executes its program.

    Until then that is the interpreter, which a process that is in the container's pid namespace already
    could open, and write to once it is not running any more (CVE-2019-5736). It needs CAP_SYS_PTRACE over
    the host's user namespace from here on (ptrace(2), "Ptrace access mode checking"). It comes before the
    first step that gives this process anything in common with those of the container, but after
    WaitForMaps: without it an ordinary user's parent could not open the maps.
    """

    code = _spawn.HIDE_EXECUTABLE

    def describe(self) -> str:
        return "prctl(PR_SET_DUMPABLE)"


@dataclass(frozen=True, slots=True)
class Identity:
    """Become this user and group inside the new user namespace."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    keep_groups: bool = False
    """Where setgroups is denied (single-id maps) the inherited groups cannot be dropped."""

    def encode(self) -> EncodedStep:
        groups = b"".join(gid.to_bytes(4, "little") for gid in self.groups)
        return (_spawn.IDENTITY, self.uid, self.gid, int(self.keep_groups), groups)

    def describe(self) -> str:
        return f"setgroups, setresgid({self.gid}) and setresuid({self.uid})"


@dataclass(frozen=True, slots=True)
class DeathSignal:
    """End with the thread that spawned us. A change of identity clears it, so it comes after one."""

    signal: int

    def encode(self) -> EncodedStep:
        return (_spawn.DEATH_SIGNAL, self.signal)

    def describe(self) -> str:
        return "prctl(PR_SET_PDEATHSIG)"


@dataclass(frozen=True, slots=True)
class MakeFilesystem:
    """Make a detached mount of a new filesystem instance and keep it in a slot."""

    slot: int
    kind: str
    options: str = ""
    attributes: int = 0

    def encode(self) -> EncodedStep:
        return (_spawn.FILESYSTEM, self.slot, self.attributes, self.kind.encode(), self.options.encode())

    def describe(self) -> str:
        return f"fsopen and fsmount of {self.kind} ({self.options or 'no options'})"


@dataclass(frozen=True, slots=True)
class MountFilesystem:
    """Mount a new filesystem instance at a path of the root in which the child is already."""

    kind: str
    path: str
    options: str = ""
    flags: int = 0
    """MS_… of mount(2)."""

    def encode(self) -> EncodedStep:
        texts = (self.kind.encode(), self.options.encode(), os.fsencode(self.path))
        return (_spawn.MOUNT, self.flags, *texts)

    def describe(self) -> str:
        return f"mount of {self.kind} at {self.path} ({self.options or 'no options'})"


@dataclass(frozen=True, slots=True)
class CopyTree:
    """Keep a detached copy of the mount at a path in a slot."""

    slot: int
    path: str
    recursive: bool = False

    def encode(self) -> EncodedStep:
        return (_spawn.TREE, self.slot, int(self.recursive), os.fsencode(self.path))

    def describe(self) -> str:
        return f"open_tree of {self.path}"


MountPoint = Literal["", "directory", "file"]


@dataclass(frozen=True, slots=True)
class Attach:
    """Attach the detached mount in a slot at a path; if nothing is there, `make` it."""

    slot: int
    path: str
    make: MountPoint = ""

    def encode(self) -> EncodedStep:
        return (_spawn.ATTACH, self.slot, get_args(MountPoint).index(self.make), os.fsencode(self.path))

    def describe(self) -> str:
        return f"move_mount to {self.path}"


@dataclass(frozen=True, slots=True)
class SetAttributes:
    """Set and clear flags, and set the propagation, of the detached mount in a slot."""

    slot: int
    set: int = 0
    clear: int = 0
    propagation: int = 0
    recursive: bool = False

    def encode(self) -> EncodedStep:
        flags = (self.set, self.clear, self.propagation, int(self.recursive))
        return (_spawn.SLOT_ATTRIBUTES, self.slot, *flags)

    def describe(self) -> str:
        return "mount_setattr of a detached mount"


@dataclass(frozen=True, slots=True)
class SetMountAttributes:
    """Set flags of the mount at a path."""

    path: str
    attributes: int
    recursive: bool = False
    propagation: int = 0

    def encode(self) -> EncodedStep:
        path = os.fsencode(self.path)
        return (_spawn.ATTRIBUTES, self.attributes, 0, self.propagation, int(self.recursive), path)

    def describe(self) -> str:
        return f"mount_setattr of {self.path}"


@dataclass(frozen=True, slots=True)
class Mask:
    """Cover a path, if it is there: a file with the null device, a directory with an empty one."""

    null: int
    """Slot of a detached mount of the null device."""
    empty: int
    """Slot of a detached mount of an empty directory."""
    path: str

    def encode(self) -> EncodedStep:
        return (_spawn.MASK, self.null, self.empty, os.fsencode(self.path))

    def describe(self) -> str:
        return f"mask {self.path}"


@dataclass(frozen=True, slots=True)
class MaskFrom:
    """Cover a path, if it is there, with what is at another one, which is of the same kind."""

    source: str
    path: str

    def encode(self) -> EncodedStep:
        return (_spawn.MASK_FROM, os.fsencode(self.path), os.fsencode(self.source))

    def describe(self) -> str:
        return f"mask {self.path}"


@dataclass(frozen=True, slots=True)
class Protect:
    """Make a path, if it is there, and all mounts beneath it read-only."""

    path: str
    attributes: int

    def encode(self) -> EncodedStep:
        return (_spawn.READ_ONLY, self.attributes, os.fsencode(self.path))

    def describe(self) -> str:
        return f"make {self.path} read-only"


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """Make a directory."""

    path: str
    mode: int = 0o755

    def encode(self) -> EncodedStep:
        return (_spawn.DIRECTORY, self.mode, os.fsencode(self.path))

    def describe(self) -> str:
        return f"mkdir {self.path}"


@dataclass(frozen=True, slots=True)
class MakeSymlink:
    """Make a symbolic link."""

    target: str
    path: str

    def encode(self) -> EncodedStep:
        return (_spawn.SYMLINK, os.fsencode(self.target), os.fsencode(self.path))

    def describe(self) -> str:
        return f"symlink {self.path}"


@dataclass(frozen=True, slots=True)
class Pivot:
    """Make the attached mount in a slot the root and detach the old root."""

    slot: int

    def encode(self) -> EncodedStep:
        return (_spawn.PIVOT, self.slot)

    def describe(self) -> str:
        return "pivot_root"


def enter_root(slot: int) -> tuple[Step, ...]:
    """Make the detached mount in a slot the root."""
    return (Attach(slot, "/"), Pivot(slot))


@dataclass(frozen=True, slots=True)
class WorkingDirectory:
    """Change the working directory, by no link that stands for a descriptor; make it if it is missing."""

    path: str
    make: bool = False

    def encode(self) -> EncodedStep:
        return (_spawn.WORKING_DIRECTORY, int(self.make), os.fsencode(self.path))

    def describe(self) -> str:
        return f"chdir {self.path}"


@dataclass(frozen=True, slots=True)
class MakeNode:
    """Make a device node or a FIFO, in the place of what is there."""

    path: str
    mode: int
    """With its type, as in stat(2)."""
    device: int = 0
    uid: int = 0
    gid: int = 0

    def encode(self) -> EncodedStep:
        return (_spawn.NODE, self.mode, self.device, self.uid, self.gid, os.fsencode(self.path))

    def describe(self) -> str:
        return f"mknod {self.path}"


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Write a text into a file that exists."""

    path: str
    text: str

    def encode(self) -> EncodedStep:
        return (_spawn.WRITE, os.fsencode(self.path), os.fsencode(self.text))

    def describe(self) -> str:
        return f"write {self.text!r} to {self.path}"


@dataclass(frozen=True, slots=True)
class HostName:
    """Set the host name of the new UTS namespace."""

    name: str

    def encode(self) -> EncodedStep:
        return (_spawn.HOST_NAME, self.name.encode())

    def describe(self) -> str:
        return f"sethostname {self.name}"


@dataclass(frozen=True, slots=True)
class ResourceLimit:
    """Set a resource limit (one of `resource.RLIMIT_*`), soft and hard."""

    resource: int
    soft: int
    hard: int

    def encode(self) -> EncodedStep:
        return (_spawn.LIMIT, self.resource, self.soft, self.hard)

    def describe(self) -> str:
        return f"prlimit of resource {self.resource} to {self.soft}:{self.hard}"


@dataclass(frozen=True, slots=True)
class BoundingSet:
    """Keep only these capabilities, a bit set, within reach of any later execve."""

    kept: int = 0

    def encode(self) -> EncodedStep:
        return (_spawn.BOUNDING, self.kept)

    def describe(self) -> str:
        return "prctl(PR_CAPBSET_DROP)"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Keep only these capabilities, as bit sets; none by default."""

    effective: int = 0
    permitted: int = 0
    inheritable: int = 0
    ambient: int = 0

    def encode(self) -> EncodedStep:
        return (_spawn.CAPABILITIES, self.effective, self.permitted, self.inheritable, self.ambient)

    def describe(self) -> str:
        return "capset and prctl(PR_CAP_AMBIENT)"


@dataclass(frozen=True, slots=True)
class Scopes:
    """Enter a Landlock domain out of which these kinds of access do not lead; it needs NoNewPrivileges."""

    scopes: int
    """LANDLOCK_SCOPE_… flags; see `landlock.available_scopes`."""

    def encode(self) -> EncodedStep:
        return (_spawn.SCOPES, self.scopes)

    def describe(self) -> str:
        return "landlock_create_ruleset and landlock_restrict_self"


@dataclass(frozen=True, slots=True)
class Filter:
    """Install a filter on system calls; it needs NoNewPrivileges or CAP_SYS_ADMIN before it.

    If its flags ask for a listener, that is handed to whoever called `Spawner.spawn`; so the filter
    must let sendmsg through, and this step comes while the link to the parent is still open.
    """

    program: bytes
    """An array of struct sock_filter."""
    flags: int = 0
    """Flags of seccomp(SECCOMP_SET_MODE_FILTER)."""

    def encode(self) -> EncodedStep:
        return (_spawn.FILTER, self.flags, self.program)

    def describe(self) -> str:
        return f"seccomp with a filter of {len(self.program) // 8} instructions"


@dataclass(frozen=True, slots=True)
class FileModeMask:
    """Set the umask, which is otherwise the harness's own."""

    mask: int

    def encode(self) -> EncodedStep:
        return (_spawn.FILE_MODE_MASK, self.mask)

    def describe(self) -> str:
        return f"umask {self.mask:o}"


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Give the new program the descriptor in a slot under a number."""

    slot: int
    number: int

    def encode(self) -> EncodedStep:
        return (_spawn.DUPLICATE, self.slot, self.number)

    def describe(self) -> str:
        return f"dup3 to {self.number}"


@dataclass(frozen=True, slots=True)
class CloseFrom:
    """Give the new program no descriptor from this number on."""

    first: int

    def encode(self) -> EncodedStep:
        return (_spawn.CLOSE_FROM, self.first)

    def describe(self) -> str:
        return f"close_range from {self.first}"
