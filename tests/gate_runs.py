"""Nights of one scenario in a record, for the tests of the gate; seeded, so always the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from report_runs import make_run

from pybench.harness.comparison.phases import Phases
from pybench.harness.conditions import PACE
from pybench.harness.model import Conditions, Environment, Run, Sample
from pybench.harness.store import Store, timestamp

FIRST = datetime(2026, 1, 1, 22, tzinfo=UTC)
ENVIRONMENT = {"host.name": "alpha", "host.kernel": "6.1", "source.branch": "main"}
BASE = {
    ("startup.ready", "s"): 1.5e-3,
    ("startup.phase.exec", "s"): 1.2e-3,
    ("startup.phase.ready", "s"): 0.3e-3,
    ("memory.host.cgroup", "B"): 700e3,
}
"""Medians of one container."""


MEDIANS = {"clone": 750e-6, "identity": 260e-6, "sandbox": 400e-6, "exec": 160e-6}
"""Of a container's start."""
START = sum(MEDIANS.values())


def launches(
    generator: np.random.Generator, n: int = 60, added: Mapping[str, float] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Phases that one neighbour disturbs together, heavily now and then, and each a little by itself."""
    disturbed = np.exp(generator.gamma(1.0, 0.2, n))
    return {
        name: median * disturbed * generator.lognormal(0, 0.05, n) + (added or {}).get(name, 0.0)
        for name, median in MEDIANS.items()
    }


def samples_of(phases: Phases) -> list[Sample]:
    """A run of one container: its phases and the start that they add up to."""
    columns = {f"startup.phase.{name}": values for name, values in phases.items()}
    columns["startup.ready"] = np.sum(list(phases.values()), axis=0)
    return [
        Sample("ready", "container", metric, "s", float(value), at, False, at, "pipe", 1e-6, {})
        for metric, values in columns.items()
        for at, value in enumerate(values)
    ]


def night_samples(
    seed: int, factors: Mapping[str, float] | None = None, *, n: int = 60, spread: float = 0.03
) -> list[Sample]:
    """The samples of one night; each metric multiplied by its factor, with lognormal noise."""
    generator = np.random.default_rng(seed)
    samples = []
    for (metric, unit), middle in BASE.items():
        width = spread if unit == "s" else 0.002
        values = middle * (factors or {}).get(metric, 1.0) * generator.lognormal(0, width, n)
        samples += [
            Sample("ready", "container", metric, unit, float(value), at, False, at, "pipe", 1e-6, {})
            for at, value in enumerate(values)
        ]
    return samples


def night_run(number: int, **fields: str) -> Run:
    """A finished run, one a day."""
    started = FIRST + timedelta(days=number)
    return replace(
        make_run(id=f"night-{number:02}", started=timestamp(started), definition="name: startup\n"),
        environment=Environment({**ENVIRONMENT, **fields}),
    )


def store_night(store: Store, number: int, factors: Mapping[str, float] | None = None, **fields: str) -> None:
    """One night in the record."""
    run = night_run(number, **fields)
    store.begin_run(run)
    store.add_samples(run.id, night_samples(number, factors))


def store_paced_night(store: Store, number: int, factors: Mapping[str, float], pace: float) -> None:
    """One night before whose first launch the host had this pace, in seconds."""
    run = night_run(number)
    store.put_run(run, night_samples(number, factors), [Conditions(0, {PACE: pace})])
