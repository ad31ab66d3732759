"""The extension that spawns, and the steps of its child, under sanitizers and under valgrind.

What no tool covers: a child on its parent's memory under address sanitizer's checks of the stack (the
child never returns, so what it marked as out of bounds stays marked), and clone3 and the calls that
this version of valgrind does not know.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from builds import EXTENSION_SOURCES, REPOSITORY, SPAWN, UNDEFINED_AND_ADDRESS, Compile

from pybench.runtime.container.spawn import _spawn

HERE = Path(__file__).parent
DRIVER_SOURCES = (
    HERE / "drive_steps.c",
    *(SPAWN / f"{part}.c" for part in ("child", "process", "tree")),
)
SPAWN_TESTS = ("test_spawn.py", "test_supervisor.py", "test_confinement.py")
MEMCHECK = ("valgrind", "--quiet", "--error-exitcode=77")

FAULTS = {
    "undefined": "int main(void) { volatile int one = 1; return one + 0x7fffffff == 7; }",
    "address": """
        #include <stdlib.h>
        int main(void) { volatile int one = 1; char *byte = calloc(1, 1); return byte[one] == 7; }""",
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_caught(compiled: Compile, tmp_path: Path, kind: str) -> None:
    """The control of all other tests here: with these flags a program with a fault fails."""
    source = tmp_path / "fault.c"
    source.write_text(FAULTS[kind] + "\n", encoding="ascii")
    program = compiled((source,), UNDEFINED_AND_ADDRESS)
    finished = subprocess.run([program], capture_output=True, text=True, check=False, timeout=60)
    assert finished.returncode != 0
    assert "runtime error" in finished.stderr or "AddressSanitizer" in finished.stderr


def test_every_step_in_a_plain_fork(compiled: Compile) -> None:
    """All kinds of steps, their failures included, with every check of both sanitizers."""
    driver = compiled(DRIVER_SOURCES, UNDEFINED_AND_ADDRESS)
    finished = subprocess.run([driver], capture_output=True, text=True, check=False, timeout=60)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stderr == ""
    assert all(line.startswith("ok: ") for line in finished.stdout.splitlines())


def test_the_driver_knows_every_step() -> None:
    """No kind of step is left out of the driver."""
    names = [line.split("(")[1].split(")")[0] for line in _steps_of_the_header()]
    assert len(names) == len([name for name in names if hasattr(_spawn, name)]) > 20
    driver = DRIVER_SOURCES[0].read_text(encoding="utf-8")
    assert [name for name in names if f"STEP({name}" not in driver and f"STEP_{name}" not in driver] == []


def _steps_of_the_header() -> list[str]:
    header = (SPAWN / "child.h").read_text(encoding="utf-8")
    return [line for line in header.splitlines() if line.startswith("    X(")]


def test_the_spawn_tests_pass_with_sanitizers(compiled: Compile) -> None:
    """The tests of the real thing, with the extension built for both sanitizers put in its place."""
    # A child's stack stays marked as it was at its execve, so marks on the stack mean nothing here.
    flags = (*UNDEFINED_AND_ADDRESS, "--param", "asan-stack=0", "-shared", "-fPIC")
    extension = compiled(EXTENSION_SOURCES, flags)
    libraries = [_library("libasan.so"), _library("libubsan.so")]
    environment = {
        **os.environ,
        "LD_PRELOAD": ":".join(libraries),
        "PYTHONMALLOC": "malloc",
        # The interpreter's own leaks, and a flag that the tests look at.
        "ASAN_OPTIONS": "detect_leaks=0:disable_coredump=0",
        "PYBENCH_EXTENSION": str(extension),
        "PYTHONPATH": str(HERE),
    }
    tests = [str(REPOSITORY / "tests" / "integration" / name) for name in SPAWN_TESTS]
    command = [sys.executable, "-m", "pytest", "-p", "preloaded_extension", *tests]
    finished = subprocess.run(
        command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=300
    )
    assert finished.returncode == 0, finished.stdout[-10_000:] + finished.stderr[-10_000:]
    assert f"extension: {extension}" in finished.stdout


def _library(name: str) -> str:
    found = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def test_every_step_that_valgrind_lets_through(compiled: Compile, tmp_path: Path) -> None:
    """Memcheck finds nothing in the steps; those whose calls it does not know end there and are not wrong."""
    driver = compiled(DRIVER_SOURCES, ("-O0",))
    command = [*MEMCHECK, f"--log-file={tmp_path}/%p.log", str(driver), "memcheck"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    # Errors begin with two equals signs; what it warns of in other lines are the calls it does not know.
    logs = [file.read_text(encoding="utf-8") for file in tmp_path.glob("*.log")]
    assert [line for log in logs for line in log.splitlines() if line.startswith("==")] == []
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert len([line for line in finished.stdout.splitlines() if line.startswith("ok: ")]) >= 5


def test_the_extension_under_valgrind(compiled: Compile) -> None:
    """Memcheck finds nothing in programs being built and refused, nor in a spawn up to clone3."""
    extension = compiled(EXTENSION_SOURCES, ("-O0", "-shared", "-fPIC"))
    script = HERE / "use_extension.py"
    leaks = ("--leak-check=full", "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite")
    finished = subprocess.run(
        [*MEMCHECK, *leaks, sys.executable, "-I", str(script), str(extension)],
        env={**os.environ, "PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
