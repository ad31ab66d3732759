"""More runs of a candidate's scenario, for a gate that could not tell; valid however often one looks.

Looking again whenever a result is not clear finds something in the end, whether anything is there or not. So
the number of looks is fixed before the first one, and each gets its share of the gate's rate (Bonferroni; for
the designs that this belongs to see Jennison and Turnbull, "Group Sequential Methods with Applications to
Clinical Trials", 1999, chapter 2): the probability of a false alarm at any of them stays below the rate,
whatever makes one stop. What was gathered is recorded as runs of its own, and is looked at again, in the same
order, when the same candidate is gated once more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pybench.harness.environment import mismatches
from pybench.harness.errors import InputError, PybenchError
from pybench.harness.revision import COMMIT, commit_of
from pybench.harness.store import RunFilter

if TYPE_CHECKING:
    from pathlib import Path

    from pybench.harness.model import Environment, Run, Sample, Scenario
    from pybench.harness.runner.execution import Tell
    from pybench.harness.runner.progress import Listener
    from pybench.harness.store import Store

LOOKS: Final = 4
"""At the candidate alone, and after each of at most three runs more."""
GATHERED_FOR: Final = "gate.gathered_for"
"""Field of the environment of such a run: the candidate."""
_SAME: Final = ("image.", "software.", COMMIT)
"""Beside what must match between nights: the very thing that is measured."""


class Gathering:
    """What is gathered for one candidate.

    Args:
        record: where the runs are kept.
        candidate: the run that the gate judges.
        scenario: loads what the candidate was a run of.
        results: the results folder.
        budget: seconds; no launch begins after them.
        tell: is told what is gathered, or why nothing is.
        progress: makes the listener of a run.
    """

    def __init__(
        self,
        record: Store,
        candidate: Run,
        scenario: Callable[[], Scenario],
        *,
        results: Path,
        budget: float,
        tell: Tell,
        progress: Callable[[], AbstractContextManager[Listener]],
    ) -> None:
        self._record = record
        self._candidate = candidate
        self._load = scenario
        self._results = results
        self._deadline = time.monotonic() + budget
        self._tell = tell
        self._progress = progress
        wanted = RunFilter(scenario=gathered_name(candidate.scenario))
        self._stored = [
            run
            for run in record.runs(wanted)
            if run.environment.fields.get(GATHERED_FOR) == candidate.id and run.status == "done"
        ]
        self.runs: list[str] = []
        """Those that were taken so far."""

    def more(self) -> Sequence[Sample] | None:
        """The samples of one run more; None if there may be no further look, or it cannot be measured now."""
        if len(self.runs) >= LOOKS - 1:
            return None
        if len(self.runs) < len(self._stored):
            return self._taken(self._stored[len(self.runs)].id)
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            self._tell("nothing more is gathered: the time for it is over")
            return None
        try:
            return self._measured(remaining)
        except PybenchError as error:
            self._tell(f"nothing more is gathered: {error.message}")
            return None

    def _measured(self, remaining: float) -> Sequence[Sample] | None:
        # Whoever only reads the record does not need what measures.
        from pybench.harness.runner.execution import host_for_itself, prepare  # noqa: PLC0415
        from pybench.harness.runner.preflight import check_host  # noqa: PLC0415

        scenario = self._load()
        if self._candidate.definition and scenario.definition != self._candidate.definition:
            raise InputError(f"{scenario.source}: the scenario is not what {self._candidate.id} measured")
        stop = scenario.schedule.stop
        limited = replace(stop, time=remaining if stop.time is None else min(stop.time, remaining))
        scenario = replace(
            scenario,
            name=gathered_name(scenario.name),
            schedule=replace(
                scenario.schedule, stop=limited, seed=scenario.schedule.seed + 1 + len(self.runs)
            ),
        )
        check_host(scenario)
        with host_for_itself(scenario, wait=False, tell=self._tell), self._progress() as listener:
            fields = {GATHERED_FOR: self._candidate.id, **commit_of(scenario)}
            prepared = prepare(scenario, self._candidate.command, fields, self._tell)
            self._check_same(prepared.run.environment)
            self._tell(f"gathering more for {self._candidate.id}: {prepared.run.id}")
            outcome = prepared.carry_out(self._record, self._results, listener)
        if outcome.status == "interrupted":
            raise KeyboardInterrupt
        return self._taken(prepared.run.id) if outcome.status == "done" else None

    def _check_same(self, now: Environment) -> None:
        """Refuse to mix what is not the same.

        Raises:
            InputError: host, software, images or the project have changed since.
        """
        then = self._candidate.environment
        changed = [str(each) for each in mismatches(then, now)]
        changed += [
            f"{name}: {then.fields[name]} ≠ {now.fields[name]}"
            for name in sorted(then.fields.keys() & now.fields.keys())
            if name.startswith(_SAME) and then.fields[name] != now.fields[name]
        ]
        if changed:
            raise InputError(f"since {self._candidate.id} this has changed: {'; '.join(changed[:3])}")

    def _taken(self, run: str) -> list[Sample]:
        self.runs.append(run)
        return self._record.samples(run)


def gathered_name(scenario: str) -> str:
    """What such runs are recorded as: never a baseline or a night of the scenario itself."""
    return f"{scenario}.gather"


def pooled(samples: Sequence[Sample], further: Sequence[Sample]) -> list[Sample]:
    """The samples of two runs as those of one, launches numbered through."""
    offset = max((sample.order for sample in samples), default=-1) + 1
    return [*samples, *(replace(sample, order=sample.order + offset) for sample in further)]
