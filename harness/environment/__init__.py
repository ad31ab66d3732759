"""The fingerprint: what a number depends on beside the thing that is measured.

A field is left out where the host does not tell; it is never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from pybench.harness.model import Environment

MUST_MATCH: Final = (
    "host.machine",
    "host.kernel",
    "host.mitigation.",
    "host.cpu.model",
    "host.cpu.microcode",
    "host.cpu.count",
    "host.numa",
    "host.cgroup",
    "host.virtualization",
    "host.nesting",
    "host.container",
    "host.governor",
    "host.smt",
    "host.thp",
    "host.ksm",
    "host.clocksource",
    "host.user",
    "storage.images",
    "software.qemu",
    "software.libvirt",
)
"""Fields that must be equal before two runs may be compared; one that ends with a dot is a prefix of fields.

Each of them moves start-up times or memory by more than the differences people look for. Left out on
purpose are those that tell hosts apart without making them unlike (`host.name`, `host.boot`, the kernel's
command line, whose effect the mitigations show), memory that is not under pressure (`host.memory`), and what
is usually the very thing compared (`software.commit`, `image.*`).
"""


class ImageFacts(Protocol):
    """What the fingerprint tells of an image."""

    @property
    def content_hash(self) -> str:
        """SHA-256 of the root filesystem."""
        ...

    @property
    def kernel_release(self) -> str:
        """What the guest's `uname -r` says; may be empty."""
        ...

    @property
    def digests(self) -> Mapping[str, str]:
        """SHA-256 of the other forms, such as `kernel` and `initramfs`."""
        ...


def capture(kinds: Iterable[str], images: Mapping[str, ImageFacts]) -> Environment:
    """The fingerprint of this host, of the software that takes part, and of the images.

    Args:
        kinds: the kinds of the run's targets; what only a virtual machine needs is told only if one runs.
        images: the images by name.
    """
    # Two runs are held against each other without what it takes to look at a host.
    from pybench.harness.environment.host import host_fields  # noqa: PLC0415
    from pybench.harness.environment.software import software_fields  # noqa: PLC0415
    from pybench.harness.targets import MACHINES  # noqa: PLC0415

    fields: dict[str, str | None] = {
        **host_fields(),
        **software_fields(with_vm=not MACHINES.isdisjoint(kinds)),
    }
    for name, image in images.items():
        fields[f"image.{name}.hash"] = image.content_hash
        fields[f"image.{name}.kernel"] = image.kernel_release or None
        fields.update({f"image.{name}.{form}.hash": digest for form, digest in image.digests.items()})
    return Environment({name: value for name, value in fields.items() if value})


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One field in which two runs differ though it must be equal; None where a run does not tell it."""

    field: str
    baseline: str | None
    candidate: str | None

    def __str__(self) -> str:
        return f"{self.field}: {self.baseline or 'unknown'} ≠ {self.candidate or 'unknown'}"


def mismatches(baseline: Environment, candidate: Environment) -> tuple[Mismatch, ...]:
    """The fields of `MUST_MATCH` in which two fingerprints differ."""
    told = sorted({*baseline.fields, *candidate.fields})
    names: list[str] = []
    for rule in MUST_MATCH:
        names += [name for name in told if name.startswith(rule)] if rule.endswith(".") else [rule]
    found = [Mismatch(name, baseline.fields.get(name), candidate.fields.get(name)) for name in names]
    return tuple(each for each in found if each.baseline != each.candidate)
