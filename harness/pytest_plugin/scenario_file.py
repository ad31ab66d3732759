"""A scenario as a file of tests: one item per workload and target, one benchmark result per cell."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from pybench.harness.errors import InstanceError, PybenchError
from pybench.harness.results import DATABASE, results_beside
from pybench.harness.scenario import Choices, load_scenario

if TYPE_CHECKING:
    from pybench.harness.model import Combination, Run, Sample, Scenario

_SECTIONS: Final = re.compile(r"^(workloads|targets|measure|include)[ ]*:", re.MULTILINE)
_FEWEST_SECTIONS: Final = 2
_LARGEST: Final = 2**20
_Key = tuple[str, str, str]


def looks_like_scenario(path: Path) -> bool:
    """Whether a YAML file has the sections of a scenario, and is not a test of some other plugin."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return len(set(_SECTIONS.findall(file.read(_LARGEST)))) >= _FEWEST_SECTIONS
    except OSError:
        return False


class ScenarioFile(pytest.File):
    """Measures what of it is selected in one interleaved run, when its first item is run."""

    _measured: tuple[Run, Mapping[_Key, Sequence[Sample]]] | None = None

    def collect(self) -> Iterator[ScenarioItem]:
        """One item per workload, target and set of parameters."""
        try:
            scenario = self._scenario()
        except PybenchError as error:
            raise self.CollectError(_said(error)) from error
        for combination in scenario.combinations:
            yield ScenarioItem.from_parent(self, name=item_name(combination), combination=combination)

    def samples_of(self, combination: Combination) -> tuple[Run, Sequence[Sample]]:
        """The run, and the samples of one of its combinations."""
        if self._measured is None:
            self._measured = self._measure()
        run, samples = self._measured
        return run, samples.get(combination.key, ())

    def _scenario(self) -> Scenario:
        option = self.config.getoption
        # Without benchmarks, pytest-benchmark calls a function once; one launch of each does as much.
        idle = bool(option("benchmark_disable", False)) and not option("benchmark_enable", False)
        choices = Choices(
            settings=tuple(option("pybench_set")),
            quick=bool(option("pybench_quick")) or idle,
            repetitions=1 if idle else None,
        )
        return load_scenario(self.path, choices)

    def _measure(self) -> tuple[Run, Mapping[_Key, Sequence[Sample]]]:
        from pybench.harness.pytest_plugin.terminal import teller  # noqa: PLC0415
        from pybench.harness.revision import revision  # noqa: PLC0415
        from pybench.harness.runner.execution import (  # noqa: PLC0415 - slow to import, and collecting needs none of it
            host_for_itself,
            open_recorder,
            prepare,
        )
        from pybench.harness.runner.preflight import check_host  # noqa: PLC0415

        items = self.session.items
        wanted = {
            item.combination.key for item in items if isinstance(item, ScenarioItem) and item.parent is self
        }
        whole = self._scenario()
        chosen = tuple(each for each in whole.combinations if each.key in wanted)
        scenario = replace(whole, combinations=chosen)
        check_host(scenario)
        tell = teller(self.config)
        results = self.config.getoption("pybench_results") or results_beside(self.path)
        results.mkdir(parents=True, exist_ok=True)
        place = os.environ.get("PYBENCH_STORE") or results / DATABASE
        with host_for_itself(scenario, wait=False, tell=tell), open_recorder(place, results, tell) as store:
            prepared = prepare(scenario, self._command(scenario), revision(self.path.parent), tell)
            outcome = prepared.carry_out(store, results)
            if outcome.status == "interrupted":
                raise KeyboardInterrupt
            samples = store.samples(prepared.run.id)
        tell(f"run {prepared.run.id} in {store.place}")
        return prepared.run, _by_combination(scenario, samples)

    def _command(self, scenario: Scenario) -> str:
        """The command line that measures the same without pytest."""
        words = [
            "pybench",
            "run",
            str(self.path),
            "--targets",
            ",".join(each.name for each in scenario.targets),
        ]
        for setting in self.config.getoption("pybench_set"):
            words += ["--set", setting]
        return shlex.join([*words, *(["--quick"] if self.config.getoption("pybench_quick") else [])])


class ScenarioItem(pytest.Item):
    """One workload on one target."""

    fixturenames = ("benchmark",)
    """By this pytest-benchmark knows a benchmark, for `--benchmark-only` and `--benchmark-skip`."""

    def __init__(self, *, combination: Combination, **others: Any) -> None:  # noqa: ANN401 - pytest's own arguments
        super().__init__(**others)
        self.combination = combination

    def runtest(self) -> None:
        """Hand every cell to pytest-benchmark; fail if no launch succeeded."""
        parent = self.parent
        if not isinstance(parent, ScenarioFile):
            raise TypeError("an item of a scenario belongs to its file")
        run, samples = parent.samples_of(self.combination)
        failures = [sample for sample in samples if sample.status == "failed"]
        if not any(sample.status != "failed" for sample in samples):
            reason = failures[0].reason if failures else "it was not launched"
            raise InstanceError(f"{self.name}: every launch failed: {reason}")
        session = getattr(self.config, "_benchmarksession", None)
        if session is not None and not session.disabled:
            from pybench.harness.pytest_plugin.results import results  # noqa: PLC0415 - needs pytest-benchmark

            session.benchmarks += results(run, samples, parent.nodeid)

    def repr_failure(
        self,
        excinfo: pytest.ExceptionInfo[BaseException],
        *arguments: Any,  # noqa: ANN401
        **named: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401 - as pytest has it
        """Our own errors as what they say, without a traceback."""
        if isinstance(excinfo.value, PybenchError):
            return _said(excinfo.value)
        return super().repr_failure(excinfo, *arguments, **named)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where it stands, and what it is called."""
        return self.path, 0, self.name


def item_name(combination: Combination) -> str:
    """`ready[container]`, or with parameters `ready[container, memory=128MiB]`."""
    inside = ", ".join(part for part in (combination.target.name, combination.label) if part)
    return f"{combination.workload.name}[{inside}]"


def _by_combination(scenario: Scenario, samples: Sequence[Sample]) -> dict[_Key, list[Sample]]:
    from pybench.harness.model import parameter_label  # noqa: PLC0415 - as above

    found: dict[_Key, list[Sample]] = {each.key: [] for each in scenario.combinations}
    for sample in samples:
        found[sample.workload, sample.target, parameter_label(sample.parameters)].append(sample)
    return found


def _said(error: PybenchError) -> str:
    return f"{error.message}\n  hint: {error.hint}" if error.hint else error.message
