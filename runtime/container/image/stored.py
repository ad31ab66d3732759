"""What the store holds: images as lists of layers, and layers as directories."""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Final

from pybench.runtime.container.image.layer import LayerFacts, Recorded
from pybench.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pybench.runtime.container.image.configuration import ImageConfiguration
    from pybench.runtime.container.image.digest import Digest

TREE: Final = "tree"
_FACTS: Final = "layer.json"
_RECORDED: Final = "owners.json"
_SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """One unpacked layer, shared by all images that have it; never written to."""

    diff_id: Digest
    folder: Path
    entries: int
    size: int
    """Bytes of all files, holes included."""
    opaque_root: bool
    """Nothing of the layers below shows."""

    @property
    def tree(self) -> Path:
        """The directory for overlayfs."""
        return self.folder / TREE

    def recorded(self) -> Mapping[str, Recorded]:
        """By path: owner, mode and capability of what an ordinary user could not unpack as it is."""
        rows = json.loads((self.folder / _RECORDED).read_text(encoding="ascii"))
        return {path: Recorded(*row) for path, row in rows.items()}


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image of the store."""

    name: str
    folder: Path
    configuration: ImageConfiguration
    configuration_content: bytes
    layers: tuple[StoredLayer, ...]
    """Lowest first."""

    @property
    def directories(self) -> tuple[Path, ...]:
        """What to give to overlayfs as lower directories: topmost first, none twice.

        overlayfs refuses the same directory twice, and the lower copy of a layer never shows. It does
        not know opaque roots, so the layers below one are left out. Empty for an image without layers.
        """
        found: dict[Path, None] = {}
        for layer in reversed(self.layers):
            found.setdefault(layer.tree)
            if layer.opaque_root:
                break
        return tuple(found)


def write_layer(folder: Path, facts: LayerFacts) -> None:
    """Write down what is known of a layer, beside its tree."""
    known = {
        "schema": _SCHEMA,
        "entries": facts.entries,
        "size": facts.size,
        "opaque_root": facts.opaque_root,
    }
    (folder / _FACTS).write_text(json.dumps(known), encoding="ascii")
    recorded = {path: astuple(record) for path, record in facts.recorded.items()}
    (folder / _RECORDED).write_text(json.dumps(recorded), encoding="ascii")


def read_layer(folder: Path, diff_id: Digest) -> StoredLayer:
    """The layer in a folder.

    Raises:
        InputError: it is gone, or was written by another version.
    """
    try:
        known = json.loads((folder / _FACTS).read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"the layer {diff_id} is not in {folder}", "import the image again") from error
    if known["schema"] != _SCHEMA:
        raise InputError(f"{folder / _FACTS} is of the unknown version {known['schema']}")
    return StoredLayer(diff_id, folder, known["entries"], known["size"], known["opaque_root"])
