"""The plugin for pytest: scenarios as benchmarks of pytest-benchmark, and the fixture `sandbox`.

Every run of pytest in an environment that has pybench loads this module, so it imports nothing but pytest,
and does nothing unless a scenario file is named or the fixture is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from pybench.harness.pytest_plugin.sandbox import Sandbox
    from pybench.harness.pytest_plugin.scenario_file import ScenarioFile

_ENDINGS: Final = frozenset({".yaml", ".yml"})
_KEY: Final = "pybench"
"""Of a benchmark's extra information: what the cell is."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options for scenario files that are named on the command line."""
    group = parser.getgroup("pybench", "scenarios of pybench")
    group.addoption(
        "--pybench-set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="Override a key of the scenario, e.g. targets.vm.memory=512MiB; may be repeated.",
    )
    group.addoption(
        "--pybench-quick", action="store_true", help="At most 5 repetitions and 1 warm-up, to try it out."
    )
    group.addoption(
        "--pybench-results",
        type=Path,
        metavar="DIR",
        help="Keep results here instead of beside the scenario.",
    )


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> ScenarioFile | None:
    """Collect a scenario that was named; one that is merely found in a folder is none of our business."""
    if file_path.suffix not in _ENDINGS or not parent.session.isinitpath(file_path):
        return None
    from pybench.harness.pytest_plugin.scenario_file import (  # noqa: PLC0415 - only where it is needed
        ScenarioFile,
        looks_like_scenario,
    )

    return ScenarioFile.from_parent(parent, path=file_path) if looks_like_scenario(file_path) else None


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_benchmark_scale_unit(unit: str, benchmarks: list[Mapping[str, Any]]) -> tuple[str, float] | None:
    """The unit above a table of sizes; times are pytest-benchmark's own business."""
    if unit != "seconds" or not all(isinstance(bench["extra_info"].get(_KEY), dict) for bench in benchmarks):
        return None
    units = {bench["extra_info"][_KEY].get("unit") for bench in benchmarks}
    return ("byte", 1.0) if units == {"B"} else None


@pytest.fixture(scope="module")
def sandbox_image() -> str:
    """The image of `sandbox`; override it in a module or a conftest.py."""
    return "minimal"


@pytest.fixture(scope="module")
def sandbox_options() -> Mapping[str, Mapping[str, Any]]:
    """Kind of target → its options, as in a scenario; override it in a module or a conftest.py."""
    return {}


@pytest.fixture(scope="module", params=["container", "vm"])
def sandbox(
    request: pytest.FixtureRequest,
    sandbox_image: str,
    sandbox_options: Mapping[str, Mapping[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Sandbox]:
    """A running container, then a running virtual machine, in which a test's own commands run.

    Other kinds of target: `@pytest.mark.parametrize("sandbox", ["process", "container"], indirect=True)`.
    """
    from pybench.harness.pytest_plugin.sandbox import opened_sandbox  # noqa: PLC0415 - only where it is needed
    from pybench.harness.pytest_plugin.terminal import teller  # noqa: PLC0415

    kind: str = request.param
    folder = tmp_path_factory.mktemp("sandbox")
    options = sandbox_options.get(kind, {})
    with opened_sandbox(kind, sandbox_image, options, folder, teller(request.config)) as opened:
        yield opened
