"""Nights of one scenario in a record, for the tests of the gate; seeded, so always the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
from report_runs import make_run

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
