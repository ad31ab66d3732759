"""The units of systemd that the documentation offers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "nightly"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_no_fault_with_the_units(tmp_path: Path) -> None:
    """With the command where it is here."""
    for name in ("pybench-nightly.service", "pybench-nightly.timer"):
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        text = text.replace("/opt/pybench/bin/pybench", str(Path(sys.executable).with_name("pybench")))
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "pybench-nightly.service", "pybench-nightly.timer"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "pybench-nightly" in line]
    assert not ours, done.stderr
