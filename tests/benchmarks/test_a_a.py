"""A/A on this host: the same target under two names, again and again; what differs is the bench itself.

Takes about two minutes, on a quiet machine. The numbers are printed with `-s`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pybench.harness.stats import ratio

PYBENCH = Path(sys.executable).with_name("pybench")
RUNS, REPETITIONS = 20, 30
FEWEST = 18
"""Of 20 runs. With intervals that cover 95 %, fewer contain 1 in 8 of 100 such series."""
SCENARIO = """\
name: same-twice
workloads:
  ready: {image: minimal, command: [/bin/workload, ready], readiness: {text: ready}}
targets:
  one: {kind: KIND, repetitions: 30}
  other: {kind: KIND, repetitions: 30}
measure: [startup, teardown]
schedule: {warmups: 2, warmups_at_most: 8}
"""


@pytest.mark.parametrize("kind", ["process", "container"])
def test_two_names_of_one_target_do_not_differ(kind: str, tmp_path: Path) -> None:
    """The interval of the ratio contains 1 in 18 of 20 runs at least, for start and teardown."""
    (tmp_path / "same.yaml").write_text(SCENARIO.replace("KIND", kind), encoding="utf-8")
    contained = {"startup.ready": 0, "teardown": 0}
    for seed in range(RUNS):
        subprocess.run(
            [PYBENCH, "run", "same.yaml", "--json", "out.json", "--no-report", "--seed", str(seed)],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )
        samples = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["samples"]
        for metric in contained:
            one, other = (
                [
                    sample["value"]
                    for sample in samples
                    if (sample["target"], sample["metric"]) == (name, metric)
                    and not sample["warmup"]
                    and "status" not in sample
                ]
                for name in ("one", "other")
            )
            assert one, "every sample was rejected: this machine is not quiet"
            assert other
            found = ratio(one, other)
            contained[metric] += found.low <= 1 <= found.high
            interval = f"{found.low:.3f}–{found.high:.3f}"
            print(f"{metric}: {found.value:.3f} ({interval}), n = {len(one)} and {len(other)}")
    print(contained)
    assert all(number >= FEWEST for number in contained.values()), contained
