"""`pybench images`: build the images that targets run, and show what is built."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pybench.runtime.errors import InputError

if TYPE_CHECKING:
    from pybench.vm_images import Image

app = typer.Typer(
    help="Build images and show what is built; import and export OCI images.",
    epilog="Example: pybench images build minimal",
    no_args_is_help=True,
)

_HASH_DIGITS = 12
_MEBIBYTE = 1 << 20


class ListFormat(StrEnum):
    """How `images list` prints."""

    TEXT = "text"
    JSON = "json"


@app.command(epilog="Example: pybench images build minimal")
def build(
    name: Annotated[str, typer.Argument(help="The image: a folder of vm-images/ that holds an image.yaml.")],
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build anew, with the package versions that apt offers now.")
    ] = False,
) -> None:
    """Build an image into the cache; does nothing if it is there and intact."""
    from pybench import vm_images  # noqa: PLC0415 - keeps the other verbs quick

    image = vm_images.build(name, rebuild=rebuild, progress=lambda text: typer.echo(f"{text} …", err=True))
    typer.echo(
        f"{image.name} {image.content_hash[:_HASH_DIGITS]}, {image.size / _MEBIBYTE:.1f} MiB, "
        f"kernel {image.kernel_release}, in {image.folder}"
    )


@app.command("import", epilog="Example: pybench images import debian.tar --name debian:12")
def import_(
    file: Annotated[
        Path, typer.Argument(help="An OCI layout directory or archive, or what docker save wrote.")
    ],
    name: Annotated[str, typer.Option("--name", help="What to call it; by default what FILE calls it.")] = "",
    reference: Annotated[str, typer.Option("--reference", help="Which image, if FILE holds several.")] = "",
) -> None:
    """Import an OCI image into the cache, where its layers are shared with other images."""
    from pybench.runtime.container import image as oci  # noqa: PLC0415 - keeps the other verbs quick

    store = oci.ImageStore(progress=lambda text: typer.echo(f"{text} …", err=True))
    image = store.add(file, name, reference)
    size = sum(layer.size for layer in image.layers)
    typer.echo(f"{image.name}, {len(image.layers)} layers, {size / _MEBIBYTE:.1f} MiB, in {image.folder}")


@app.command("export", epilog="Example: pybench images export minimal minimal.tar")
def export(
    name: Annotated[str, typer.Argument(help="An imported image, or one that is built from a recipe.")],
    file: Annotated[Path, typer.Argument(help="The archive to write; docker load and skopeo read it.")],
) -> None:
    """Write an image as an OCI archive."""
    from pybench import vm_images  # noqa: PLC0415 - keeps the other verbs quick
    from pybench.runtime.container import image as oci  # noqa: PLC0415

    store = oci.ImageStore()
    if name in store.names():
        oci.export_image(store.image(name), file)
    elif name in vm_images.recipes():
        oci.export_tree(vm_images.find(name).rootfs, file, name, date=None)
    else:
        known = ", ".join([*store.names(), *vm_images.recipes()])
        raise InputError(f"there is no image {name}", f"known are: {known}")
    typer.echo(f"{file}, {file.stat().st_size / _MEBIBYTE:.1f} MiB")


@app.command("list", epilog="Example: pybench images list --format json")
def list_(
    format_: Annotated[
        ListFormat, typer.Option("--format", help="For people or for programs.")
    ] = ListFormat.TEXT,
) -> None:
    """Show the images in the cache: hash, size, kernel and package versions, date."""
    from pybench import vm_images  # noqa: PLC0415 - keeps the other verbs quick

    images = [(image, vm_images.is_current(image)) for image in vm_images.list_images()]
    if format_ is ListFormat.JSON:
        typer.echo(json.dumps([_as_record(image, current) for image, current in images], indent=2))
        return
    if not images:
        typer.echo(f"No image is built. Recipes: {', '.join(vm_images.recipes())}", err=True)
        return
    _print_table(images)


def _as_record(image: Image, current: bool) -> dict[str, object]:
    return {
        "name": image.name,
        "content_hash": image.content_hash,
        "input_hash": image.input_hash,
        "current": current,
        "created": image.created,
        "kernel_release": image.kernel_release,
        "packages": dict(image.packages),
        "tools": dict(image.tools),
        "sizes": dict(image.sizes),
        "digests": dict(image.digests),
        "marking": sorted(image.marking),
        "folder": str(image.folder),
    }


def _print_table(images: list[tuple[Image, bool]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.table import Table  # noqa: PLC0415 - slow to import

    table = Table(box=None, pad_edge=False)
    for heading in ("image", "hash", "size", "kernel", "busybox", "built", "recipe"):
        table.add_column(heading, justify="right" if heading == "size" else "left", overflow="fold")
    for image, current in images:
        table.add_row(
            image.name,
            image.content_hash[:_HASH_DIGITS],
            f"{image.size / _MEBIBYTE:.1f} MiB",
            image.kernel_release,
            image.packages.get("busybox-static", "-"),
            image.created[:10],
            "current" if current else "changed since",
        )
    console = Console()
    if not console.is_terminal:
        console.width = 200  # A pipe has no width; a log should not be folded at 80 columns.
    console.print(table)
