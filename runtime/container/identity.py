"""Which host ids a container's users are: a range of its own for every container.

Root takes 65536 ids from a reserved range, guarded by lock files. An ordinary user takes the
range that /etc/subuid grants through newuidmap, or maps the container's root onto itself alone.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from pybench.runtime.container.specification.linux import IdMapping, Linux
from pybench.runtime.errors import HostError
from pybench.runtime.journal import state_directory

RANGE_SIZE = 65536
FIRST_ID = 1_000_000_000
"""Within 524288…1879048191, the ids that systemd sets aside for containers, and far from the low
end where useradd and container engines put their subordinate ranges."""
RANGES = 4096


@dataclass(frozen=True, slots=True)
class IdentityMap:
    """How container ids appear on the host, and how the map gets written."""

    uid_map: str | None
    """Text of /proc/<pid>/uid_map, or None where `map_commands` write it."""
    gid_map: str | None
    deny_setgroups: bool
    map_commands: tuple[tuple[bytes, ...], ...] = ()
    """newuidmap and newgidmap with their arguments; the pid is put in at the second place."""
    label: str = "range"
    """`range` or `single`: recorded with every sample."""

    @property
    def root(self) -> tuple[int, int]:
        """The host's ids of the container's user and group 0."""
        uids, gids = self.mappings
        first = tuple(next(each.host_id for each in maps if each.container_id == 0) for maps in (uids, gids))
        return first[0], first[1]

    @property
    def mappings(self) -> tuple[tuple[IdMapping, ...], tuple[IdMapping, ...]]:
        """The maps of user and group ids, in the specification's words."""
        if self.map_commands:
            texts = tuple(" ".join(word.decode() for word in command[1:]) for command in self.map_commands)
        else:
            texts = (self.uid_map or "", self.gid_map or "")
        uids, gids = (tuple(_mappings(text)) for text in texts)
        return uids, gids


def _mappings(text: str) -> Iterator[IdMapping]:
    numbers = [int(word) for word in text.split()]
    for place in range(0, len(numbers), 3):
        inside, outside, size = numbers[place : place + 3]
        yield IdMapping(container_id=inside, host_id=outside, size=size)


@contextmanager
def reserve() -> Iterator[IdentityMap]:
    """Hold ids for one container at a time; disjoint from those of every other holder.

    Raises:
        HostError: every range is taken.
    """
    if os.geteuid() != 0:
        yield _ordinary_user_map()
        return
    directory = state_directory()
    for number in range(RANGES):
        path = directory / f"ids-{number}.lock"
        with path.open("w", encoding="ascii") as lock:
            if not _take(lock, path):
                continue
            text = f"0 {FIRST_ID + number * RANGE_SIZE} {RANGE_SIZE}"
            try:
                yield IdentityMap(text, text, deny_setgroups=False)
            finally:
                path.unlink()
            return
    raise HostError(f"all {RANGES} id ranges are in use", "end other pybench processes")


def remove_abandoned() -> None:
    """Remove the lock files of holders that were killed; the kernel has dropped their locks already."""
    for path in state_directory().glob("ids-*.lock"):
        with suppress(OSError), path.open("r", encoding="ascii") as lock:
            if _take(lock, path):
                path.unlink()


def _take(lock: TextIO, path: Path) -> bool:
    """Lock the file, unless its last holder has removed it between our opening and our locking."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return path.stat().st_ino == os.fstat(lock.fileno()).st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


def _ordinary_user_map() -> IdentityMap:
    uid, gid = os.geteuid(), os.getegid()
    commands = [
        _map_command(program, Path(file), own)
        for program, file, own in (("newuidmap", "/etc/subuid", uid), ("newgidmap", "/etc/subgid", gid))
    ]
    if all(commands):
        return IdentityMap(None, None, deny_setgroups=False, map_commands=tuple(filter(None, commands)))
    # One id may always be mapped onto oneself, if setgroups is given up (user_namespaces(7)).
    return IdentityMap(f"0 {uid} 1", f"0 {gid} 1", deny_setgroups=True, label="single")


def _map_command(name: str, ranges: Path, own: int) -> tuple[bytes, ...] | None:
    """The command that maps the user's own id to 0 and its subordinate range to the ids above.

    The user's own files, the image among them, thereby belong to the container's root. The pid is
    left out. None if the program or the range is not there.
    """
    program, granted = shutil.which(name), _subordinate(ranges, os.geteuid())
    if not program or not granted:
        return None
    start, size = granted
    words = (program, 0, own, 1, 1, start, size - 1)
    return tuple(str(word).encode() for word in words)


def _subordinate(file: Path, uid: int) -> tuple[int, int] | None:
    """The first usable range that subuid(5) grants this user."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    try:
        names = {str(uid), pwd.getpwuid(uid).pw_name}
    except KeyError:
        names = {str(uid)}
    for line in lines:
        match line.split(":"):
            case [name, start, size] if name in names and start.isdigit() and size.isdigit():
                if int(size) >= RANGE_SIZE:
                    return int(start), RANGE_SIZE
    return None


def map_of(linux: Linux) -> IdentityMap | None:
    """The map that a specification asks for, and how this user can write it; None without a user namespace.

    Raises:
        HostError: an ordinary user needs newuidmap and newgidmap for it, and they are not installed.
    """
    if not linux.uid_mappings:
        return None
    return given_map(linux.uid_mappings, linux.gid_mappings)


def given_map(uids: Sequence[IdMapping], gids: Sequence[IdMapping]) -> IdentityMap:
    """A map in the words of a specification.

    Raises:
        HostError: an ordinary user needs newuidmap and newgidmap for it, and they are not installed.
    """
    uid, gid = os.geteuid(), os.getegid()
    own_alone = [len(maps) == 1 and maps[0].size == 1 for maps in (uids, gids)]
    if uid == 0 or (all(own_alone) and uids[0].host_id == uid and gids[0].host_id == gid):
        return IdentityMap(_text(uids), _text(gids), deny_setgroups=uid != 0, label="given")
    commands = []
    for name, maps in (("newuidmap", uids), ("newgidmap", gids)):
        program = shutil.which(name)
        if program is None:
            raise HostError(
                f"{name} is not installed, which maps ids for ordinary users", "apt-get install uidmap"
            )
        words = (program, *_text(maps).split())
        commands.append(tuple(word.encode() for word in words))
    return IdentityMap(None, None, deny_setgroups=False, map_commands=tuple(commands), label="given")


def _text(maps: Sequence[IdMapping]) -> str:
    return "\n".join(f"{each.container_id} {each.host_id} {each.size}" for each in maps)
