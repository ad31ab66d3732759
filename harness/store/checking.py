"""A record read whole: what is damaged in it, and what can be saved from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pybench.harness.errors import InputError

if TYPE_CHECKING:
    from pybench.harness.store.record import Store


@dataclass(frozen=True, slots=True)
class CheckedRun:
    """One run that was read."""

    id: str
    samples: int
    problem: str = ""
    """Why it cannot be read; empty if it can."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A record that was read."""

    damage: tuple[str, ...]
    """Of the file's structure, or what keeps the runs from being listed."""
    runs: tuple[CheckedRun, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.damage and not any(run.problem for run in self.runs)


def check(store: Store, rescued: Store | None = None) -> Checked:
    """Read everything that a record has.

    Args:
        store: the record; it is not changed.
        rescued: gets every run that can be read, with its samples, conditions, tags and notes.

    Raises:
        HostError: `rescued` cannot be written, or a server cannot be reached.
    """
    damage = []
    try:
        damage += store.damage()
    except InputError as error:
        damage.append(error.message)
    try:
        ids = store.ids()
    except InputError as error:
        damage.append(error.message)
        ids = []
    return Checked(tuple(damage), tuple(_checked(store, run_id, rescued) for run_id in ids))


def _checked(store: Store, run_id: str, rescued: Store | None) -> CheckedRun:
    try:
        run, samples, conditions = store.run(run_id), store.samples(run_id), store.conditions(run_id)
        tags, notes = store.tags.of_run(run_id), store.tags.notes([run_id])
    except InputError as error:
        return CheckedRun(run_id, 0, error.message)
    if rescued is not None:
        rescued.put_run(run, samples, conditions)
        rescued.tags.take_over(tags, notes)
    return CheckedRun(run_id, len(samples))
