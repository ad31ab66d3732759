"""The fixture `sandbox`: the example of the documentation, in a real container and a real virtual machine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "docs" / "pytest.md"
PATIENCE = 300


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Pytest in a folder of its own."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=PATIENCE)


@pytest.mark.usefixtures("image")
def test_the_example_of_the_documentation_runs_in_both(tmp_path: Path) -> None:
    """Every test once in the container and once in the guest; nothing is left of either."""
    (example,) = re.findall(r"```python\n(.*?)```", EXAMPLE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "test_example.py").write_text(example, encoding="utf-8")
    done = run_pytest(tmp_path, "test_example.py", "-v")
    assert done.returncode == 0, done.stdout
    assert "6 passed" in done.stdout
    for kind in ("container", "vm"):
        assert f"test_how_fast_it_counts[{kind}] PASSED" in done.stdout


@pytest.mark.usefixtures("image")
def test_other_kinds_and_failing_commands(tmp_path: Path) -> None:
    """A bare process by parametrising; an exit code that is not 0 is an error with what was said."""
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('sandbox', ['process'], indirect=True)\n"
        "def test_it(sandbox):\n"
        "    assert sandbox.run(['/bin/busybox', 'false'], check=False).status == 1\n"
        "    sandbox.run(['/bin/busybox', 'ls', '/nowhere'])\n"
        "@pytest.mark.parametrize('sandbox', ['mock', 'nothing'], indirect=True)\n"
        "def test_none(sandbox):\n"
        "    pass\n",
        encoding="utf-8",
    )
    done = run_pytest(tmp_path, "test_it.py")
    assert "1 failed, 2 errors" in done.stdout
    assert "/bin/busybox in the process ended with" in done.stdout
    assert "no command can be run in the target mock" in done.stdout
    assert "unknown target 'nothing'" in done.stdout
