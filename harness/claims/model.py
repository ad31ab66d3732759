"""What a claim is, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pybench.harness.claims.evidence import Evidence


class Verdict(Enum):
    """What measurements make of a claim."""

    CONFIRMED = "confirmed"
    LIMITED = "confirmed with limits"
    REFUTED = "refuted"
    UNDECIDED = "undecided"
    """What it takes to judge was not measured, or could not be."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What speaks for or against a claim."""

    verdict: Verdict
    evidence: tuple[str, ...]
    """Sentences with figures, their intervals and numbers of samples."""
    limits: tuple[str, ...] = ()
    """What has to be said with it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that people are told about containers and virtual machines."""

    name: str
    sentence: str
    judge: Callable[[Evidence], Finding]


@dataclass(frozen=True, slots=True)
class Judged:
    """A claim with what was found."""

    name: str
    sentence: str
    finding: Finding

    @property
    def verdict(self) -> Verdict:
        """Of what was found."""
        return self.finding.verdict


def undecided(*reasons: str) -> Finding:
    """The finding where something is missing."""
    return Finding(Verdict.UNDECIDED, reasons)


def judged_by(confirmed: bool, evidence: tuple[str, ...], limits: tuple[str, ...] = ()) -> Finding:
    """Confirmed, with limits if there are any, or refuted."""
    if not confirmed:
        return Finding(Verdict.REFUTED, evidence, limits)
    return Finding(Verdict.LIMITED if limits else Verdict.CONFIRMED, evidence, limits)
