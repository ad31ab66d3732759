"""How many containers a second, teardown included, and how many at once.

Run with `tox run -e benchmarks` on a quiet machine; with `-s` the figures are printed.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from pybench.runtime.container.cgroup.detect import detect
from pybench.runtime.container.container import Container
from pybench.runtime.container.sandbox import Sandbox, SandboxSpec
from pybench.runtime.container.spawn.spawner import Spawner
from pybench.runtime.journal import Journal

CONTAINERS = 100
RATE = 150
"""Starts per second on two processors."""
ALIVE = 500


def start(sandbox: Sandbox, count: int) -> list[Container]:
    """Start them one after the other."""
    return [sandbox.start(60) for _ in range(count)]


def stop(containers: list[Container]) -> None:
    """End them without grace."""
    for container in containers:
        container.stop(0)


def rate(sandboxes: list[Sandbox], count: int) -> tuple[float, float]:
    """Start containers in as many threads as there are sandboxes, all alive together, then stop all.

    Returns:
        Seconds until all are ready, and until all are gone.
    """
    share = count // len(sandboxes)
    begun = time.monotonic()
    with ThreadPoolExecutor(len(sandboxes)) as threads:
        started = list(threads.map(start, sandboxes, [share] * len(sandboxes)))
        ready = time.monotonic() - begun
        assert all(container.status is None for some in started for container in some)
        list(threads.map(stop, started))
    return ready, time.monotonic() - begun


@pytest.mark.parametrize("spawners", [1, 2, 4])
def test_rate_of_starts(journal: Journal, idle: SandboxSpec, spawners: int) -> None:
    """A hundred containers are started, alive together and gone at the rate that is promised."""
    with ExitStack() as stack:
        sandboxes = [
            stack.enter_context(Sandbox(stack.enter_context(Spawner(journal)), detect(), idle))
            for _ in range(spawners)
        ]
        rate(sandboxes, spawners)
        ready, gone = rate(sandboxes, CONTAINERS)
    made = CONTAINERS // spawners * spawners
    print(
        f"\n{spawners} spawning threads: {made / ready:.0f} starts/s until ready, "
        f"{made / gone:.0f}/s with teardown ({ready:.2f} s + {gone - ready:.2f} s)"
    )
    if spawners == 2:
        assert made / gone >= RATE


def test_many_alive_at_once(journal: Journal, idle: SandboxSpec) -> None:
    """Five hundred containers run at the same time, and all are gone afterwards."""
    with Spawner(journal) as spawner, Sandbox(spawner, detect(), idle) as sandbox:
        ready, gone = rate([sandbox], ALIVE)
    print(f"\n{ALIVE} alive after {ready:.2f} s, gone after {gone:.2f} s")
