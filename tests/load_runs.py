"""Samples of the measurements that go through something by themselves, for the tests of reports; seeded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from pybench.harness.model import ParameterValue, Sample

QUALIFIERS: Mapping[str, Mapping[str, str]] = {"process": {}, "container": {}, "vm": {"accel": "tcg"}}
MEMORY = {"process": 4e5, "container": 9e5, "vm": 1.9e8}
START = {"process": 1e-3, "container": 3e-3, "vm": 2.0}
SPEED = {"process": 1.0, "container": 0.97, "vm": 0.11}


def _sample(  # noqa: PLR0917 - a row of a table
    target: str, metric: str, unit: str, value: float, order: int, at: Mapping[str, ParameterValue]
) -> Sample:
    return Sample(
        "load",
        target,
        metric,
        unit,
        value,
        order,
        False,
        order,
        "smaps",
        0.0,
        QUALIFIERS[target],
        parameters=at,
    )


def density_samples(ramps: int = 3, most: int = 8) -> Iterator[Sample]:
    """Ramps of each target: memory and start over the number of instances, with what a line says."""
    random = np.random.default_rng(1)
    for target, each in MEMORY.items():
        for ramp in range(ramps):
            order = 10 * ramp
            for number in range(1, most + 1):
                at = {"instances": number}
                noise = float(random.lognormal(0, 0.02))
                yield _sample(target, "density.memory", "B", each * number * noise, order, at)
                yield _sample(
                    target, "density.start", "s", START[target] * (1 + number / 40) * noise, order, at
                )
            slope = each * float(random.lognormal(0, 0.01))
            yield _sample(target, "density.memory.each", "B", slope, order, {})
            yield _sample(target, "density.memory.each.low", "B", slope * 0.9, order, {})
            yield _sample(target, "density.predicted.start", "", 5.0 / START[target], order, {})
            yield _sample(target, "density.instances", "", float(most), order, {})


def throughput_samples(repetitions: int = 6) -> Iterator[Sample]:
    """Rates of two kinds of work, on every target."""
    random = np.random.default_rng(2)
    for target, speed in SPEED.items():
        for order in range(repetitions):
            for metric, unit, base in (
                ("throughput.cpu", "1/s", 1e9),
                ("throughput.memory.read", "B/s", 1e10),
            ):
                yield _sample(
                    target, metric, unit, base * speed * float(random.lognormal(0, 0.02)), order, {}
                )


def interference_samples(repetitions: int = 2) -> Iterator[Sample]:
    """Latency alone and beside two neighbours."""
    for target, factor in (("process", 3.0), ("container", 2.0), ("vm", 1.2)):
        for order in range(repetitions):
            for name, slower in (("none", 1.0), ("cpu", factor), ("disk", 1.1)):
                value = START[target] * slower * (1 + order / 100)
                yield _sample(target, "interference.latency.p95", "s", value, order, {"neighbour": name})
                if name != "none":
                    yield _sample(target, "interference.slowdown", "", slower, order, {"neighbour": name})


def load_samples() -> list[Sample]:
    """All of them."""
    return [*density_samples(), *throughput_samples(), *interference_samples()]
