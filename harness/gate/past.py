"""What the record says of the past of a run."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from pybench.harness.comparability import mismatched_qualifiers
from pybench.harness.comparison.limits import Limits
from pybench.harness.environment import mismatches
from pybench.harness.errors import PybenchError
from pybench.harness.gate.baselines import USUAL_BASELINE, baseline_run, pace_in, series
from pybench.harness.gate.check import GateSettings, gate
from pybench.harness.gate.judgement import Recorded, learnt
from pybench.harness.gate.standing import Standing
from pybench.harness.store import RunFilter

if TYPE_CHECKING:
    from pybench.harness.model import Run, Sample
    from pybench.harness.store import Store


def standing(record: Store, candidate: Run, samples: Sequence[Sample], baseline: str = "") -> Standing:
    """How a run stands against its baseline and against the runs before it.

    Args:
        record: where its past is.
        candidate: the run.
        samples: all of its samples.
        baseline: a run, tag or branch; without it, what `main` means, or else the finished run of the
            scenario that was started last before the candidate.

    Raises:
        InputError: the baseline that was asked for does not exist, or cannot be one.
    """
    settings = GateSettings(limits=_limits(candidate))
    metrics = set(filter(settings.gates, set(map(attrgetter("metric"), samples))))
    level = series(record, candidate, samples, metrics, ())
    wanted = RunFilter(scenario=candidate.scenario)
    started = {run.id: run.started for run in record.runs(wanted)}
    before = _baseline(record, candidate, baseline)
    if before is None:
        return Standing(series=level, started=started)
    earlier = Recorded.of(record, before)
    now = Recorded(candidate, samples, pace_in(record, candidate.id))
    differences = [
        *mismatches(before.environment, candidate.environment),
        *mismatched_qualifiers(earlier.samples, samples),
    ]
    if differences:
        return Standing(before, tuple(each.field for each in differences), None, level, started)
    settings = learnt(settings, record, earlier, now, level=level)
    result = gate(earlier.measured, now.measured, settings, series=level)
    return Standing(before, (), result, level, started)


def _baseline(record: Store, candidate: Run, name: str) -> Run | None:
    if name:
        return baseline_run(record, name, candidate)
    try:
        usual = baseline_run(record, USUAL_BASELINE, candidate)
    except PybenchError:
        usual = None
    if usual is not None and usual.started < candidate.started:
        return usual
    wanted = RunFilter(scenario=candidate.scenario, until=candidate.started)
    earlier = [run for run in record.runs(wanted) if run.status == "done" and run.id != candidate.id]
    alike = [run for run in earlier if not mismatches(run.environment, candidate.environment)]
    found = alike or earlier
    return found[-1] if found else None


def _limits(candidate: Run) -> Limits:
    """Those of its scenario; a text that cannot be read as one, such as an imported run's, has none."""
    if "gate" not in candidate.definition:
        return Limits()
    from pybench.harness.gate.limits import scenario_limits  # noqa: PLC0415 - loads the scenario language

    try:
        return scenario_limits(candidate.source, candidate.definition) or Limits()
    except PybenchError:
        return Limits()
