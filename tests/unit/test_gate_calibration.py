"""Calibration learns how much like runs differ, and tells what the gate is worth on such a host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gate_runs import night_samples

from pybench.harness.export.gate import limits_text
from pybench.harness.fields import MOST_SHARE
from pybench.harness.gate.calibration import HEADROOM, calibrate
from pybench.harness.gate.check import GateSettings, Measured
from pybench.harness.gate.limits import read_limits

READY = ("ready", "container", "startup.ready", "s", "")
SETTINGS = GateSettings(metrics=("startup.ready", "memory.*"))


def nights(number: int, between: float) -> list[Measured]:
    """Runs of the same thing, of which the host moves the median about by a share."""
    moved = np.random.default_rng(1).normal(1, between, number)
    return [
        Measured(f"run{at}", night_samples(at, {"startup.ready": float(factor)}))
        for at, factor in enumerate(moved)
    ]


def test_limits_follow_what_like_runs_differ_by() -> None:
    """On a host that moves by 5 % the limit of that cell is wider, that of a steady cell is the default."""
    found = {each.cell: each for each in calibrate(nights(8, 0.05), SETTINGS, nights=20).cells}
    wide, steady = found[READY], found["ready", "container", "memory.host.cgroup", "B", ""]
    assert wide.largest > 0.08
    assert wide.limit.relative == pytest.approx(wide.largest * HEADROOM)
    assert (steady.limit.relative, steady.limit.tail) == (0.01, 0.01)
    assert wide.detected is not None
    assert wide.detected > wide.limit.relative
    # 64 KiB, the floor, are 9 % of this cell.
    assert steady.detected == 0.1


def test_false_alarms_are_those_of_nights_the_limits_were_not_made_for() -> None:
    """With them they are rare; the same settings without calibration would be wrong about most nights."""
    calibrated = calibrate(nights(12, 0.05), SETTINGS, nights=1000)
    assert calibrated.nights == 12 * 11
    assert calibrated.alarms / calibrated.nights <= 0.02
    assert calibrated.alarms / calibrated.nights < calibrated.bound <= 0.08
    assert calibrate(nights(12, 0.05), SETTINGS, nights=1000) == calibrated


def test_calibrated_limits_are_read_back(tmp_path: Path) -> None:
    """What is written for `--limits` means the same limits."""
    calibrated = calibrate(nights(5, 0.05), SETTINGS, nights=5)
    (tmp_path / "limits.yaml").write_text(limits_text(calibrated))
    limits = read_limits(tmp_path / "limits.yaml")
    for each in calibrated.cells:
        assert limits.of(each.cell).relative == pytest.approx(each.limit.relative, abs=1e-4)
        assert limits.of(each.cell).absolute == each.limit.absolute


def test_limits_of_a_host_beyond_measure_are_read_back(tmp_path: Path) -> None:
    """Where a run is many times another the limit is the largest that a file may hold."""
    runs = [Measured(f"run{at}", night_samples(at, {"startup.ready": 20.0**at})) for at in range(4)]
    calibrated = calibrate(runs, SETTINGS, nights=4)
    (tmp_path / "limits.yaml").write_text(limits_text(calibrated))
    found = {each.cell: each for each in calibrated.cells}[READY]
    assert found.largest > MOST_SHARE
    assert read_limits(tmp_path / "limits.yaml").of(READY).relative == found.limit.relative == MOST_SHARE


def test_too_little_is_refused() -> None:
    """Fewer than four runs, or nothing in common."""
    with pytest.raises(ValueError, match="at least 4 runs"):
        calibrate(nights(3, 0.05), SETTINGS)
    with pytest.raises(ValueError, match="share no cell"):
        calibrate([*nights(4, 0.05), Measured("empty", [])], SETTINGS)
