"""`pybench shell`: a terminal in a container or a virtual machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pybench.harness.cli import completers
from pybench.harness.cli.output import progress
from pybench.harness.cli.suggestions import suggestion
from pybench.runtime.errors import InputError

if TYPE_CHECKING:
    from pybench.runtime.container.rootfs import Volume

_SIGNALLED = 128
_FOREIGN = {
    "container": ("memory",),
    "vm": ("profile", "writable"),
    "process": ("profile", "network", "writable", "memory"),
}
"""Target → options that mean nothing to it."""

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command(
    epilog="Example: pybench shell container debian",
    context_settings={"ignore_unknown_options": True},
)
def shell(
    target: Annotated[str, typer.Argument(help="container, vm or process")],
    image: Annotated[
        str,
        typer.Argument(
            help="A recipe's name, or that of an imported image.", autocompletion=completers.images
        ),
    ],
    command: Annotated[list[str] | None, typer.Argument(help="The image's shell if empty.")] = None,
    profile: Annotated[str, typer.Option(help="Of a container: default, strict or privileged.")] = "default",
    network: Annotated[str, typer.Option(help="none or bridge; of a virtual machine also user.")] = "none",
    writable: Annotated[
        str, typer.Option(help="Of a container: how much it may write into its root, e.g. 64MiB.")
    ] = "",
    volume: Annotated[
        list[str] | None, typer.Option(help="Of a container: SOURCE:DESTINATION, read-only, or with :rw.")
    ] = None,
    memory: Annotated[str, typer.Option(help="Of a virtual machine.")] = "",
) -> None:
    """Open a terminal in a fresh instance of an image; it is gone when the shell ends."""
    from pydantic import ValidationError  # noqa: PLC0415 - keeps the other verbs quick

    from pybench.harness.shell import ShellRequest, container_shell, process_shell, vm_shell  # noqa: PLC0415
    from pybench.harness.targets import ContainerSettings, VmSettings  # noqa: PLC0415
    from pybench.runtime.journal import open_journal  # noqa: PLC0415

    given = {
        "profile": profile != "default",
        "network": network != "none",
        "writable": bool(writable),
        "memory": bool(memory),
    }
    for name in _FOREIGN.get(target, ()):
        if given[name]:
            raise InputError(
                f"--{name} means nothing to {target}", "`pybench shell --help` says whom it is for"
            )
    try:
        with open_journal() as journal:
            request = ShellRequest(
                image=image,
                command=tuple(command or ()),
                volumes=tuple(_volume(text) for text in volume or ()),
            )
            if target == "container":
                size = {"writable": writable} if writable else {}
                settings = ContainerSettings.model_validate({"profile": profile, "network": network, **size})
                status = container_shell(request, settings, journal, progress)
            elif target == "vm":
                size = {"memory": memory} if memory else {}
                status = vm_shell(
                    request, VmSettings.model_validate({"network": network, **size}), journal, progress
                )
            elif target == "process":
                status = process_shell(request, progress)
            else:
                known = "known are container, vm and process"
                raise InputError(
                    f"{target!r} has no shell", suggestion(target, ("container", "vm", "process"), known)
                )
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"--{first['loc'][0]}: {first['msg']}", "`pybench shell --help` says what it takes"
        ) from error
    raise typer.Exit(status if status >= 0 else _SIGNALLED - status)


def _volume(text: str) -> Volume:
    from pybench.runtime.container.rootfs import Volume  # noqa: PLC0415

    source, _, rest = text.partition(":")
    destination, _, mode = rest.partition(":")
    if not source or not destination.startswith("/") or mode not in {"", "ro", "rw"}:
        raise InputError(f"--volume {text}: is not SOURCE:DESTINATION[:rw]", "e.g. ./data:/data")
    return Volume(Path(source).absolute(), destination, writable=mode == "rw")
