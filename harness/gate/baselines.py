"""Which runs a candidate is held against."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from pybench.harness.comparison.nights import Night, Series
from pybench.harness.comparison.pace import Pace
from pybench.harness.conditions import PACE
from pybench.harness.environment import Mismatch, mismatches
from pybench.harness.errors import InputError
from pybench.harness.stats import CellKey, cells, measured
from pybench.harness.store import BRANCH, RunFilter

if TYPE_CHECKING:
    from pybench.harness.model import Run, Sample
    from pybench.harness.store import Store

USUAL_BASELINE: Final = "main"
WINDOW: Final = 60
"""Runs that the check of the level looks back over."""


def pace_in(record: Store, *runs: str) -> Pace | None:
    """The host's pace in some runs taken together; None if nothing is known of it."""
    return Pace.of([pace for paces in record.condition(runs, PACE).values() for pace in paces])


def baseline_run(record: Store, name: str, candidate: Run) -> Run:
    """The run that a baseline's name means for this candidate.

    A tag and an id mean their run. A branch means the newest run of the candidate's scenario on it that
    was finished and started before the candidate, of an environment like the candidate's if there is one.

    Raises:
        InputError: there is no such run, it is the candidate itself, or it is of another scenario.
    """
    on_branch = [
        run
        for run in record.runs(RunFilter(scenario=candidate.scenario, branch=name, until=candidate.started))
        if run.status == "done" and run.id != candidate.id
    ]
    if name not in record.tags.current() and on_branch:
        alike = [run for run in on_branch if not mismatches(run.environment, candidate.environment)]
        return (alike or on_branch)[-1]
    found = record.run(name)
    if found.id == candidate.id:
        raise InputError(
            f"the baseline {name!r} is the candidate itself",
            "name an earlier run, or give one a tag: `pybench history` lists them",
        )
    if found.scenario != candidate.scenario:
        raise InputError(
            f"{found.id} is a run of the scenario {found.scenario}, {candidate.id} of {candidate.scenario}",
            "name a candidate of the same scenario: pybench gate RUN --baseline NAME",
        )
    return found


def awaited(record: Store, name: str, candidate: Run) -> str:
    """Why a candidate has no baseline yet though nobody made a mistake; empty where there should be one.

    Nothing is to be compared with the first run of a scenario, nor where the branch that is the baseline has
    no run of it yet. A branch is known by its runs; `main` is one that everybody may wait for.
    """
    wanted = RunFilter(scenario=candidate.scenario, until=candidate.started)
    earlier = [run for run in record.runs(wanted) if run.status == "done" and run.id != candidate.id]
    if not earlier:
        return "the first run of this scenario: there is nothing to compare it with"
    if name in record.tags.current() or any(branch_of(run) == name for run in earlier):
        return ""
    if name == USUAL_BASELINE or record.runs(RunFilter(branch=name, newest=1)):
        return f"no run of this scenario on the branch {name} yet: there is nothing to compare it with"
    return ""


def branch_of(run: Run) -> str:
    """The branch that a run is of; empty where it is of none."""
    return run.environment.fields.get(BRANCH, "")


def older_baseline(
    record: Store, name: str, baseline: Run, candidate: Run, allowed: Collection[str]
) -> Run | None:
    """The oldest earlier baseline that the candidate may be compared with, or None.

    For a tag they are the runs that it named before, for a branch its earlier runs.
    """
    earlier = record.tags.earlier(name)
    wanted = RunFilter(scenario=candidate.scenario, until=baseline.started)
    for run in record.runs(wanted):
        of_branch = not earlier and branch_of(run) == name
        if (
            (run.id in earlier or of_branch)
            and run.status == "done"
            and not refused(mismatches(run.environment, candidate.environment), allowed)
        ):
            return run
    return None


def series(  # noqa: PLR0917 - what each of them is stands in its type
    record: Store,
    candidate: Run,
    samples: Sequence[Sample],
    metrics: Collection[str],
    allowed: Collection[str],
    branch: str | None = None,
) -> Series:
    """What the runs before a candidate were like, on a branch and on its host, with its own as the last.

    Without a branch it is the candidate's.
    """
    wanted = RunFilter(
        scenario=candidate.scenario,
        branch=branch_of(candidate) if branch is None else branch,
        until=candidate.started,
        newest=WINDOW,
    )
    before = [
        run.id
        for run in record.runs(wanted)
        if run.status == "done"
        and run.id != candidate.id
        and not refused(mismatches(run.environment, candidate.environment), allowed)
    ]
    paces = {
        run_id: Pace.of(each) for run_id, each in record.condition([*before, candidate.id], PACE).items()
    }
    found: dict[CellKey, list[Night]] = {}
    for metric in metrics:
        values = record.values(before, metric)
        for run_id in before:
            for (workload, target, unit, label), numbers in values.get(run_id, {}).items():
                cell = (workload, target, metric, unit, label)
                found.setdefault(cell, []).append(Night.of(run_id, cell, numbers, paces.get(run_id)))
    if not found:
        return {}
    own = {cell: measured(each) for cell, each in cells(samples).items()}
    return {
        cell: [*nights, Night.of(candidate.id, cell, own[cell].tolist(), paces.get(candidate.id))]
        for cell, nights in found.items()
        if cell in own and len(own[cell])
    }


def refused(differences: Sequence[Mismatch], allowed: Collection[str]) -> list[Mismatch]:
    """The differences that are not allowed."""
    return [each for each in differences if each.field not in allowed]
