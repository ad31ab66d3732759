"""How a run stands against its past, as its report tells it."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from audit_samples import ISOLATED, LEAK, verdict
from gate_runs import launches, night_run, night_samples, samples_of

from pybench.harness.comparison.nights import Night
from pybench.harness.comparison.pace import Pace
from pybench.harness.gate.check import Finding, GateResult, GateSettings, Kind, Measured, gate
from pybench.harness.gate.standing import NO_PAST, Standing
from pybench.reports.colours import inks
from pybench.reports.history import History, history

CELL = ("ready", "container", "startup.ready", "s", "")
INKS = inks(["container"])


def told(result: GateResult) -> History:
    """The section on history of a run with this result."""
    found = history(Standing(night_run(1), (), result), INKS)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_of_finding_has_words(kind: Kind) -> None:
    """Whatever the gate finds is said in a sentence, with its reason where there is one."""
    result = GateResult("regression", (Finding(kind, CELL, "before", said="a <token>"),), (), (), ())
    (sentence,) = told(result).findings
    assert sentence.startswith("container, Start until ready (ready): ")
    assert sentence.endswith("a <token>.")


def test_a_new_leak_is_said_and_no_quantity() -> None:
    """A verdict that became a leak is a finding; verdicts are in no table of medians."""
    before = [*night_samples(1), verdict("container", "P1", ISOLATED, "nothing")]
    after = [*night_samples(2), verdict("container", "P1", LEAK, "pid 17 was seen")]
    result = gate(Measured("before", before), Measured("after", after), GateSettings())
    found = told(result)
    assert result.outcome == "regression"
    assert any("pid 17 was seen" in sentence for sentence in found.findings)
    assert {row.target for row in found.rows} == {"container"}
    assert len(found.rows) == 2


def test_worse_cells_stand_first_with_their_limit() -> None:
    """Shift, interval and limit of each cell, the ones for the worse before the others."""
    result = gate(
        Measured("before", night_samples(1)),
        Measured("after", night_samples(2, {"startup.ready": 1.3})),
        GateSettings(),
    )
    first, *others = told(result).rows
    assert (first.verdict, first.worse) == ("slower", True)
    assert "µs" in first.limit
    assert first.shift.startswith("+")
    assert not any(row.worse for row in others)


def test_a_shift_for_the_better_has_one_sign() -> None:
    """Less is a minus, and no plus before it."""
    faster = night_samples(2, {"startup.ready": 0.7})
    result = gate(Measured("before", night_samples(1)), Measured("after", faster), GateSettings())
    (row,) = (row for row in told(result).rows if row.verdict == "faster")
    assert row.shift.startswith("−")
    assert row.told_by == ""


def test_a_phase_that_tells_a_change_is_named() -> None:
    """In the finding and below the shift: the medians of the whole start may say something else."""
    generator = np.random.default_rng(3)
    before = Measured("a", samples_of(launches(generator)))
    after = Measured("b", samples_of(launches(generator, added={"exec": 80e-6})))
    result = gate(before, after, GateSettings())
    (cell,) = result.cells
    phased = replace(result, cells=(replace(cell, source="phase"),))
    (row,) = told(phased).rows
    assert row.told_by == "by the phase exec given the others"
    finding = Finding("regression", CELL, "a", phased.cells[0])
    (sentence,) = told(replace(phased, findings=(finding,))).findings
    assert sentence.replace("\u00a0", " ").endswith(
        "by more than the limit, by the phase exec given the others."
    )


def test_a_slower_host_is_said_before_the_findings() -> None:
    """Beside the outcome, on the page as in the text; nothing of it where both hosts were alike."""
    before = Measured("before", night_samples(1), Pace(17e-6, 1e-6))
    slowed = gate(before, Measured("after", night_samples(2), Pace(22e-6, 1e-6)), GateSettings())
    assert "29 % slower" in told(slowed).host.replace("\u00a0", " ")
    alike = gate(before, Measured("after", night_samples(2), Pace(17e-6, 2e-6)), GateSettings())
    assert not told(alike).host


def test_nothing_is_told_where_nothing_is_known() -> None:
    """Without a baseline and without a second run there is no section."""
    assert history(NO_PAST, INKS) is None
    assert history(Standing(series={CELL: [Night("one", 1.0, 0.1)]}), INKS) is None
