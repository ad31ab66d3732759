"""What the host does by lot is found in figures that follow it, and in no others."""

from __future__ import annotations

import random

import pytest

from pybench.harness.audit.perturbation import PACE_SECONDS, READINGS, SLOT_SECONDS, Perturbation

CLOCKS_APART = 1234.5
"""Seconds: the guest's clock is another one."""


def seeded(seed: int) -> random.Random:
    """A generator for a test that is the same each time."""
    return random.Random(seed)  # noqa: S311 - nothing is kept secret by it


def done(generator: random.Random) -> Perturbation:
    """What a worker does in five seconds on a host that lets it wait now and then."""
    made, now = Perturbation(), 100.0
    while now < 105:
        made.began.append(now)
        made.busy.append(generator.random() < 0.5)
        now += SLOT_SECONDS * (1 if generator.random() < 0.9 else generator.uniform(1, 4))
    return made


def read_at(generator: random.Random) -> list[float]:
    """When a guest reads, by the host's clock; now and then late."""
    begins = 100 + generator.uniform(0, 2)
    times: list[float] = []
    for number in range(READINGS):
        late = generator.uniform(0, 0.03) if generator.random() < 0.1 else 0.0
        times.append(max([*times[-1:], begins + number * PACE_SECONDS + late]))
    return times


def state(made: Perturbation, at: float) -> bool:
    """Whether the host was busy."""
    return next(
        busy for began, busy in zip(reversed(made.began), reversed(made.busy), strict=True) if began <= at
    )


def by_guest(times: list[float]) -> list[float]:
    """The same instants by the guest's clock."""
    return [at - CLOCKS_APART for at in times]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("noise", [0.0, 100.0, 200.0])
def test_a_level_that_follows_the_host_is_found(seed: int, noise: float) -> None:
    """Whenever the guest begins to read, and beneath noise and a drift."""
    generator = seeded(seed)
    made, times = done(generator), read_at(generator)
    figures = [
        800.0 * state(made, at) + generator.gauss(0, noise) + 20 * place for place, at in enumerate(times)
    ]
    scores, bound = made.scores(by_guest(times), {"level": figures})
    assert scores["level"] > bound


def test_a_counter_that_follows_the_host_is_found() -> None:
    """One that only grows, faster while the host is busy."""
    generator = seeded(7)
    made, times, total, figures = done(generator), read_at(generator), 1e9, []
    for at in times:
        total += 50 + generator.random() * 20 + 200 * state(made, at)
        figures.append(total)
    scores, bound = made.scores(by_guest(times), {"counter": figures})
    assert scores["counter"] > bound


@pytest.mark.parametrize("seed", range(40))
def test_figures_of_others_do_not_follow_it(seed: int) -> None:
    """Neither noise, nor a walk, nor work of their own, nor what never moves."""
    generator = seeded(seed)
    made, other, times = done(generator), done(generator), read_at(generator)
    walk = [0.0]
    for _ in times[1:]:
        walk.append(walk[-1] + generator.gauss(0, 1))
    series = {
        "walk": walk,
        "noise": [generator.gauss(0, 1) for _ in times],
        "own work": [float(state(other, at)) for at in times],
        "alternating": [float(place % 2) for place in range(len(times))],
        "constant": [7.0] * len(times),
    }
    scores, bound = made.scores(by_guest(times), series)
    assert max(scores.values()) <= bound


def test_too_little_proves_nothing() -> None:
    """Neither readings that last longer than the work, nor none, nor work that was not done."""
    made = done(seeded(1))
    assert made.scores([0.0, 900.0], {"two": [1.0, 2.0]})[0] == {"two": 0.0}
    assert made.scores([], {"none": []})[0] == {"none": 0.0}
    assert Perturbation().scores([0.0, 0.1], {"two": [1.0, 2.0]})[0] == {"two": 0.0}
