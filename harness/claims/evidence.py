"""The samples of a run as claims ask for them: figures by kind of target, and verdicts of the audit.

Which kind of target a sample is of is read off its label: `container` and `container-…` are containers, but
those that are privileged on purpose prove nothing about containers; `vm` and `vm-…` are machines that booted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from pybench.harness.gate.verdicts import ERROR, PREFIX, UNIT, VERDICT
from pybench.harness.units import format_value

if TYPE_CHECKING:
    from pybench.harness.model import Estimate, Sample

PRIVILEGED: Final = "privileged"
RESTORED: Final = "vm-restore"
LONGEST_REASON: Final = 160


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe of the audit found on one target."""

    target: str
    probe: str
    outcome: str
    reason: str
    """In one line, bounded: it may quote what a guest said."""

    @property
    def text(self) -> str:
        """`P1 on container: isolated`."""
        return f"{self.probe} on {self.target}: {self.outcome}"


class Evidence:
    """Everything that was measured in one run."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    @cached_property
    def _estimates(self) -> list[Estimate]:
        from pybench.harness.stats import estimates  # noqa: PLC0415 - numpy is slow to import

        return [each for each in estimates(self._samples) if each.n]

    def figures(self, metric: str, kind: str) -> list[Estimate]:
        """The cells of a metric on all targets of a kind, in which something counts."""
        return [each for each in self._estimates if each.metric == metric and is_of(each.target, kind)]

    def figure(self, metric: str, kind: str) -> Estimate | None:
        """The first of them: that of the workload and target which the scenario has first."""
        return next(iter(self.figures(metric, kind)), None)

    def phases(self, kind: str) -> list[Estimate]:
        """The phases of a start on targets of a kind."""
        return [
            each
            for each in self._estimates
            if each.metric.startswith("startup.phase.") and is_of(each.target, kind)
        ]

    def answers(self, probes: Iterable[str], kind: str) -> list[Answer]:
        """What the audit found with some probes on targets of a kind, as the probes are named."""
        wanted = list(probes)
        found = [each for each in self._answers() if each.probe in wanted and is_of(each.target, kind)]
        return sorted(found, key=lambda each: (each.target, wanted.index(each.probe)))

    def _answers(self) -> Iterator[Answer]:
        for sample in self._samples:
            if sample.metric.startswith(PREFIX) and sample.unit == UNIT and not sample.warmup:
                reason = " ".join(sample.reason.split("\n", 1)[0].split())[:LONGEST_REASON]
                outcome = sample.qualifiers.get(VERDICT, ERROR)
                yield Answer(sample.target, sample.metric.removeprefix(PREFIX), outcome, reason)


def is_of(label: str, kind: str) -> bool:
    """Whether a target with this label is of a kind, and stands for it."""
    if label == RESTORED or PRIVILEGED in label:
        return label == kind
    return label == kind or label.startswith(f"{kind}-")


def told(estimate: Estimate) -> str:
    """`container 1.52 ms (95 % 1.49 ms to 1.55 ms, n = 30)`, and that a machine is emulated if it is."""
    emulated = ", TCG emulation" if is_emulated(estimate) else ""
    median = format_value(estimate.median, estimate.unit)
    if estimate.n == 1:
        return f"{estimate.target} {median} (n = 1{emulated})"
    low, high = (format_value(each, estimate.unit) for each in (estimate.ci_low, estimate.ci_high))
    return (
        f"{estimate.target} {median} ({estimate.confidence:.0%} {low} to {high}, n = {estimate.n}{emulated})"
    )


def is_emulated(estimate: Estimate) -> bool:
    """Whether the machine's processor was emulated."""
    return estimate.qualifiers.get("accel") == "tcg"
