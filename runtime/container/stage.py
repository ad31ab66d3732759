"""The stage: a private mount namespace in which the spawning thread keeps what all containers share.

A child's mount namespace is a copy of its spawner's. So the image, mapped to the container's ids
and made read-only once, with all that containers of it share, is mounted on the stage, where no other
process sees it, and every container takes a copy of it with one system call.

The stage has two namespaces. The thread lives in a copy of the host's, where it finds images and
volumes. It enters the other one just before it clones: nothing is mounted there but the stage and
/proc, so that a container neither copies the host's mounts nor has to take them down. A root that is
complete gets a third one, in which it is the root already, so that its containers need not even pivot.
When the thread ends the kernel removes all of them and everything in them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pybench.runtime.container import system_calls
from pybench.runtime.container.system_calls import (
    AT_FDCWD,
    MOUNT_ATTR_IDMAP,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
)
from pybench.runtime.errors import HostError, InputError
from pybench.runtime.journal import Journal

NO_PRIVILEGE = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV

DEVICE_NODES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
}
"""Name → major, minor; the minimum that the OCI runtime spec requires (config-linux.md, Default Devices)."""
DEVICE_LINKS = {
    "ptmx": "pts/ptmx",
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}
DEVICE_DIRECTORIES = ("pts", "shm")


class Stage:
    """Lives and dies with the thread that makes it; use it from that thread only."""

    def __init__(self, journal: Journal) -> None:
        """Move the calling thread into a mount namespace of its own.

        Raises:
            HostError: this user may not (it takes CAP_SYS_ADMIN).
        """
        # A directory of its own: removing one that is a mount point elsewhere unmounts it there too.
        self._directory, self._journalled = journal.make_directory("mount-point", "stage-")
        self._journal = journal
        try:
            system_calls.unshare(system_calls.CLONE_FS | system_calls.CLONE_NEWNS)
            system_calls.mount_setattr(AT_FDCWD, "/", propagation=system_calls.MS_PRIVATE, recursive=True)
            # It takes what is in it: a few nodes, and the files of workloads.
            _mount_tmpfs(self._directory, attributes=0, size="1g")
        except OSError as error:
            self._directory.rmdir()
            journal.forget(self._journalled)
            raise HostError(f"cannot make a private mount namespace: {error}") from error
        self.devices = self._directory / "dev"
        self.empty = self._directory / "empty"
        """An empty directory, for masks."""
        self.scratch = self._directory / "scratch"
        """An empty directory for children to mount over, each in its own mount namespace."""
        self._make_devices()
        self.scratch.mkdir()
        self.empty.mkdir(mode=0o555)
        self._host = _own_namespace()
        self._bare = self._make_bare_namespace()
        self._count = 0
        self._own: set[Path] = set()
        """Places that hold files of the stage's own instead of a mount."""

    def remove(self) -> None:
        """Take everything down while the thread still lives; idempotent."""
        if self._directory.exists():
            system_calls.umount(str(self._directory), system_calls.MNT_DETACH)
            self._directory.rmdir()
            self._journal.forget(self._journalled)
            os.close(self._host)
            os.close(self._bare)

    @property
    def bare(self) -> int:
        """The namespace where nothing but the stage is mounted, as a descriptor."""
        return self._bare

    @contextlib.contextmanager
    def entered(self, namespace: int | None = None) -> Iterator[None]:
        """Be in a namespace, by default the bare one, and in the copy of the host's again after."""
        system_calls.setns(self._bare if namespace is None else namespace, system_calls.CLONE_NEWNS)
        try:
            yield
        finally:
            system_calls.setns(self._host, system_calls.CLONE_NEWNS)

    def _make_bare_namespace(self) -> int:
        """A descriptor of a namespace with the stage at its own path, and /proc.

        Without a whole /proc the kernel would let no user namespace mount one (mount_too_revealing in
        fs/namespace.c).
        """
        root = self._directory / "root"
        root.mkdir()
        flags = system_calls.OPEN_TREE_CLONE | system_calls.OPEN_TREE_CLOEXEC
        with contextlib.ExitStack() as opened:
            system_calls.unshare(system_calls.CLONE_NEWNS)
            opened.callback(system_calls.setns, self._host, system_calls.CLONE_NEWNS)
            trees = {
                Path("/proc"): system_calls.open_tree(AT_FDCWD, "/proc", flags),
                self._directory: system_calls.open_tree(
                    AT_FDCWD, str(self._directory), flags | system_calls.AT_RECURSIVE
                ),
            }
            for tree in trees.values():
                opened.callback(os.close, tree)
            _mount_tmpfs(root, attributes=0, size="64k")
            os.chdir(root)
            system_calls.pivot_root(".", ".")
            system_calls.umount(".", system_calls.MNT_DETACH)
            os.chdir("/")
            for place, tree in trees.items():
                place.mkdir(parents=True)
                system_calls.move_mount(tree, str(place))
            return _own_namespace()

    def _make_devices(self) -> None:
        self.devices.mkdir()
        _mount_tmpfs(self.devices, attributes=MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, size="64k")
        for name, (major, minor) in DEVICE_NODES.items():
            os.mknod(self.devices / name, stat.S_IFCHR, os.makedev(major, minor))
            (self.devices / name).chmod(0o666)
        for name in DEVICE_DIRECTORIES:
            (self.devices / name).mkdir()
        for name, target in DEVICE_LINKS.items():
            (self.devices / name).symlink_to(target)
        system_calls.mount_setattr(AT_FDCWD, str(self.devices), set_=MOUNT_ATTR_RDONLY)

    def add_image(self, rootfs: Path, user_namespace: int | None) -> tuple[Path, bool]:
        """Mount a root filesystem read-only, its ids mapped as in a user namespace (a descriptor).

        Returns:
            Where it is, and whether its ids are mapped, as `add_tree` says.

        Raises:
            HostError: it cannot be mounted at all.
        """
        return self.add_tree(rootfs, set_=MOUNT_ATTR_RDONLY | NO_PRIVILEGE, user_namespace=user_namespace)

    def add_tree(
        self,
        source: Path,
        *,
        set_: int = 0,
        clear: int = 0,
        recursive: bool = False,
        user_namespace: int | None = None,
        in_host_tree: bool = False,
    ) -> tuple[Path, bool]:
        """Mount a directory or a file, with these MOUNT_ATTR_… flags set and cleared.

        With `in_host_tree` it is seen by children that are not cloned while the stage is `entered`.

        Returns:
            Where it is, and whether its ids are mapped: a filesystem may not support that
            (mount_setattr(2), "ID-mapped mounts"), and then its files belong to nobody inside.

        Raises:
            HostError: it cannot be mounted at all.
        """
        flags = system_calls.OPEN_TREE_CLONE | system_calls.OPEN_TREE_CLOEXEC
        try:
            tree = system_calls.open_tree(
                AT_FDCWD, str(source), flags | (system_calls.AT_RECURSIVE if recursive else 0)
            )
            try:
                place = self._place(directory=source.is_dir())
                mapped = _set_attributes(tree, set_, clear, recursive, user_namespace)
                with contextlib.nullcontext() if in_host_tree else self.entered():
                    system_calls.move_mount(tree, str(place))
            finally:
                os.close(tree)
        except OSError as error:
            raise HostError(f"cannot mount {source}: {error}") from error
        return place, mapped

    def add_file(self, content: bytes, mode: int = 0o444, owner: tuple[int, int] = (0, 0)) -> Path:
        """A file of the stage's own, for `add_tree` to mount; `owner` is a user and a group of the host.

        Raises:
            HostError: it does not fit onto the stage.
        """
        place = self._place(directory=False)
        try:
            place.write_bytes(content)
        except OSError as error:
            place.unlink()
            raise HostError(f"cannot keep a file of {len(content)} bytes: {error.strerror}") from error
        os.chown(place, *owner)
        place.chmod(mode)
        self._own.add(place)
        return place

    def add_directory(self) -> Path:
        """An empty directory of the stage's own, to be filled or mounted over."""
        place = self._place(directory=True)
        self._own.add(place)
        return place

    def cover(self, root: Path, path: str, place: Path) -> None:
        """Mount a copy of a place over a path of another one, whose links lead nowhere but inside it.

        Raises:
            InputError: there is no such path, it is a directory where a file is wanted, or a loop of links.
        """
        flags = system_calls.OPEN_TREE_CLONE | system_calls.OPEN_TREE_CLOEXEC | system_calls.AT_RECURSIVE
        try:
            with self.entered(), contextlib.ExitStack() as opened:
                tree = system_calls.open_tree(AT_FDCWD, str(place), flags)
                opened.callback(os.close, tree)
                point = system_calls.open_in_root(root, path)
                opened.callback(os.close, point)
                system_calls.move_mount_to(tree, point)
        except OSError as error:
            raise InputError(
                f"cannot mount over {path} of the image: {error}", "look at what it is: a file, a link, …"
            ) from error

    def add_overlay(self, lower: Sequence[Path]) -> Path:
        """Merge places of this stage into one read-only tree, the topmost first.

        Raises:
            HostError: overlayfs refuses.
        """
        place = self._place(directory=True)
        # Relative, because mount(2) takes one page of options, and fsconfig(2) 256 bytes of each.
        names = [path.name for path in lower]
        flags = system_calls.MS_RDONLY | system_calls.MS_NOSUID | system_calls.MS_NODEV
        try:
            with self.entered():
                # Only this thread's: it has unshared CLONE_FS; on leaving it is at the root again.
                os.chdir(self._directory)
                system_calls.mount("overlay", place.name, "overlay", flags, f"lowerdir={':'.join(names)}")
        except OSError as error:
            raise HostError(f"overlayfs cannot merge {len(names)} layers: {error}") from error
        return place

    def add_namespace(self, root: Path, *, for_user_namespaces: bool) -> int:
        """A mount namespace whose root is a copy of a place, with all that is mounted on it.

        Args:
            root: the place.
            for_user_namespaces: who is cloned there gets a user namespace, which may mount a /proc only where
                one is in full view (mount_too_revealing in fs/namespace.c). The one that is put there,
                beneath the container's own, shows only processes that the viewer may trace anyway.

        Returns:
            A descriptor, for the caller to close.

        Raises:
            HostError: the kernel refuses.
        """
        flags = system_calls.OPEN_TREE_CLONE | system_calls.OPEN_TREE_CLOEXEC | system_calls.AT_RECURSIVE
        try:
            with contextlib.ExitStack() as opened:
                threads = os.open("/proc/thread-self/ns", os.O_PATH | os.O_CLOEXEC)
                opened.callback(os.close, threads)
                opened.enter_context(self.entered())
                tree = system_calls.open_tree(AT_FDCWD, str(root), flags)
                opened.callback(os.close, tree)
                system_calls.unshare(system_calls.CLONE_NEWNS)
                system_calls.move_mount(tree, str(self.scratch))
                os.fchdir(tree)
                system_calls.pivot_root(".", ".")
                system_calls.umount(".", system_calls.MNT_DETACH)
                os.chdir("/")
                if for_user_namespaces:
                    _mount_traceable_processes()
                return os.open("mnt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=threads)
        except OSError as error:
            raise HostError(f"cannot make a mount namespace of {root}: {error}") from error

    def remove_place(self, place: Path) -> None:
        """Unmount and remove what an `add_…` function returned."""
        if place in self._own:
            # Never what is mounted: only directories that were made here are emptied.
            self._own.discard(place)
            shutil.rmtree(place) if place.is_dir() else place.unlink()
            return
        with self.entered():
            system_calls.umount(str(place), system_calls.MNT_DETACH)
        place.rmdir() if place.is_dir() else place.unlink()

    def _place(self, *, directory: bool) -> Path:
        self._count += 1
        # Short: overlayfs takes the names of all layers in one page.
        place = self._directory / str(self._count)
        if directory:
            place.mkdir()
        else:
            place.touch()
        return place


def _set_attributes(tree: int, set_: int, clear: int, recursive: bool, user_namespace: int | None) -> bool:
    def change(extra: int, namespace: int) -> None:
        system_calls.mount_setattr(
            tree, "", set_=set_ | extra, clear=clear, userns=namespace, recursive=recursive
        )

    if user_namespace is None:
        change(0, 0)
        return True
    try:
        change(MOUNT_ATTR_IDMAP, user_namespace)
    except OSError:
        change(0, 0)
        return False
    return True


def _own_namespace() -> int:
    return os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


def _mount_tmpfs(place: Path, *, attributes: int, size: str) -> None:
    mount = _make_filesystem("tmpfs", {"source": "pybench", "mode": "755", "size": size}, attributes)
    try:
        system_calls.move_mount(mount, str(place))
    finally:
        os.close(mount)


def _mount_traceable_processes() -> None:
    options = {"source": "proc", "hidepid": "ptraceable", "subset": "pid"}
    mount = _make_filesystem("proc", options, NO_PRIVILEGE | MOUNT_ATTR_NOEXEC)
    try:
        point = system_calls.open_in_root(Path("/"), "/proc")
        try:
            system_calls.move_mount_to(mount, point)
        finally:
            os.close(point)
    finally:
        os.close(mount)


def _make_filesystem(kind: str, options: Mapping[str, str], attributes: int) -> int:
    context = system_calls.fsopen(kind)
    try:
        for key, value in options.items():
            system_calls.fsconfig(context, key, value)
        system_calls.fsconfig(context)
        return system_calls.fsmount(context, attributes)
    finally:
        os.close(context)
