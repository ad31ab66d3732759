"""Layers: what many instances of one image take of disk and page cache together, and what copies would."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from pybench.harness.errors import InstanceError
from pybench.harness.fields import Argument
from pybench.harness.measure.base import ProcedureSettings, Reading
from pybench.harness.targets import MACHINES
from pybench.harness.targets.base import HasCommands, HasGuest
from pybench.runtime import page_cache
from pybench.runtime.output import printable

if TYPE_CHECKING:
    from pybench.harness.model import ParameterValue
    from pybench.harness.runner.bench import Bench
    from pybench.harness.targets.base import Instance

COMMAND_SECONDS: Final = 120.0
_MEMINFO: Final = ("/bin/cat", "/proc/meminfo")
_KIBIBYTE: Final = 1024
_PAGE: Final = 4096.0


class LayersSettings(ProcedureSettings):
    """Options of the measurement of layers."""

    instances: Annotated[int, Field(strict=True, ge=1, le=1000)] = 4
    """How many are alive together."""
    read: Annotated[list[Argument], Field(min_length=1, max_length=1000)]
    """A command that is run in each, and reads files of the image."""

    def expected_seconds(self, launch: float, parameters: Mapping[str, ParameterValue]) -> float:  # noqa: ARG002
        """A launch for each, and the reading."""
        return self.instances * (launch + 1)


def measure_layers(bench: Bench) -> None:
    """`layers.disk` and `layers.cache`, and both as they would be if every instance had files of its own.

    Disk counts the blocks of the files that the instances run from. The cache is what the host's kernel keeps
    of them, from nothing before the first start, and what each guest's own kernel keeps besides. The host's
    part is shared by all, so copies would take it once for each; a guest's is its own anyway.

    Raises:
        InstanceError: an instance cannot be started, or cannot run the command.
    """
    options = bench.options(LayersSettings)
    files = _files(bench)
    for path in files:
        page_cache.forget(path)
    instances = [bench.launch() for _ in range(options.instances)]
    for instance in instances:
        _run(instance, options.read)
    guests = sum(_guest_cache(instance) for instance in instances if isinstance(instance, HasGuest))
    disk = sum(page_cache.disk_bytes(path) for path in files)
    cached = sum(page_cache.cached_bytes(path) for path in files)
    count = len(instances)
    for metric, size, channel in (
        ("disk", disk, "blocks"),
        ("disk.copies", count * disk, "blocks"),
        ("cache", cached + guests, "page-cache"),
        ("cache.copies", count * cached + guests, "page-cache"),
        ("cache.guests", guests, "page-cache"),
    ):
        said = {"instances": str(count)}
        bench.record(
            Reading(f"layers.{metric}", "B", float(size), channel, _PAGE, error=0.0, qualifiers=said)
        )


def _files(bench: Bench) -> list[Path]:
    """What of the image's forms the target runs from."""
    from pybench import vm_images  # noqa: PLC0415 - only where it is measured

    image = vm_images.find(bench.workload.image)
    if bench.target.kind in MACHINES:
        places = [image.kernel, image.initramfs, *([image.disk] if image.disk else [])]
    else:
        places = [image.rootfs]
    return [path for place in places for path in page_cache.regular_files(place)]


def _run(instance: Instance, command: list[str] | tuple[str, ...]) -> bytes:
    if not isinstance(instance, HasCommands):
        raise InstanceError("no command can be run on this target")
    done = instance.execute(command, COMMAND_SECONDS)
    if done.status != 0:
        problem = printable(done.stderr[-1000:]).strip()
        raise InstanceError(f"{command[0]} ended with exit code {done.status}", log=problem)
    return done.stdout


def _guest_cache(instance: Instance) -> int:
    """Bytes that a guest's kernel keeps of files: `Cached` without `Shmem` (proc_meminfo(5))."""
    fields: dict[str, int] = {}
    for line in _run(instance, _MEMINFO).splitlines():
        name, _, rest = line.partition(b":")
        number = rest.split()[:1]
        if number and number[0].isdigit():
            fields[name.decode("ascii", "replace")] = min(int(number[0]), 1 << 40) * _KIBIBYTE
    return max(0, fields.get("Cached", 0) - fields.get("Shmem", 0))
