"""`pybench images`: build the images that targets run, and see to what is built."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pybench.harness.cli import completers
from pybench.harness.cli.output import Format, FormatOption, console, flat, note, print_data, progress
from pybench.harness.units import count
from pybench.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybench.vm_images import Image, RecipeState

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Build images and see to what is built; import and export OCI images.",
    epilog="Example: pybench images build minimal",
    no_args_is_help=True,
)

_HASH_DIGITS = 12
_MEBIBYTE = 1 << 20
_LISTED = ("name", "content_hash", "size", "form", "kernel_release", "created", "current", "folder")


@app.command(epilog="Example: pybench images build minimal")
def build(
    name: Annotated[
        str,
        typer.Argument(
            help="A recipe, or an imported image, which becomes bootable.", autocompletion=completers.images
        ),
    ],
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build anew, with the package versions that apt offers now.")
    ] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Build an image, unless it is in the cache and intact."""
    from pybench import vm_images  # noqa: PLC0415 - keeps the other verbs quick

    image = vm_images.build(name, rebuild=rebuild, progress=progress)
    facts = [f"{image.name} {image.content_hash[:_HASH_DIGITS]}", _mebibytes(image.size)]
    if image.kernel_release:
        facts.append(f"kernel {image.kernel_release}")
    record = _as_record(image, current=True)
    print_data(
        format_,
        document=record,
        records=[flat(record)],
        lines=lambda: [", ".join([*facts, f"in {image.folder}"])],
    )


@app.command("import", epilog="Example: pybench images import debian.tar --name debian:12")
def import_(
    file: Annotated[
        Path, typer.Argument(help="An OCI layout directory or archive, or what docker save wrote.")
    ],
    name: Annotated[str, typer.Option("--name", help="What to call it; by default what FILE calls it.")] = "",
    reference: Annotated[str, typer.Option("--reference", help="Which image, if FILE holds several.")] = "",
) -> None:
    """Import an OCI image; layers are shared with other images."""
    from pybench.runtime.container import image as oci  # noqa: PLC0415

    _check_import_name(name)
    store = oci.ImageStore(progress=progress)
    image = store.add(file, name, reference)
    try:
        _check_import_name(image.name)
    except InputError:
        store.remove(image.name)
        raise
    size = sum(layer.size for layer in image.layers)
    typer.echo(f"{image.name}, {count(len(image.layers), 'layer')}, {_mebibytes(size)}, in {image.folder}")


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
        raise InputError(f"there is no image {name}", f"known are: {', '.join(vm_images.sources())}")
    typer.echo(f"{file}, {_mebibytes(file.stat().st_size)}")


@app.command("list", epilog="Example: pybench images list --format json")
def list_(
    all_: Annotated[
        bool, typer.Option("--all", help="Also the older builds of each image, which are counted otherwise.")
    ] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show the images in the cache: hash, size, form, kernel, date.

    As text, of each image what its recipe gives now, else the newest build; as data, every build.
    """
    from pybench import vm_images  # noqa: PLC0415 - keeps the other verbs quick

    images = [(image, vm_images.recipe_state(image)) for image in vm_images.list_images()]
    for name, folder in vm_images.damaged():
        note(f"Damaged: {folder}: pybench images build {name}, or pybench images rm {name}")
    if format_ is Format.TEXT:
        shown = images if all_ else _latest(images)
        _tell_images(shown)
        _tell_older([image for image, _ in images if image.folder not in {row.folder for row, _ in shown}])
        others = [name for name in vm_images.sources() if name not in {image.name for image, _ in images}]
        if others:
            note(f"Can be built: {', '.join(others)}")
        return
    records = [_as_record(image, state == "current") for image, state in images]
    rows = [{name: record[name] for name in _LISTED} for record in records]
    print_data(format_, document=records, records=rows, lines=list)


@app.command(epilog="Example: pybench images show minimal")
def show(
    name: Annotated[str, typer.Argument(help="An image that is built.", autocompletion=completers.images)],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show all that is known of a built image: hashes, sizes, modules."""
    from pybench import vm_images  # noqa: PLC0415 - keeps the other verbs quick

    record = _as_record(vm_images.find(name), current=True)
    facts = flat(record)
    print_data(
        format_,
        document=record,
        records=[{"key": key, "value": value} for key, value in facts.items()],
        lines=lambda: [
            f"{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}"
            for key, value in facts.items()
        ],
    )


@app.command(epilog="Example: pybench images rm debian")
def rm(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Images that are built or imported; with --old all by default.", metavar="[NAME...]"
        ),
    ] = None,
    old: Annotated[
        bool, typer.Option("--old", help="Only what was built from an earlier state of the recipe.")
    ] = False,
) -> None:
    """Remove images from the cache; of imported ones the import as well."""
    from pybench import vm_images  # noqa: PLC0415 - keeps the other verbs quick
    from pybench.runtime.container import image as oci  # noqa: PLC0415

    if not names and not old:
        raise InputError(
            "no image is named", "pybench images rm NAME, or pybench images rm --old for earlier builds"
        )
    if not names:
        names = vm_images.outdated()
        if not names:
            typer.echo("nothing was built from an earlier state of its recipe")
    store = oci.ImageStore()
    for name in names:
        imported = not old and name in store.names()
        try:
            for folder in vm_images.remove(name, keep_current=old, progress=progress):
                typer.echo(f"removed {folder}")
        except InputError:
            if not imported:
                raise
        if imported:
            store.remove(name)
            layers = store.collect()
            typer.echo(
                f"removed the imported image {name} and {count(len(layers), 'layer')} that only it had"
            )


@app.command(epilog="Example: pybench images verify")
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Images that are built; all by default.", metavar="[NAME...]")
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Recompute the hash of every form of the images in the cache."""
    from pybench import vm_images  # noqa: PLC0415 - keeps the other verbs quick

    found = vm_images.check(names or ())
    records = [
        {"name": name, "folder": str(folder), "intact": not problem, "problem": problem}
        for name, folder, problem in found
    ]
    print_data(
        format_,
        document=records,
        records=records,
        lines=lambda: [f"{name}: {problem or f'intact, in {folder}'}" for name, folder, problem in found],
    )
    damaged = [name for name, _, problem in found if problem]
    if damaged:
        commands = " && ".join(f"pybench images build {name}" for name in dict.fromkeys(damaged))
        raise InputError(f"damaged: {', '.join(dict.fromkeys(damaged))}", commands)


def _check_import_name(name: str) -> None:
    """An image's name has to tell whether it is a recipe's or an imported one."""
    from pybench import vm_images  # noqa: PLC0415

    if name in vm_images.recipes():
        hint = f"give it another name, such as --name {name}:imported"
        raise InputError(f"an imported image cannot be called {name}, because a recipe is", hint)


def _mebibytes(size: int) -> str:
    return f"{size / _MEBIBYTE:.1f} MiB"


def _as_record(image: Image, current: bool) -> dict[str, object]:
    return {
        "name": image.name,
        "content_hash": image.content_hash,
        "input_hash": image.input_hash,
        "current": current,
        "created": image.created,
        "form": image.form,
        "kernel_release": image.kernel_release,
        "command_line": image.command_line,
        "modules": list(image.modules),
        "packages": dict(image.packages),
        "kernel_packages": dict(image.kernel_packages),
        "tools": dict(image.tools),
        "size": image.size,
        "sizes": dict(image.sizes),
        "digests": dict(image.digests),
        "marking": sorted(image.marking),
        "folder": str(image.folder),
    }


def _latest(images: Sequence[tuple[Image, RecipeState]]) -> list[tuple[Image, RecipeState]]:
    """Of each name the current build, else the newest; `images` are by name, newest first."""
    latest: dict[str, tuple[Image, RecipeState]] = {}
    for image, state in images:
        if image.name not in latest or state == "current":
            latest[image.name] = image, state
    return list(latest.values())


def _tell_older(older: Sequence[Image]) -> None:
    if older:
        builds = "1 older build" if len(older) == 1 else f"{len(older)} older builds"
        size = _mebibytes(sum(image.size for image in older))
        note(f"Not shown: {builds}, {size}; --all shows all, pybench images rm --old removes them.")


def _tell_images(images: Sequence[tuple[Image, RecipeState]]) -> None:
    from rich.table import Table  # noqa: PLC0415 - slow to import

    if not images:
        note("No image is built.")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("image", "hash", "size", "form", "kernel", "built", "recipe"):
        table.add_column(heading, justify="right" if heading == "size" else "left", overflow="fold")
    for image, state in images:
        table.add_row(
            image.name,
            image.content_hash[:_HASH_DIGITS],
            _mebibytes(image.size),
            image.form or "directory",
            image.kernel_release or "-",
            image.created[:10],
            state,
        )
    console().print(table)
