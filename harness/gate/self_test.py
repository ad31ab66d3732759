"""The proof that the gate works: regressions that are known to be there must be found, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pybench.harness.errors import InputError
from pybench.harness.gate.check import GateResult, GateSettings, Measured, gate
from pybench.harness.gate.injection import CONTROL, INJECTIONS, InjectedTarget, Injection

if TYPE_CHECKING:
    from pybench.harness.model import Sample
    from pybench.harness.targets.base import Target

REPETITIONS: Final = 60
WARMUPS: Final = 2
_DETERMINED: Final = frozenset({"warmups", "warmups_at_most", "stop"})
PRETENDED: Final[Mapping[str, Any]] = {
    "name": "self-test",
    "workloads": {"ready": {"image": "minimal", "command": ["/bin/workload", "ready"]}},
    "targets": {"mock": {"latency": "5ms"}},
    "measure": ["startup", "memory"],
}
"""A scenario that needs no privilege, no image and no time."""
_BY_NAME: Final = {injection.name: injection for injection in (CONTROL, *INJECTIONS)}


@dataclass(frozen=True, slots=True)
class Trial:
    """One injection on one target, and what the gate said of it."""

    target: str
    injection: Injection
    result: GateResult

    @property
    def passed(self) -> bool:
        """Whether a regression was found, or for the control none."""
        return (self.result.outcome == "regression") == (not self.injection.is_none)


def with_injections(
    data: Mapping[str, Any], targets: Sequence[str] = (), repetitions: int = REPETITIONS
) -> str:
    """The text of a scenario that has every chosen target once as it is and once with each injection.

    All of them alternate in one run, so that a host that drifts cannot be mistaken for a regression.

    Args:
        data: what a scenario file says.
        targets: labels of the targets to take; all of them when it is empty.
        repetitions: launches of each.

    Raises:
        InputError: a label is not that of a target.
    """
    described: Mapping[str, Any] = data["targets"]
    if unknown := [label for label in targets if label not in described]:
        raise InputError(f"target {unknown[0]!r} is not in the scenario", f"it has {', '.join(described)}")
    chosen: dict[str, Any] = {}
    for label in targets or described:
        options = {"kind": label, **(described[label] or {}), "repetitions": repetitions}
        chosen[label] = options
        chosen.update({f"{label}.{name}": options for name in _BY_NAME})
    # Of all sides as many launches, whatever the scenario would stop at.
    kept = {key: value for key, value in data.get("schedule", {}).items() if key not in _DETERMINED}
    return json.dumps({**data, "targets": chosen, "schedule": {**kept, "warmups": WARMUPS}})


def inject(target: Target, label: str) -> Target:
    """The target with the injection that its label ends with, if it does."""
    injection = _BY_NAME.get(label.rpartition(".")[2])
    return target if injection is None or "." not in label else InjectedTarget(target, injection)


def trials(samples: Sequence[Sample], settings: GateSettings) -> list[Trial]:
    """What the gate says of each injection, held against the same target without one."""
    by_label: dict[str, list[Sample]] = {}
    for sample in samples:
        by_label.setdefault(sample.target, []).append(sample)
    found = []
    for label, own in by_label.items():
        target, _, name = label.rpartition(".")
        if name in _BY_NAME and target in by_label and _can_show(_BY_NAME[name], own):
            # Under one label, as the same target of two runs would be.
            renamed = [replace(sample, target=target) for sample in own]
            result = gate(Measured("as it is", by_label[target]), Measured(name, renamed), settings)
            found.append(Trial(target, _BY_NAME[name], result))
    return sorted(found, key=lambda trial: (trial.target, list(_BY_NAME).index(trial.injection.name)))


def _can_show(injection: Injection, samples: Sequence[Sample]) -> bool:
    """Whether the target measures what the injection changes; a bare process has no group that is charged."""
    return not injection.memory or any(sample.metric == "memory.host.cgroup" for sample in samples)
