"""Runs and samples that look like real ones, for the tests of reports; seeded, so always the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pybench.harness.model import Environment, Run, RunStatus, Sample

HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "\u202etxt.exe\x1b[31m\u2028{{ 7 * 7 }}\n=cmd|' /C calc'!A0 <b>bold</b> " + "A" * 10_000
)
IMAGE = "sha256:3f1c9d0a7be24d55"

PHASES: Mapping[str, Mapping[str, float]] = {
    "process": {"exec": 0.00085, "ready": 0.00015},
    "floor": {"exec": 0.00165, "ready": 0.00015},
    "container": {"sandbox": 0.0021, "exec": 0.00055, "ready": 0.00035},
    "vm": {"vmm": 0.36, "kernel": 1.72, "sandbox": 0.05, "exec": 0.12, "ready": 0.05},
}
"""Medians in seconds of each target's phases, in the order of its marks."""

QUALIFIERS: Mapping[str, Mapping[str, str]] = {
    "process": {"image": IMAGE},
    "floor": {"image": IMAGE},
    "container": {"image": IMAGE, "cgroup": "v1", "net": "none"},
    "vm": {"image": IMAGE, "accel": "tcg", "machine": "q35"},
}
CHANNELS = {"vm": ("isa-serial", 2e-4)}
MEMORY = {"process": 410e3, "floor": 415e3, "container": 760e3, "vm": 191e6}
REPETITIONS = {"process": 40, "floor": 40, "container": 40, "vm": 12}


def make_run(status: RunStatus = "done", **changes: str) -> Run:
    """A finished run of the start-up scenario."""
    values = {
        "id": "20260731T101500Z-startup-7f3a",
        "scenario": "startup",
        "source": "scenarios/startup.yaml",
        "started": "2026-07-31T10:15:00Z",
        "command": "pybench run scenarios/startup.yaml --seed 1",
        "definition": "name: startup\ntargets:\n  - process\n  - container\n  - vm\n",
        **changes,
    }
    fields = {
        "host.kernel": "6.18.0",
        "host.cpu.model": "Some processor at 2.60 GHz",
        "host.cpu.count": "2",
        "host.memory": "24 GiB",
        "qemu.version": "7.2.19",
        "libvirt.version": "9.0.0",
        "image.minimal.hash": IMAGE,
        "python.version": "3.11.2",
    }
    return Run(finished="2026-07-31T10:16:12Z", status=status, environment=Environment(fields), **values)


def make_samples(
    repetitions: Mapping[str, int] = REPETITIONS, *, workload: str = "hello", warmups: int = 1, seed: int = 1
) -> list[Sample]:
    """Start-up, teardown and memory of each target in `repetitions`, interleaved, with lognormal noise."""
    random = np.random.default_rng(seed)
    samples: list[Sample] = []
    order = 0
    for repetition in range(-warmups, max(repetitions.values(), default=0)):
        for target, number in repetitions.items():
            if repetition < number:
                samples += _launch(
                    random, workload, target, repetition=repetition, order=order, warmups=warmups
                )
                order += 1
    return samples


def failed_sample(target: str, reason: str, *, order: int = 900, workload: str = "hello") -> Sample:
    """The record of a launch that failed."""
    return Sample(
        workload=workload,
        target=target,
        metric="startup.ready",
        unit="s",
        value=None,
        repetition=order,
        warmup=False,
        order=order,
        channel="call",
        resolution=0.0,
        qualifiers=QUALIFIERS.get(target, {}),
        status="failed",
        reason=reason,
    )


def value_sample(
    target: str, value: float, *, order: int = 0, metric: str = "startup.ready", **more: str
) -> Sample:
    """One sample that counts; `more` are its qualifiers."""
    return Sample("hello", target, metric, "s", value, order, False, order, "mark-pipe", 1e-6, more)


def _launch(
    random: np.random.Generator, workload: str, target: str, *, repetition: int, order: int, warmups: int
) -> Sequence[Sample]:
    slow_cache = 1.6 if repetition < 0 else 1.0
    phases = {
        name: middle * slow_cache * float(random.lognormal(0, 0.05 if target == "vm" else 0.14))
        for name, middle in PHASES[target].items()
    }
    total = sum(phases.values())
    metrics = {
        "startup.exec": ("s", total - phases["ready"]),
        "startup.ready": ("s", total),
        **{f"startup.phase.{name}": ("s", value) for name, value in phases.items()},
        "teardown": ("s", (0.21 if target == "vm" else 0.0009) * float(random.lognormal(0, 0.2))),
        "memory.host.pss": ("B", MEMORY[target] * float(random.lognormal(0, 0.01))),
    }
    channel, resolution = CHANNELS.get(target, ("mark-pipe", 2e-6))
    return [
        Sample(
            workload=workload,
            target=target,
            metric=metric,
            unit=unit,
            value=value,
            repetition=repetition if repetition >= 0 else repetition + warmups,
            warmup=repetition < 0,
            order=order,
            channel="smaps_rollup" if unit == "B" else channel,
            resolution=1024.0 if unit == "B" else resolution,
            qualifiers=QUALIFIERS[target],
        )
        for metric, (unit, value) in metrics.items()
    ]
