"""A terminal in an instance of any image, on any target that keeps its tenants apart from the host."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from pybench.harness.errors import HostError, InputError
from pybench.harness.runner.interruption import Interruption
from pybench.harness.targets.commands import check_command
from pybench.runtime import terminal

if TYPE_CHECKING:
    from pybench.harness.targets import ContainerSettings, VmSettings
    from pybench.runtime.container.rootfs import Volume
    from pybench.runtime.container.specification.model import User
    from pybench.runtime.journal import Journal
    from pybench.vm_images import Image

_SHELLS: Final = ("/bin/bash", "/bin/sh")
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_IDLE: Final = "exec /bin/sleep 2147483647"
"""What the guest runs as its workload meanwhile."""
_BOOT_PATIENCE: Final = 120.0
"""Seconds for a guest to boot, emulated as it may be."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellRequest:
    """What to open."""

    image: str
    """A recipe's name, or that of an imported image."""
    command: tuple[str, ...] = ()
    """Empty: the image's shell."""
    volumes: tuple[Volume, ...] = ()


@dataclass(frozen=True, slots=True)
class _Files:
    """An image as a container takes it."""

    layers: tuple[Path, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: User | None = None
    directory: str = "/"


def container_shell(
    request: ShellRequest, settings: ContainerSettings, journal: Journal, progress: Progress
) -> int:
    """Open a terminal in a container on standard input and output.

    Returns:
        The exit code of its shell, or minus the signal.

    Raises:
        InputError: there is no such image, command or volume.
        HostError: this host cannot run the container.
    """
    from pybench.runtime.container.cgroup.detect import detect  # noqa: PLC0415 - only for this target
    from pybench.runtime.container.instance import Readiness  # noqa: PLC0415
    from pybench.runtime.container.network.bridge import Bridge  # noqa: PLC0415
    from pybench.runtime.container.network.pool import NetworkPool  # noqa: PLC0415
    from pybench.runtime.container.sandbox import ROOT_USER, Sandbox, SandboxSpec  # noqa: PLC0415
    from pybench.runtime.container.spawn.spawner import Spawner  # noqa: PLC0415

    with Interruption() as interruption, contextlib.ExitStack() as stack:
        with interruption.allowed():
            files = stack.enter_context(_files(request.image, progress))
        environment = {**_environment(), **files.environment}
        _check_command(files.layers, request.command, environment["PATH"], files.directory)
        pool = None
        if settings.network == "bridge":
            pool = stack.enter_context(NetworkPool(stack.enter_context(Bridge(journal)), 1))
        spec = SandboxSpec(
            files.layers[0],
            request.command or (_shell_of(files.layers),),
            environment,
            Readiness(marking=False, line=None),
            host_name=_host_name(request.image),
            profile=settings.profile,
            network=pool,
            layers=files.layers,
            writable=settings.writable,
            volumes=request.volumes,
            user=files.user or ROOT_USER,
            working_directory=files.directory,
            terminal=True,
        )
        spawner = stack.enter_context(Spawner(journal))
        sandbox = stack.enter_context(Sandbox(spawner, detect(), spec))
        with interruption.allowed():
            return _on_this_terminal(sandbox.attach)


def process_shell(request: ShellRequest, progress: Progress) -> int:
    """Run the image's shell as a bare process of the host, in the image's directory, on this terminal.

    Returns:
        Its exit code, or minus the signal.

    Raises:
        InputError: there is no such image or command, or its program cannot run outside of its own tree.
    """
    if request.volumes:
        raise InputError("a bare process has no volumes", "`--volume` is for containers")
    with _files(request.image, progress) as files:
        command = request.command or (_shell_of(files.layers),)
        if len(files.layers) > 1:
            raise InputError(
                f"image {request.image} has several layers, which only a container merges",
                "`pybench images build` makes one tree of an imported image",
            )
        program = check_command(files.layers[0], command)
        try:
            finished = subprocess.run(
                command, executable=program, cwd=files.layers[0], env={**_environment(), **files.environment},
                check=False,
            )  # fmt: skip
        except OSError as error:
            raise InputError(
                f"{program}: {error.strerror}",
                "what needs its image's libraries runs in a container",
            ) from error
    return finished.returncode


def vm_shell(request: ShellRequest, settings: VmSettings, journal: Journal, progress: Progress) -> int:
    """Open a terminal in a virtual machine on standard input and output.

    Returns:
        The exit code of its shell, or minus the signal.

    Raises:
        InputError: there is no such image or command, or it has no form that boots.
        HostError: this host cannot run the machine.
    """
    from pybench import vm_images  # noqa: PLC0415
    from pybench.harness.model import Readiness, Workload  # noqa: PLC0415 - only for this target
    from pybench.harness.runner.preflight import check_guest_memory  # noqa: PLC0415
    from pybench.harness.targets import TargetContext  # noqa: PLC0415
    from pybench.harness.targets.vm import VmTarget  # noqa: PLC0415

    if request.volumes:
        raise InputError("a virtual machine has no volumes", "`--volume` is for containers")
    check_guest_memory(settings.memory, "the guest", "lower --memory")
    image = vm_images.build(request.image, progress=progress)
    _check_command((image.rootfs,), request.command, _PATH, "/")
    shell = _shell_of((image.rootfs,))
    idle = Workload("shell", request.image, (shell, "-c", _IDLE), readiness=Readiness("exec"))
    with (
        TemporaryDirectory(prefix="pybench-shell-") as scratch,
        Interruption() as interruption,
        contextlib.ExitStack() as stack,
    ):
        target = VmTarget(settings, TargetContext(journal, Path(scratch)))
        stack.callback(target.cleanup)
        progress("booting")
        with interruption.allowed():
            target.prepare(idle, image)
            instance = target.launch(_BOOT_PATIENCE)
        stack.callback(instance.stop, 5.0)
        command = request.command or (shell,)

        def attach(source: int, sink: int, *, size: Callable[[], tuple[int, int]], resized: int) -> int:
            return instance.machine.attach(
                command, source, sink, size=size, resized=resized, environment=_environment()
            )

        with interruption.allowed():
            return _on_this_terminal(attach)


def _environment() -> dict[str, str]:
    return {"PATH": _PATH, "HOME": "/root", "TERM": os.environ.get("TERM", "xterm")}


def _on_this_terminal(attach: Callable[..., int]) -> int:
    source, sink = 0, 1
    with terminal.raw(source), terminal.size_changes() as resized:
        return attach(source, sink, size=lambda: terminal.size_of(sink), resized=resized)


@contextlib.contextmanager
def _files(name: str, progress: Progress) -> Iterator[_Files]:
    from pybench.runtime.container.image import ImageStore, resolve_user  # noqa: PLC0415
    from pybench.runtime.container.specification.model import User  # noqa: PLC0415

    image = _recipe_image(name, progress)
    if image is not None:
        yield _Files((image.rootfs,))
        return
    store = ImageStore()
    if name not in store.names():
        raise InputError(f"there is no image {name!r}", "`pybench images list` shows those there are")
    stored = store.image(name)
    with store.hold(stored) as layers:
        configuration = stored.configuration
        user = resolve_user(layers, configuration.user)
        environment = dict(variable.split("=", 1) for variable in configuration.env if "=" in variable)
        yield _Files(
            layers,
            {"HOME": user.home, **environment},
            User(uid=user.uid, gid=user.gid, additional_gids=user.groups),
            configuration.working_dir or "/",
        )


def _recipe_image(name: str, progress: Progress) -> Image | None:
    """The image of a recipe, built if it is not there; None if no recipe is called so."""
    from pybench import vm_images  # noqa: PLC0415

    if name not in vm_images.recipes():
        return None
    return vm_images.build(name, progress=progress)


def _shell_of(layers: Sequence[Path]) -> str:
    """The better one of the shells that an image has.

    Raises:
        InputError: it has none.
    """
    from pybench.runtime.container.image.merged import MergedTree  # noqa: PLC0415

    tree = MergedTree(layers)
    for path in _SHELLS:
        if tree.is_file(path):
            return path
    raise InputError("the image has no shell", "name a command of the image behind its name")


def _check_command(layers: Sequence[Path], command: Sequence[str], path: str, directory: str) -> None:
    """Look before anything is started.

    Raises:
        InputError: the command is not in the image.
    """
    from pybench.runtime.container.image.merged import MergedTree  # noqa: PLC0415

    if not command:
        return
    name = command[0]
    places = (directory,) if "/" in name else path.split(":")
    tree = MergedTree(layers)
    if not any(tree.is_file(str(PurePosixPath("/", place, name))) for place in places):
        raise InputError(
            f"the command {name} is no file in the image", "without a command the image's shell is opened"
        )


def _host_name(image: str) -> str:
    name = "".join(character if character.isalnum() else "-" for character in image.lower()).strip("-")
    if not name:
        raise HostError(f"{image!r} gives no host name")
    return name[:63]
