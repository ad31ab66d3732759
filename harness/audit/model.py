"""The words of the audit as immutable values: probes, what is expected of them, and verdicts; no I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    from pybench.harness.audit.observation import Ground, Observation

Severity = Literal["critical", "high", "medium", "low"]
SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)
"""The worst first."""
Category = Literal[
    "pid",
    "uid",
    "network",
    "filesystem",
    "ipc",
    "limits",
    "time_and_kernel",
    "information",
    "devices",
    "descriptors",
    "machine",
]
CATEGORIES: Final[tuple[Category, ...]] = get_args(Category)
Kind = Literal["process", "chroot", "container", "strict", "privileged", "vm"]
"""Classes of targets, which differ in what is expected of them."""
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


class Outcome(StrEnum):
    """What follows from a probe."""

    ISOLATED = "isolated"
    LEAK = "leak"
    SHARED = "shared-by-design"
    NOT_APPLICABLE = "not-applicable"
    ERROR = "error"


_LETTERS: Final = {
    "L": Outcome.LEAK,
    "I": Outcome.ISOLATED,
    "S": Outcome.SHARED,
    "N": Outcome.NOT_APPLICABLE,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from one probe on one target, and why."""

    outcome: Outcome
    reason: str
    """One sentence."""
    evidence: tuple[str, ...] = ()
    """What was seen, and where; bounded and printable, but written by the guest."""

    @property
    def is_leak(self) -> bool:
        """Whether something was seen or affected that should not have been."""
        return self.outcome is Outcome.LEAK


def isolated(reason: str, *evidence: str) -> Verdict:
    """Nothing was seen, though it was there."""
    return Verdict(Outcome.ISOLATED, reason, evidence)


def leak(reason: str, *evidence: str) -> Verdict:
    """Something was seen or affected, and this is the proof."""
    return Verdict(Outcome.LEAK, reason, evidence)


def shared(reason: str, *evidence: str) -> Verdict:
    """It is the same for everybody because this kind of target is built so."""
    return Verdict(Outcome.SHARED, reason, evidence)


def not_applicable(reason: str) -> Verdict:
    """The question makes no sense here, or cannot be asked."""
    return Verdict(Outcome.NOT_APPLICABLE, reason)


def error(reason: str, *evidence: str) -> Verdict:
    """The probe failed, or one of its controls did; nothing is known."""
    return Verdict(Outcome.ERROR, reason, evidence)


@dataclass(frozen=True, slots=True)
class Expected:
    """The outcome to expect on each class of target; a prediction for readers, never part of a verdict."""

    by_kind: Mapping[Kind, Outcome]
    note: str = ""
    """Why it differs from what one would think."""

    @classmethod
    def of(
        cls, letters: str, *, chroot: str | None = None, strict: str | None = None, note: str = ""
    ) -> Expected:
        """From one letter each for process, container, privileged container and virtual machine.

        `L` leak, `I` isolated, `S` shared by design, `N` not applicable. A chroot is expected to be as the
        process, and the strict profile as the default one, unless they are named.

        Raises:
            ValueError: there are not four letters, or others.
        """
        process, container, privileged, machine = tuple(letters)
        named = {
            "process": process,
            "chroot": chroot or process,
            "container": container,
            "strict": strict or container,
            "privileged": privileged,
            "vm": machine,
        }
        if unknown := set(named.values()) - set(_LETTERS):
            raise ValueError(f"{letters}: no such letter as {min(unknown)}")
        return cls({kind: _LETTERS[named[kind]] for kind in KINDS}, note)

    def on(self, kind: Kind) -> Outcome:
        """What is expected on one class of target."""
        return self.by_kind[kind]


Parameters = Mapping[str, str | int | bool | list[str] | list[int]]
"""What the guest's part of a probe is told: never a token."""


Beside = Callable[["Ground"], AbstractContextManager[object]]
"""Entered before the payload runs, and left after it has ended."""


def no_parameters(_ground: Ground) -> Parameters:
    """For a probe whose guest part needs to know nothing."""
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One question about isolation, and everything that is needed to ask it."""

    id: str
    """Stable: a letter and a number."""
    title: str
    """What leaks if it leaks."""
    category: Category
    severity: Severity
    rationale: str
    """What an attacker makes of the leak."""
    handling: str
    """How each kind of sandbox handles it."""
    remediation: str
    """What to do about a leak."""
    references: tuple[str, ...]
    """Manual pages, advisories and addresses."""
    expected: Expected
    judge: Callable[[Observation], Verdict]
    canaries: tuple[str, ...] = ()
    """Names from `pybench.harness.audit.canaries`."""
    guest: bool = True
    """It has a part in the guest's payload, under its id; else the host finds out alone."""
    parameters: Callable[[Ground], Parameters] = no_parameters
    sibling: bool = False
    """It needs a second instance of the same target."""
    mutates: bool = False
    """Its guest part changes something; on targets with the host's namespaces it makes its own first."""
    seconds: float = 10.0
    """Its time limit in the guest; a busy host needs many times what a quiet one does."""
    watches: bool = False
    """Its guest part waits for what the host does, starts nothing and uses hardly any time: those of an audit
    are asked at once."""
    beside: Beside | None = None
    """What the host does or watches meanwhile, for `Observation.watched`; probes that have it share a run of
    the payload of their own."""
    consumes: bool = False
    """It uses up what others need, and so is asked only where something bounds what it can use."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A probe's verdict on one target."""

    probe: Probe
    target: str
    kind: Kind
    verdict: Verdict
    seconds: float = 0.0
    """What its guest part took, by the guest's own clock."""

    @property
    def is_expected(self) -> bool:
        """Whether it came out as predicted."""
        return self.verdict.outcome is self.probe.expected.on(self.kind)


@dataclass(frozen=True, slots=True)
class AuditedTarget:
    """A target that was audited: what must be said beside its verdicts."""

    label: str
    kind: Kind
    seconds: float
    qualifiers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of one audit."""

    image: str
    targets: tuple[AuditedTarget, ...]
    judged: tuple[Judged, ...]
    unplanted: Mapping[str, str] = field(default_factory=dict)
    """Canaries that could not be planted, and why."""
