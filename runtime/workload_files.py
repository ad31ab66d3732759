"""A file that a workload finds in its image, in the words that every target shares."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkloadFile:
    """A file that a workload finds in its image: a text of the scenario, or a copy of a file beside it."""

    path: str
    """Absolute, inside the image."""
    content: bytes
    mode: int = 0o644
