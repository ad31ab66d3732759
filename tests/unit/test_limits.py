"""Limits are read as people write them, and what is no limit is told at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybench.harness.comparison.limits import DEFAULTS, Limit
from pybench.harness.errors import InputError
from pybench.harness.gate.limits import read_limits, scenario_limits

TEXT = """\
relative: 4%
absolute: {s: 50us, B: 1MiB}
metrics:
  startup.ready: {relative: 0.02}
  memory.host.pss: {maximum: 8MiB}
cells:
  - {workload: ready, target: vm, metric: startup.ready, relative: 10%, absolute: 1ms}
  - {workload: ready, target: vm, metric: startup.ready, parameters: memory=1GiB, relative: 20%, tail: 30%}
"""


def test_a_file_says_limits_by_unit_metric_and_cell(tmp_path: Path) -> None:
    """The most specific counts; a limit that says one thing leaves the other out of account."""
    path = tmp_path / "limits.yaml"
    path.write_text(TEXT)
    limits = read_limits(path)
    assert limits.of(("ready", "vm", "startup.ready", "s", "")) == Limit(0.1, 1e-3)
    assert limits.of(("ready", "vm", "startup.ready", "s", "memory=1GiB")) == Limit(0.2, 0.0, None, 0.3)
    assert limits.of(("ready", "container", "startup.ready", "s", "")) == Limit(0.02, 0.0)
    assert limits.of(("ready", "vm", "memory.host.pss", "B", "")) == Limit(0.04, 2.0**20, 8 * 2.0**20)
    assert limits.of(("ready", "vm", "teardown", "s", "")) == Limit(0.04, 50 * 1e-6)
    assert limits.of(("ready", "vm", "rate.starts", "1/s", "")) == Limit(0.04, 0.0)


def test_a_scenario_says_limits_by_metric() -> None:
    """Its `gate` block; without one there are none."""
    limits = scenario_limits("s.yaml", "name: s\ngate:\n  startup.ready: {relative: 5%, absolute: 1ms}\n")
    assert limits is not None
    assert limits.of(("ready", "vm", "startup.ready", "s", "")) == Limit(0.05, 1e-3)
    assert limits.of(("ready", "vm", "teardown", "s", "")) == DEFAULTS["s"]
    assert scenario_limits("s.yaml", "name: s\n") is None
    assert scenario_limits("", "") is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("relative: -1\n", "limits.yaml:1:11: relative: a share must be more than 0%"),
        ("relativ: 5%\n", "relativ"),
        ("metrics:\n  startup.ready: {relative: much}\n", "limits.yaml:2:29: metrics.startup.ready.relative"),
        ("absolute: {s: .nan}\n", "absolute.s"),
        (
            "metrics:\n  startup.ready: {maximum: 3MiB}\n",
            "metrics.startup.ready.maximum: 'MiB' is not a unit",
        ),
        ("cells: [{workload: ready}]\n", "cells"),
        ("[1, 2]\n", "must be a mapping"),
        ("a: [\n", "limits.yaml"),
    ],
)
def test_what_is_no_limit_is_told_at_its_place(tmp_path: Path, text: str, problem: str) -> None:
    """One line with file, line, column and key."""
    path = tmp_path / "limits.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_limits(path)
    assert problem in caught.value.message
    with pytest.raises(InputError, match=r"gate\.startup\.ready\.relative"):
        scenario_limits("s.yaml", "name: s\ngate:\n  startup.ready: {relative: much}\n")
